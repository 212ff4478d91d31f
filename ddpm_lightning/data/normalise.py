r"""Intensities to [-1, 1] and back, by a stored and invertible map.

An image is mapped by :math:`2 (I - low) / (high - low) - 1`. The two numbers come from a range given beforehand
(:class:`FixedRange`) or from percentiles (:class:`Percentile`), of the whole training set or of each image by itself.
Nothing is clipped: brighter pixels go beyond 1, and the map back is exact.

Percentiles of a noisy image are set by its noise rather than by its structure. They are therefore better taken from a
blurred copy (``blur``), which keeps the gain between the low and the high image steady from pair to pair.

Percentiles of an empty field are those of its noise alone, and would stretch it until it looks like structure. A
trained model therefore knows how noisy its training images were on the scale of [-1, 1], and the range of a noisier
image is widened until its noise is no stronger than that (``most_noise``).

The very same objects serve training, evaluation and restoration: they travel in the checkpoint.

Networks compute in float32, which holds seven digits. Where an offset takes most of them (a scale of 0.001 around
10^9), it is subtracted in float64 before, and added back in float64 after.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from scipy import ndimage

from ddpm_lightning.metrics.noise_level import noise_level
from ddpm_lightning.utils.settings import NonNegative, Percent

__all__ = [
    "NO_FLOOR",
    "FixedRange",
    "Normaliser",
    "PairNormalisation",
    "Percentile",
    "Scale",
    "matching",
    "without_offset",
]

#: Below it a clean image is not fitted to its noisy partner.
LEAST_CORRELATION = 0.05
#: An offset of more than so many times the range of the intensities leaves float32 too few digits for them.
FAR = 2**12
#: Integers beyond it are not exact in float32.
EXACT = 2**24
#: A floor up to this share of the training's range darkens nothing: it keeps the division sound where an image has no
#: range. A range or a noise of more than this share of the intensities is no rounding, and needs no floor.
NO_FLOOR = 1e-6


def without_offset(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns an image in float32, and what was subtracted before so that float32 can hold its contrast.

    Args:
        image: Image with shape (H, W), of any real dtype.

    Returns:
        The image, and its minimum where that was subtracted, else 0.
    """
    if image.dtype.kind == "b" or image.dtype.itemsize < 4 or image.dtype == np.float32:
        return image.astype(np.float32), 0.0
    low, high = float(image.min()), float(image.max())
    largest = max(abs(low), abs(high))
    if largest < EXACT and largest <= FAR * (high - low):
        return image.astype(np.float32), 0.0
    return (image - np.float64(low)).astype(np.float32), low


@dataclass(frozen=True)
class Scale:
    """The map of one image: ``low`` becomes -1 and ``high`` becomes 1, in intensities of the file."""

    low: float
    high: float

    def normalise(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Maps intensities to about [-1, 1], float32; into ``out`` where it is given, which may be the image."""
        if self.far:
            result = ((image - np.float64(self.low)) / self.gain - 1).astype(np.float32)
            if out is None:
                return result
            out[...] = result
            return out
        single = {"dtype": np.float32, "casting": "unsafe"}
        result = np.subtract(image, np.float32(self.low), out=out, **single)
        np.multiply(result, np.float32(2 / (self.high - self.low)), out=result)
        return np.subtract(result, np.float32(1), out=result)

    def restore(self, image: Any) -> Any:
        """Maps numbers of about [-1, 1] back to intensities, in float64 where :attr:`far`; arrays and tensors alike."""
        if self.far:
            image = np.float64(image) if isinstance(image, np.ndarray) else image.double()
        return (image + 1) * ((self.high - self.low) / 2) + self.low

    @property
    def far(self) -> bool:
        """Whether the offset leaves float32 too few digits for the contrast."""
        return max(abs(self.low), abs(self.high)) > FAR * (self.high - self.low)

    @property
    def gain(self) -> float:
        """Intensities for each unit of the normalised image: what a standard deviation is multiplied with."""
        return (self.high - self.low) / 2


class Normaliser(Protocol):
    """Finds the scale of an image, after it was fitted to a training set."""

    per_image: bool

    def fit(self, images: Iterable[np.ndarray]) -> None:
        """Learns what it needs from training images with shape (H, W)."""
        ...

    def scale(self, image: np.ndarray, most_noise: float | None = None) -> Scale:
        """Returns the map of an image with shape (H, W).

        Args:
            image: The image, in intensities.
            most_noise: Most noise of an image with a scale of its own, as a standard deviation on the normalised
                scale; its range is widened until that holds. ``None``, as in training, widens none.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Returns what was fitted, as plain numbers."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` returned."""
        ...


@dataclass
class FixedRange:
    """One range for all images, given beforehand: (0, 255) is the paper's, for 8-bit files.

    Attributes:
        low: Intensity that becomes -1.
        high: Intensity that becomes 1.
    """

    low: float = 0.0
    high: float = 255.0
    per_image = False

    def __post_init__(self) -> None:
        if not self.high > self.low:
            raise ValueError(f"normalisation: high is {self.high}; allowed: above low, which is {self.low}")

    def fit(self, images: Iterable[np.ndarray]) -> None:
        """Learns nothing."""

    def scale(self, image: np.ndarray, most_noise: float | None = None) -> Scale:
        """Returns the one map."""
        return Scale(self.low, self.high)

    def state(self) -> dict[str, Any]:
        """Returns nothing: the configuration says it all."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes nothing."""


@dataclass
class Percentile:
    """Percentiles of the training set, or of each image.

    Attributes:
        lower: Percentile that becomes -1.
        upper: Percentile that becomes 1.
        per_image: Whether each image has its own scale; otherwise the medians over the training set serve all.
        blur: Standard deviation in pixels of a Gaussian blur before the percentiles are taken; 0 for none.
        floor: Least range of an image, as a share of the training set's median range. It keeps empty fields dark
            instead of stretching their noise to full scale, and it keeps the division sound. Up to :data:`NO_FLOOR` it
            does only the latter: an image in other units, however small its numbers, gets the same normalised image.
    """

    lower: Percent = 0.1
    upper: Percent = 99.9
    per_image: bool = False
    blur: NonNegative = 0.0
    floor: float = 0.05
    fitted: Scale | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.lower < self.upper <= 100:
            raise ValueError(
                f"normalisation: percentiles are {self.lower} and {self.upper}; allowed: 0 to 100, rising"
            )

    def _percentiles(self, image: np.ndarray) -> tuple[float, float]:
        image, offset = without_offset(image)
        if self.blur:
            image = ndimage.gaussian_filter(image, self.blur, mode="nearest")
        low, high = np.percentile(image, (self.lower, self.upper))
        return float(low) + offset, float(high) + offset

    def fit(self, images: Iterable[np.ndarray]) -> None:
        """Takes the median over the images of either percentile."""
        found = np.array([self._percentiles(image) for image in images])
        if not len(found):
            raise ValueError("normalisation: there is no image to fit to")
        low, high = np.median(found, axis=0)
        if not high > low:
            raise ValueError(
                f"normalisation: percentiles {self.lower} and {self.upper} are both {low}; all is constant"
            )
        self.fitted = Scale(float(low), float(high))

    def scale(self, image: np.ndarray, most_noise: float | None = None) -> Scale:
        """Returns the map of the training set, or of this image."""
        if self.fitted is None:
            raise RuntimeError("the normalisation was not fitted; call fit or load_state first")
        if not self.per_image:
            return self.fitted
        low, high = self._percentiles(image)
        least = 2 * noise_level(without_offset(image)[0]) / most_noise if most_noise else 0.0
        if self.floor > NO_FLOOR or max(least, high - low) <= NO_FLOOR * max(abs(low), abs(high)):
            least = max(least, self.floor * (self.fitted.high - self.fitted.low))
        return Scale(low, max(high, low + least))

    def state(self) -> dict[str, Any]:
        """Returns the scale of the training set."""
        return {} if self.fitted is None else {"low": self.fitted.low, "high": self.fitted.high}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back the scale of the training set."""
        self.fitted = Scale(state["low"], state["high"])


class PairNormalisation:
    """The maps of both members of a pair.

    Args:
        input: Normaliser of the low images.
        target: Normaliser of the high images, fitted on its own; ``None`` gives them the scale of their low image. That
            suits pairs that differ in noise alone: no brightness is left to be guessed, and none is lost.
        matched: Whether high images without a normaliser are first fitted to their low image, by the gain and offset of
            least squares: for pairs whose brightness has nothing in common. A network that sees a crop cannot know
            where percentiles of the whole image lie, and errs in brightness from place to place.

    Attributes:
        target_bounds: Extremes of the normalised high images of the training set: estimates of clean images are
            clipped to them. (-1, 1) until fitted.
        input_bounds: The same for the low images: what lies outside was never seen in training.
    """

    def __init__(self, input: Normaliser, target: Normaliser | None = None, matched: bool = False) -> None:
        self.input, self.target, self.matched = input, target, matched
        self.input_bounds = self.target_bounds = (-1.0, 1.0)

    def fit(self, lows: list[np.ndarray], highs: list[np.ndarray]) -> None:
        """Fits both to training images with shape (H, W)."""
        self.input.fit(lows)
        if self.target is not None:
            self.target.fit(highs)
        scales = [self.scales(low, high) for low, high in zip(lows, highs, strict=True)]
        self.input_bounds = _bounds([scale for scale, _ in scales], lows)
        self.target_bounds = _bounds([scale for _, scale in scales], highs)

    def scales(self, low: np.ndarray, high: np.ndarray) -> tuple[Scale, Scale]:
        """Returns the maps of both images of a pair, each with shape (H, W)."""
        scale = self.input.scale(low)
        if self.target is not None:
            return scale, self.target.scale(high)
        return scale, matching(scale, low, high) if self.matched else scale

    def output_scale(self, input_scale: Scale) -> Scale:
        """Returns the map back to intensities of a restored image.

        It is the target's where that is common to all images. Where each target has its own, it cannot be known of
        a new image, and the input's takes its place: the restored image has the brightness of its input.
        """
        if self.target is None or self.target.per_image:
            return input_scale
        return self.target.scale(np.zeros((1, 1)))

    def state(self) -> dict[str, Any]:
        """Returns all that was fitted, as plain containers."""
        return {
            "input": self.input.state(),
            "target": {} if self.target is None else self.target.state(),
            "input_bounds": list(self.input_bounds),
            "target_bounds": list(self.target_bounds),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` returned."""
        self.input.load_state(state["input"])
        if self.target is not None:
            self.target.load_state(state["target"])
        self.input_bounds, self.target_bounds = tuple(state["input_bounds"]), tuple(state["target_bounds"])


def matching(scale: Scale, low: np.ndarray, high: np.ndarray) -> Scale:
    """Returns the map that takes a high image nearest to its normalised low image, in least squares.

    The noise of the low image is no obstacle: it has nothing to do with the high one. Images that have hardly anything
    in common (:data:`LEAST_CORRELATION`) share the scale of the low one.

    Args:
        scale: Map of the low image.
        low: Low image with shape (H, W).
        high: High image with shape (H, W).
    """
    x, y = (image.astype(np.float64).ravel() for image in (high, scale.normalise(low)))
    x_mean, y_mean = x.mean(), y.mean()
    covariance, variance = np.mean((x - x_mean) * (y - y_mean)), x.var()
    if not covariance > LEAST_CORRELATION * np.sqrt(variance * y.var()):
        return scale
    gain = covariance / variance
    darkest = x_mean - (y_mean + 1) / gain  # becomes -1
    return Scale(float(darkest), float(darkest + 2 / gain))


def _bounds(scales: list[Scale], images: list[np.ndarray]) -> tuple[float, float]:
    normalised = [scale.normalise(image) for scale, image in zip(scales, images, strict=True)]
    low = min(float(image.min()) for image in normalised)
    high = max(float(image.max()) for image in normalised)
    return min(low, -1.0), max(high, 1.0)
