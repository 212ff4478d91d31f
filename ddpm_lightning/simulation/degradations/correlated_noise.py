"""Noise with a chosen correlation between neighbours, whatever its cause."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from scipy import ndimage, optimize

from ddpm_lightning.simulation.degradations.base import like, require

#: Highest correlation of neighbours that a kernel is made for.
HIGHEST = 0.95
_RADIUS = 12


@dataclass(frozen=True)
class CorrelatedNoise:
    """Adds Gaussian noise that correlates between neighbours, with a Gaussian autocorrelation.

    Its variance is σ² + gain (value - offset), with the value of the image that it is added to.

    Attributes:
        sigma: Standard deviation without light in grey values.
        gain: Variance per grey value of light.
        offset: Grey value without light.
        rows: Correlation of neighbours in a column, 0 to 0.95.
        columns: Correlation of neighbours in a row, 0 to 0.95.
    """

    sigma: float = 3.0
    gain: float = 0.0
    offset: float = 0.0
    rows: float = 0.5
    columns: float = 0.5
    stage: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        correlations = (self.rows, self.columns)
        require(all(0 <= one <= HIGHEST for one in correlations), "correlation", correlations, "0 to 0.95")
        require(self.sigma >= 0 and self.gain >= 0, "noise", (self.sigma, self.gain), "0 or more")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Adds the noise."""
        variance = self.sigma**2 + self.gain * np.maximum(image.astype(np.float32) - self.offset, 0)
        noise = correlated(rng.standard_normal(image.shape, np.float32), self.rows, self.columns)
        return like(image, image + np.sqrt(variance) * noise)


def correlated(noise: np.ndarray, rows: float, columns: float) -> np.ndarray:
    """Filters independent noise so that it correlates and keeps its variance.

    Args:
        noise: Independent noise with shape (H, W).
        rows: Correlation of neighbours along the first axis.
        columns: Correlation of neighbours along the second axis.

    Returns:
        Noise with shape (H, W), float32. Beyond the border, the noise wraps around.
    """
    for axis, correlation in enumerate((rows, columns)):
        if correlation > 0:
            noise = ndimage.correlate1d(noise.astype(np.float32), kernel(correlation), axis, mode="wrap")
    return noise.astype(np.float32)


@lru_cache(maxsize=64)
def kernel(correlation: float) -> np.ndarray:
    """Returns a sampled Gaussian, of energy 1, whose autocorrelation at a distance of 1 is the one given."""

    def taps(nearest: float) -> np.ndarray:
        return nearest ** (np.arange(-_RADIUS, _RADIUS + 1) ** 2)

    def excess(nearest: float) -> float:
        values = taps(nearest)
        return float(values[1:] @ values[:-1] / (values @ values)) - correlation

    values = taps(float(optimize.brentq(excess, 0, 0.97)))  # pyright: ignore[reportArgumentType]
    return values / np.sqrt(values @ values)
