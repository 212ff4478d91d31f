r"""Maps intensities to [-1, 1] and back, by a stored and invertible map.

An image is mapped by :math:`2 (I - low) / (high - low) - 1`. The two numbers are a given range
(:class:`FixedRange`) or percentiles (:class:`Percentile`) of the training set or of each image. Nothing is clipped:
brighter pixels exceed 1, and the inverse map is exact.

Percentiles of a noisy image depend more on its noise than on its structure. They are therefore computed from a blurred
copy (``blur``), so that the gain between the low and the high image varies less from pair to pair.

Percentiles of an empty field are those of its noise, so the normalisation would amplify it until it resembles
structure. A checkpoint therefore records how noisy the training images were on the scale of [-1, 1], and the range of a
noisier image is widened until its noise is no stronger than that (``most_noise``).

Training, evaluation and restoration use the same objects, which are stored in the checkpoint.

Networks compute in float32, which has seven digits. If an offset needs most of them (a scale of 0.001 around 10^9), it
is subtracted in float64 first, and added in float64 afterwards.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

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

#: Minimum correlation of a clean image that is fitted to its noisy partner.
LEAST_CORRELATION = 0.05
#: Maximum ratio of offset to range of intensities: beyond it, float32 has too few digits for them.
FAR = 2**12
#: Maximum integer that is exact in float32.
EXACT = 2**24
#: A floor up to this fraction of the training range only prevents a division by zero for images without a range. A
#: range or noise above this fraction of the intensities is not due to rounding, and needs no floor.
NO_FLOOR = 1e-6


def without_offset(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns an image in float32, and the offset that was subtracted so that float32 can represent its contrast.

    Args:
        image: Image with shape (H, W), of any real dtype.

    Returns:
        The image, and its minimum if that was subtracted, else 0.
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
        """Maps intensities to about [-1, 1], float32; to ``out`` if it is given, which may be the image itself."""
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
        """Maps an array or tensor of about [-1, 1] back to intensities, in float64 if :attr:`far`."""
        if self.far:
            image = np.float64(image) if isinstance(image, np.ndarray) else image.double()
        return (image + 1) * ((self.high - self.low) / 2) + self.low

    @property
    def far(self) -> bool:
        """Whether float32 has too few digits for offset and contrast together."""
        return max(abs(self.low), abs(self.high)) > FAR * (self.high - self.low)

    @property
    def gain(self) -> float:
        """Intensities per unit of the normalised image: the factor of standard deviations."""
        return (self.high - self.low) / 2


class Normaliser(Protocol):
    """Finds the scale of an image, after it was fitted to a training set."""

    per_image: bool

    def fit(self, images: Iterable[np.ndarray]) -> None:
        """Fits to training images with shape (H, W)."""
        ...

    def scale(self, image: np.ndarray, most_noise: float | None = None) -> Scale:
        """Returns the map of an image with shape (H, W).

        Args:
            image: The image, in intensities.
            most_noise: Maximum noise of an image that has its own scale, as a standard deviation on the normalised
                scale; its range is widened accordingly. ``None``, as in training, widens no range.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Returns the fitted numbers."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state` returned."""
        ...


@dataclass
class FixedRange:
    """A given range for all images: the paper uses (0, 255), for 8-bit files.

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
        """Does nothing."""

    def scale(self, image: np.ndarray, most_noise: float | None = None) -> Scale:
        """Returns the same map for all images."""
        return Scale(self.low, self.high)

    def state(self) -> dict[str, Any]:
        """Returns nothing: the configuration has everything."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Does nothing."""


@dataclass
class Percentile:
    """Percentiles of the training set, or of each image.

    Attributes:
        lower: Percentile that becomes -1.
        upper: Percentile that becomes 1.
        per_image: Whether each image has its own scale; otherwise all have the medians over the training set.
        blur: Standard deviation in pixels of a Gaussian blur before the percentiles are taken; 0 for none.
        floor: Minimum range of an image, as a fraction of the median range of the training set. It keeps empty fields
            dark instead of amplifying their noise, and prevents divisions by zero. Up to :data:`NO_FLOOR` it does only
            the latter: an image in other units, however small its numbers, has the same normalised image.
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
                f"normalisation: percentiles are {self.lower} and {self.upper}; allowed: 0 to 100, in ascending order"
            )

    def _percentiles(self, image: np.ndarray) -> tuple[float, float]:
        image, offset = without_offset(image)
        if self.blur:
            from scipy import ndimage  # imported here because it is slow to load

            image = ndimage.gaussian_filter(image, self.blur, mode="nearest")
        low, high = np.percentile(image, (self.lower, self.upper))
        return float(low) + offset, float(high) + offset

    def fit(self, images: Iterable[np.ndarray]) -> None:
        """Computes the median of each percentile over the images."""
        found = np.array([self._percentiles(image) for image in images])
        if not len(found):
            raise ValueError("normalisation: there is no image to fit to")
        low, high = np.median(found, axis=0)
        if not high > low:
            raise ValueError(
                f"normalisation: percentiles {self.lower} and {self.upper} are both {low}: the images are constant"
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
        """Restores the scale of the training set."""
        self.fitted = Scale(state["low"], state["high"])


class PairNormalisation:
    """The maps of both images of a pair.

    Args:
        input: Normaliser of the low images.
        target: Normaliser of the high images, fitted separately; ``None`` gives them the scale of their low image:
            suitable for pairs that differ only in noise, because the brightness need not be guessed.
        matched: Whether high images without a normaliser are first fitted to their low image, by least-squares gain and
            offset: for pairs of unrelated brightness. A network that sees a crop cannot know the percentiles of the
            entire image, so its brightness would vary from place to place.

    Attributes:
        target_bounds: Minimum and maximum of the normalised high images of the training set, to which estimates of
            clean images are clipped; (-1, 1) until fitted.
        input_bounds: The same for the low images: values outside were never seen in training.
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
        return scale, self.target_scale(scale, low, high)

    def target_scale(self, scale: Scale, low: np.ndarray, high: np.ndarray) -> Scale:
        """Returns the map of a high image with shape (H, W), whose low image has a given map and the same shape."""
        if self.target is not None:
            return self.target.scale(high)
        return matching(scale, low, high) if self.matched else scale

    def output_scale(self, input_scale: Scale) -> Scale:
        """Returns the map back to intensities of a restored image.

        It is that of the target if all images share it. If each target has its own, that of a new image is unknown, so
        the scale of the input is used: the restored image has the brightness of its input.
        """
        if self.target is None or self.target.per_image:
            return input_scale
        return self.target.scale(np.zeros((1, 1)))

    def state(self) -> dict[str, Any]:
        """Returns everything that was fitted, as plain containers."""
        return {
            "input": self.input.state(),
            "target": {} if self.target is None else self.target.state(),
            "input_bounds": list(self.input_bounds),
            "target_bounds": list(self.target_bounds),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state` returned."""
        self.input.load_state(state["input"])
        if self.target is not None:
            self.target.load_state(state["target"])
        self.input_bounds, self.target_bounds = tuple(state["input_bounds"]), tuple(state["target_bounds"])


def matching(scale: Scale, low: np.ndarray, high: np.ndarray) -> Scale:
    """Returns the map that brings a high image closest to its normalised low image, in least squares.

    The noise of the low image does not matter: it is independent of the high image. Images that are hardly correlated
    (:data:`LEAST_CORRELATION`) share the scale of the low one.

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
