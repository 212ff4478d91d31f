r"""The noise of a single image: how its variance grows with intensity, and how neighbouring pixels correlate.

Blocks of 16 x 16 pixels are compared with themselves, shifted by :math:`h` (the semivariogram; a plane is subtracted
from each block first),

.. math:: \gamma(h) = \tfrac12 \langle (x_{p+h} - x_p)^2 \rangle = \sigma^2 (1 - \rho(h)) + \text{structure}

Noise hardly correlates over three pixels, so :math:`\gamma(3)` is its variance, and
:math:`\rho(h) = 1 - \gamma(h) / \gamma(3)`. Structure adds to it: only the fifth of the blocks that vary least from one
4 x 4 cell to the next is used, and cells that vary more than such noise would show that no block is flat.

The photon-transfer curve :math:`\sigma^2 = a + b\,\mu` is fitted to the flattest blocks of each intensity.

References:
    Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data (Foi et al., 2008),
    https://doi.org/10.1109/TIP.2008.2001399
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["NoiseModel", "blocks_of", "fit_noise", "neighbour_correlation", "noise_correlation"]

#: Side of a block and of the cells in it, in pixels.
BLOCK, CELL = 16, 4
#: Distance in pixels at which noise no longer correlates.
FAR = 3
#: Flatness of an image above which structure in its flattest blocks cannot be told from noise.
MOST_UNEVEN = 1.3
#: Share of the blocks that count as flat.
FLAT_SHARE = 0.2
#: Fewest blocks that can be ranked by flatness: 64 x 64 pixels.
FEWEST_BLOCKS = 16
#: Intensities at which the photon-transfer curve is measured.
LEVELS = 8
#: Least variance that the curve is taken to have anywhere, relative to its mean.
LEAST_VARIANCE = 0.05


@dataclass(frozen=True)
class NoiseModel:
    """Noise of an image.

    Attributes:
        offset: Variance at intensity 0, in squared units of the image.
        slope: Growth of the variance with intensity.
        least: Least variance.
        correlation: Correlation with the pixel (i, j) steps away, with shape (3, 3); 1 at [0, 0].
        flatness: Variance of 4 x 4 cells in the flattest blocks over that of such noise. The choice of the flattest
            makes it about 0.5 for noise alone; if it is larger, structure in all blocks passes for correlated noise.
    """

    offset: float
    slope: float
    least: float
    correlation: np.ndarray
    flatness: float

    @property
    def measurable(self) -> bool:
        """Whether some blocks hold little structure, so that noise can be told from it."""
        return self.flatness < MOST_UNEVEN

    @property
    def neighbours(self) -> float:
        """Correlation of horizontal and vertical neighbours."""
        return float(self.correlation[0, 1] + self.correlation[1, 0]) / 2

    def variance(self, intensity: np.ndarray) -> np.ndarray:
        """Returns the variance of the noise at each intensity, any shape, in squared units of the image."""
        return np.maximum(self.offset + self.slope * intensity, self.least)

    def blurred(self, sigma: float) -> float:
        """Returns the covariance of noise of variance 1 with itself after a Gaussian blur.

        Args:
            sigma: Standard deviation of the blur in pixels; for the variance of blurred noise, that of two blurs.
        """
        offsets = np.arange(-32, 33)
        kernel = np.exp(-0.5 * np.square(offsets / sigma))
        # At 0, 1 and 2 pixels, the last two on either side.
        weights = (kernel / kernel.sum())[32:35] * np.array([1, 2, 2])
        return float(weights @ self.correlation @ weights)


def blocks_of(image: np.ndarray, side: int = BLOCK) -> np.ndarray:
    """Returns the square blocks of an image with shape (H, W), row by row, with shape (N, side, side)."""
    height, width = (length // side for length in image.shape)
    cut = image[: height * side, : width * side].reshape(height, side, width, side)
    return cut.swapaxes(1, 2).reshape(-1, side, side)


def fit_noise(image: np.ndarray, intensity: np.ndarray | None = None) -> NoiseModel | None:
    """Estimates the noise of an image.

    Args:
        image: Noisy image with shape (H, W), in any unit.
        intensity: A less noisy version of it, for the photon-transfer curve; by default the image itself.

    Returns:
        The noise, or ``None`` if the image has fewer than 16 blocks of 16 x 16 pixels that are not constant.
    """
    detrended = _detrended(blocks_of(image.astype(np.float64)))
    far = (_semivariance(detrended, 0, FAR) + _semivariance(detrended, FAR, 0)) / 2
    noisy = far > 0
    if noisy.sum() < FEWEST_BLOCKS:
        return None
    means = blocks_of(image if intensity is None else intensity).mean(axis=(1, 2), dtype=np.float64)[noisy]
    detrended, far = detrended[noisy], far[noisy]
    cells = detrended.reshape(-1, BLOCK // CELL, CELL, BLOCK // CELL, CELL).mean(axis=(2, 4))
    unevenness = cells.var(axis=(1, 2)) / far
    flat = np.argsort(unevenness)[: max(FEWEST_BLOCKS // 2, int(FLAT_SHARE * len(far)))]
    correlation = _correlation(detrended[flat], far[flat])
    flatness = float(np.median(unevenness[flat])) / max(_cell_variance(correlation), 1e-3)
    return NoiseModel(*_photon_transfer(means, far, unevenness), correlation, flatness)


def noise_correlation(image: np.ndarray) -> float:
    """Returns the correlation of the noise of neighbouring pixels; 0 where structure everywhere hides it.

    Args:
        image: Noisy image with shape (H, W), in any unit.
    """
    noise = fit_noise(image)
    return noise.neighbours if noise and noise.measurable else 0.0


def neighbour_correlation(image: np.ndarray) -> float:
    """Returns the correlation of horizontal and vertical neighbours, slow changes left aside.

    Args:
        image: Image with shape (H, W), such as a residual; the correlation of a constant one is 0.
    """
    detrended = _detrended(blocks_of(image.astype(np.float64)))
    far = (_semivariance(detrended, 0, FAR) + _semivariance(detrended, FAR, 0)) / 2
    if not (far > 0).any():
        return 0.0
    found = _correlation(detrended[far > 0], far[far > 0])
    return float(found[0, 1] + found[1, 0]) / 2


def _detrended(blocks: np.ndarray) -> np.ndarray:
    """Returns blocks minus the plane that fits each best."""
    places = np.arange(BLOCK) - (BLOCK - 1) / 2
    power = BLOCK * np.square(places).sum()
    along_x = (blocks @ places).sum(axis=1) / power
    along_y = (places @ blocks).sum(axis=1) / power
    plane = along_x[:, None, None] * places + along_y[:, None, None] * places[:, None]
    return blocks - blocks.mean(axis=(1, 2), keepdims=True) - plane


def _semivariance(blocks: np.ndarray, down: int, right: int) -> np.ndarray:
    """Returns half of the mean squared difference of each block and its shifted self, with shape (N,)."""
    difference = blocks[:, down:, right:] - blocks[:, : BLOCK - down, : BLOCK - right]
    return np.square(difference).mean(axis=(1, 2)) / 2


def _correlation(blocks: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Returns the correlation over 0 to 2 pixels down and right, with shape (3, 3): all blocks count alike."""
    found = np.ones((3, 3))
    for down, right in np.ndindex(3, 3):
        if down or right:
            near = _semivariance(blocks, down, right)
            if down and right:  # both diagonals
                near = (near + _semivariance(blocks[:, ::-1], down, right)) / 2
            found[down, right] = 1 - (near / far).mean()
    return found


def _cell_variance(correlation: np.ndarray) -> float:
    """Returns the variance of the mean of 4 x 4 pixels of noise of variance 1."""
    # Pairs of pixels of a cell at each distance, in both directions.
    pairs = (CELL - np.arange(3)) * np.array([1, 2, 2])
    return float(pairs @ correlation @ pairs) / CELL**4


def _photon_transfer(
    means: np.ndarray, variances: np.ndarray, unevenness: np.ndarray
) -> tuple[float, float, float]:
    """Returns offset, slope and least value of the variance, from blocks."""
    from scipy.optimize import nnls  # imported here because it is slow to load

    levels = []
    for alike in np.array_split(np.argsort(means), LEVELS):
        flat = alike[np.argsort(unevenness[alike])][: max(2, len(alike) // 4)]
        levels.append((means[flat].mean(), variances[flat].mean()))
    level, variance = np.array(levels).T
    # Neither the variance of the darkest blocks nor the slope is negative; errors are relative to the variance.
    terms = np.stack([np.ones(len(level)), level - level.min()], axis=1) / variance[:, None]
    (darkest, slope), _ = nnls(terms, np.ones(len(level)))
    return float(darkest - slope * level.min()), float(slope), LEAST_VARIANCE * float(variance.mean())
