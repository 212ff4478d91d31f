"""Degradations of the light before it is detected: dose, bleaching, flicker, vignetting and haze."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import fft

from ddpm_lightning.simulation.degradations.base import Shared, like, require


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
        require(self.factor > 0, "dose factor", self.factor, "above 0")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Scales or thins the image."""
        return dim(image, np.asarray(self.factor, np.float32), rng, self.gain, self.offset)


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
        require(
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
        return dim(image, self.remaining(len(image))[:, None], rng, self.gain, self.offset)


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
        return like(image, image * np.maximum(factor, 0))


@dataclass(frozen=True)
class Vignetting(Shared):
    r"""Light that falls off from the centre to the corners by the law :math:`\cos^4 \theta`, in both images of a pair.

    With :math:`\tan \theta` proportional to the distance :math:`r` from the centre, the factor is
    :math:`(1 + k r^2)^{-2}`.

    Attributes:
        corner: Fraction of the light in the corners.
        gain: ADU per photon of recorded images.
        offset: ADU without light of recorded images.
    """

    corner: float = 0.6
    gain: float = 1.0
    offset: float = 0.0
    stage: ClassVar[str] = "photons"

    def __post_init__(self) -> None:
        require(0 < self.corner <= 1, "fraction of the light", self.corner, "above 0, and 1 or less")

    def factor(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the remaining fraction of the light at each pixel with shape (H, W)."""
        rows, columns = (np.linspace(-1, 1, length) ** 2 for length in shape)
        aspect = (shape[0] / shape[1]) ** 2
        squared = (aspect * rows[:, None] + columns) / (1 + aspect)  # of the distance; 1 in the corners
        return (1 + (self.corner**-0.5 - 1) * squared) ** -2.0

    def expected(self, image: np.ndarray) -> np.ndarray:
        """Dims an image of expected values."""
        offset = self.offset if np.issubdtype(image.dtype, np.integer) else 0.0
        return ((image - offset) * self.factor(image.shape) + offset).astype(np.float32)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Scales or thins the image."""
        return dim(image, self.factor(image.shape), rng, self.gain, self.offset)


@dataclass(frozen=True)
class Haze(Shared):
    """Light from out of focus: a fraction of the light is blurred widely, in both images of a pair.

    The sum of the light is preserved.

    Attributes:
        amount: Fraction of the light that is blurred.
        width: Standard deviation of the blur in pixels.
        gain: ADU per photon of recorded images.
        offset: ADU without light of recorded images.
    """

    amount: float = 0.4
    width: float = 25.0
    gain: float = 1.0
    offset: float = 0.0
    stage: ClassVar[str] = "photons"

    def __post_init__(self) -> None:
        require(0 <= self.amount <= 1, "fraction of the light", self.amount, "0 to 1")
        require(self.width > 0, "width", self.width, "above 0")

    def expected(self, image: np.ndarray) -> np.ndarray:
        """Blurs a fraction of the light of an image of expected values."""
        return (1 - self.amount) * image.astype(np.float32) + self.amount * _blurred(image, self.width)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Blurs a fraction of the light; in recorded images it arrives as new random photons."""
        if not np.issubdtype(image.dtype, np.integer):
            return like(image, self.expected(image))
        rest = dim(image, np.asarray(1 - self.amount), rng, self.gain, self.offset)
        photons = np.maximum(_blurred(image, self.width) - self.offset, 0) / self.gain
        return like(image, rest + self.gain * rng.poisson(self.amount * photons))


def _blurred(image: np.ndarray, width: float) -> np.ndarray:
    """Filters an image by a wide Gaussian; its border is reflected, as the cosine transform implies."""
    rows, columns = (np.exp(-((np.pi * width * np.arange(n) / n) ** 2) / 2) for n in image.shape)
    spectrum = np.asarray(fft.dctn(image.astype(np.float32)))
    return np.asarray(fft.idctn(spectrum * (rows[:, None] * columns).astype(np.float32)))


def dim(
    image: np.ndarray, factor: np.ndarray, rng: np.random.Generator, gain: float, offset: float
) -> np.ndarray:
    """Reduces the light by a factor: scales expected photons, and thins recorded counts."""
    if not np.issubdtype(image.dtype, np.integer):
        return image * factor.astype(image.dtype)
    if np.max(factor) > 1:
        raise ValueError(
            f"a recorded image can only lose light: the factor {np.max(factor)} must be 1 or less"
        )
    counts = np.maximum(np.rint((image.astype(np.float64) - offset) / gain), 0).astype(np.int64)
    lost = counts - rng.binomial(counts, np.broadcast_to(factor, image.shape))
    return like(image, image - gain * lost)
