r"""Degradations beyond the noise of a detector, for any image, in any order.

Each is a frozen dataclass that is called as ``degradation(image, rng)``. Some affect the light (``stage = "photons"``:
dose, bleaching, flicker, jitter, misregistration), others occur in the electronics (``stage = "image"``: line noise,
crosstalk, afterpulsing, camera pattern). A simulation applies the first kind to expected photons, before the detector,
and the second kind to the recorded image. Both kinds can be applied to images of real microscopes.

An image of integers is a recorded one: the result has the same type, rounded and clipped, and less light means that a
random part of the counts is kept (binomial thinning, which preserves the Poisson distribution). An image of floats
contains expected photons. Lines are rows: the beam scans along a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from scipy import ndimage, signal

from ddpm_lightning.simulation.detector import Scmos


class Degradation(Protocol):
    """Degrades an image, as an imperfect microscope does."""

    stage: ClassVar[str]

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Degrades an image with shape (H, W)."""
        ...


def degrade(
    image: np.ndarray, degradations: Sequence[Degradation], rng: np.random.Generator, stage: str | None = None
) -> np.ndarray:
    """Applies degradations in order: those of one stage, or all.

    Args:
        image: Expected photons or recorded values with shape (H, W).
        degradations: The degradations.
        rng: Source of randomness.
        stage: ``photons``, ``image``, or ``None`` for both.
    """
    for degradation in degradations:
        if stage is None or degradation.stage == stage:
            image = degradation(image, rng)
    return image


@dataclass(frozen=True)
class Dose:
    """Less light; also more, if the image contains expected photons.

    Attributes:
        factor: Factor on the photons; recorded images can only lose photons (1 or less).
        gain: ADU per photon of recorded images.
        offset: ADU without light of recorded images.
    """

    factor: float
    gain: float = 1.0
    offset: float = 0.0
    stage: ClassVar[str] = "photons"

    def __post_init__(self) -> None:
        _require(self.factor > 0, "dose factor", self.factor, "above 0")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Scales or thins the image."""
        return _dim(image, np.asarray(self.factor, np.float32), rng, self.gain, self.offset)


@dataclass(frozen=True)
class Photobleaching:
    """Fluorophores lost before and during a raster scan.

    Attributes:
        before: Fraction lost in earlier frames.
        during: Fraction of the rest that is lost by the end of the scan.
        fast_share: Fraction of the fluorophores that bleach ``fast`` times faster during the scan.
        fast: Ratio of the two rates.
        gain: ADU per photon of recorded images.
        offset: ADU without light of recorded images.
    """

    before: float = 0.15
    during: float = 0.1
    fast_share: float = 0.0
    fast: float = 5.0
    gain: float = 1.0
    offset: float = 0.0
    stage: ClassVar[str] = "photons"

    def __post_init__(self) -> None:
        _require(
            0 <= self.before < 1 and 0 <= self.during < 1,
            "fraction lost",
            (self.before, self.during),
            "[0, 1)",
        )

    def remaining(self, rows: int) -> np.ndarray:
        """Returns the remaining fraction of the light at each row, with shape (rows,)."""
        decay = np.log1p(-self.during) * np.linspace(0, 1, rows)
        left = (1 - self.fast_share) * np.exp(decay) + self.fast_share * np.exp(self.fast * decay)
        return (1 - self.before) * left

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Dims the image row by row."""
        return _dim(image, self.remaining(len(image))[:, None], rng, self.gain, self.offset)


@dataclass(frozen=True)
class Flicker:
    """Unsteady illumination: a factor N(1, σ²) for the frame and one for each row.

    Attributes:
        row: Standard deviation from row to row.
        frame: Standard deviation from frame to frame.
    """

    row: float = 0.05
    frame: float = 0.0
    stage: ClassVar[str] = "photons"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Scales the rows."""
        factor = (1 + self.frame * rng.standard_normal()) * (
            1 + self.row * rng.standard_normal((len(image), 1))
        )
        return _like(image, image * np.maximum(factor, 0))


@dataclass(frozen=True)
class ScanJitter:
    """Rows that start early or late.

    Expected photons are interpolated. Recorded rows are shifted by whole pixels, which does not change their noise.

    Attributes:
        sigma: Standard deviation of the shift of a row in pixels.
        bidirectional: Shift of every other row in pixels, caused by a phase error between forward and backward
            scan.
    """

    sigma: float = 0.5
    bidirectional: float = 0.0
    stage: ClassVar[str] = "photons"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Shifts the rows; missing pixels are replaced by the border."""
        rows, columns = image.shape
        shift = self.sigma * rng.standard_normal((rows, 1)) + self.bidirectional * (
            np.arange(rows)[:, None] % 2
        )
        if np.issubdtype(image.dtype, np.integer):
            shift = np.rint(shift)
        place = np.clip(np.arange(columns) - shift, 0, columns - 1)
        left = np.minimum(place.astype(np.intp), columns - 2)
        part = place - left
        row = np.arange(rows)[:, None]
        return _like(image, (1 - part) * image[row, left] + part * image[row, left + 1])


@dataclass(frozen=True)
class Misregistration:
    """A rigid motion of one image of a pair relative to the other.

    Attributes:
        shift: Largest shift along each axis in pixels; distributed uniformly.
        angle: Largest rotation in degrees about the centre; distributed uniformly.
    """

    shift: float = 0.5
    angle: float = 0.0
    stage: ClassVar[str] = "photons"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Moves the image by linear interpolation; borders are reflected."""
        shift = rng.uniform(-self.shift, self.shift, 2)
        angle = np.deg2rad(rng.uniform(-self.angle, self.angle))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        center = (np.array(image.shape) - 1) / 2
        options: dict[str, Any] = {"offset": center - turn @ (center + shift), "order": 1, "mode": "reflect"}
        moved = ndimage.affine_transform(image.astype(np.float32), turn, **options)
        return _like(image, moved)


@dataclass(frozen=True)
class LineNoise:
    """An offset for every row: white noise plus a drift that follows an autoregressive process.

    Attributes:
        sigma: Standard deviation of the white part in grey values.
        drift: Standard deviation of the drift in grey values.
        memory: Correlation of the drift between neighbouring rows.
        columns: Whether the lines are columns, as with the column amplifiers of a camera.
    """

    sigma: float = 1.0
    drift: float = 0.0
    memory: float = 0.95
    columns: bool = False
    stage: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        _require(0 <= self.memory < 1, "memory", self.memory, "[0, 1)")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Adds the offsets."""
        count = image.shape[1] if self.columns else image.shape[0]
        white, kicks = rng.standard_normal((2, count))
        # The first value has the stationary distribution, and the kicks are scaled to keep its variance.
        kicks[1:] *= np.sqrt(1 - self.memory**2)
        lines = self.sigma * white + self.drift * np.asarray(signal.lfilter([1], [1, -self.memory], kicks))
        return _like(image, image + (lines if self.columns else lines[:, None]))


@dataclass(frozen=True)
class Crosstalk:
    """Neighbouring pixels share their signal, and so their noise.

    Attributes:
        sigma: Standard deviation of the Gaussian kernel in pixels.
    """

    sigma: float = 0.7
    stage: ClassVar[str] = "image"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Convolves the image; its mean is preserved."""
        return _like(image, ndimage.gaussian_filter(image.astype(np.float32), self.sigma, mode="reflect"))


@dataclass(frozen=True)
class Bandwidth:
    """A slow amplifier: each pixel leaks into the next ones of its row with an exponential decay.

    Attributes:
        length: Decay length in pixels.
    """

    length: float = 1.0
    stage: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        _require(self.length > 0, "decay length", self.length, "above 0")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Smears the rows; their mean is preserved except for the part beyond their end."""
        return _like(image, _trail(image, self.length))


@dataclass(frozen=True)
class Afterpulsing:
    """Detector counts that trigger further counts shortly afterwards, in the same row.

    Attributes:
        probability: Mean number of afterpulses of a count.
        length: Mean delay in pixels.
        gain: Grey values of one count.
        offset: Grey value without light.
    """

    probability: float = 0.05
    length: float = 1.0
    gain: float = 1.0
    offset: float = 0.0
    stage: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        _require(
            self.length > 0 and self.probability >= 0,
            "delay and probability",
            (self.length, self.probability),
            "above 0",
        )

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Adds the afterpulses."""
        counts = np.maximum((image.astype(np.float64) - self.offset) / self.gain, 0)
        extra = rng.poisson(self.probability * _trail(counts, self.length))
        return _like(image, image + self.gain * extra)


@dataclass(frozen=True)
class CameraPattern:
    """The fixed pattern and the read noise of an sCMOS camera, for an image of another detector.

    Each pixel is scaled by its relative gain and shifted by its relative offset, and has its own read noise.

    Attributes:
        camera: The camera whose maps are used.
    """

    camera: Scmos = Scmos()
    stage: ClassVar[str] = "image"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Applies the maps of the camera."""
        gain, offset, read_noise, _ = self.camera.maps(image.shape)
        noise = gain * read_noise * rng.standard_normal(image.shape)
        return _like(image, image * (gain / self.camera.gain) + (offset - self.camera.offset) + noise)


def _trail(image: np.ndarray, length: float) -> np.ndarray:
    """Smooths rows exponentially in the direction of the scan, starting from the steady state of their first pixel."""
    keep = np.exp(-1 / length)
    values = image.astype(np.float64)
    return signal.lfilter([1 - keep], [1, -keep], values, axis=1, zi=keep * values[:, :1])[0]


def _dim(
    image: np.ndarray, factor: np.ndarray, rng: np.random.Generator, gain: float, offset: float
) -> np.ndarray:
    if not np.issubdtype(image.dtype, np.integer):
        return image * factor.astype(image.dtype)
    if np.max(factor) > 1:
        raise ValueError(
            f"a recorded image can only lose light: the factor {np.max(factor)} must be 1 or less"
        )
    counts = np.maximum(np.rint((image.astype(np.float64) - offset) / gain), 0).astype(np.int64)
    lost = counts - rng.binomial(counts, np.broadcast_to(factor, image.shape))
    return _like(image, image - gain * lost)


def _like(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Casts values to the type of an image; integers are rounded and clipped."""
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(image.dtype)


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value}; it must be {allowed}")
