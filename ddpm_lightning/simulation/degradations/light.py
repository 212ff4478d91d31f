"""Degradations of the light before it is detected: dose, bleaching and flicker."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ddpm_lightning.simulation.degradations.base import like, require


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
