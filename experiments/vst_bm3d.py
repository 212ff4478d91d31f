r"""BM3D behind a variance-stabilising transform: the classical method for noise that grows with the light.

The variance of a recorded value with expectation :math:`\mu` is :math:`a \mu + b`. Both numbers are fitted to the
image: noise is read from the diagonal details of 2 x 2 pixels, light from the blurred image. The generalised Anscombe
transform makes the standard deviation 1,

.. math:: f(x) = 2 \sqrt{p + 3/8 + \sigma^2}, \quad p = (x - o) / a,

with :math:`\sigma^2 = b / a^2, o = 0` for :math:`b \ge 0` (read noise), and :math:`\sigma = 0, o = -b / a` for
:math:`b < 0` (an offset without light). BM3D removes noise of standard deviation 1, and the closed form of the exact
unbiased inverse leads back.

BM3D is the authors' own program, the package ``bm3d`` (the extra ``benchmarks``). Its licence allows non-commercial use
only, and asks that published results cite the authors.

References:
    Optimal inversion of the generalized Anscombe transformation for Poisson-Gaussian noise (Mäkitalo and Foi, 2013),
    https://doi.org/10.1109/TIP.2012.2202675. Collaborative filtering of correlated noise (Mäkinen et al., 2020),
    https://doi.org/10.1109/TIP.2020.3014721 (the program).
"""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from scipy import ndimage, optimize

__all__ = ["Noise", "fit_noise", "installed", "vst_bm3d"]

#: Groups of similar brightness in which the variance is measured, and the fewest pixels of one.
GROUPS, FEWEST = 40, 100
#: Groups count alike beyond this number of pixels: there, the model errs more than chance.
ENOUGH = 1000
#: Largest fraction of pixels of a group at an end of the scale; values beyond it are lost, and with them variance.
CLIPPED = 0.2


@dataclass(frozen=True)
class Noise:
    """Noise with the variance ``gain * value + variance`` of a value.

    Attributes:
        gain: Variance per grey value of light, above 0.
        variance: Variance at the value 0; below 0 if the darkest possible value is above 0.
    """

    gain: float
    variance: float

    @property
    def _read(self) -> tuple[float, float]:
        """Offset in grey values, and variance of the read noise in units of the gain."""
        if self.variance < 0:
            return -self.variance / self.gain, 0.0
        return 0.0, self.variance / self.gain**2

    def stabilised(self, image: np.ndarray) -> np.ndarray:
        """Returns an image (H, W) whose noise has a standard deviation of about 1."""
        offset, read = self._read
        return 2 * np.sqrt(np.maximum((image - offset) / self.gain + 3 / 8 + read, 0))

    def inverse(self, stabilised: np.ndarray) -> np.ndarray:
        """Returns grey values (H, W) for expectations of stabilised values, without the bias of the root."""
        offset, read = self._read
        d = np.maximum(stabilised, 2 * np.sqrt(3 / 8))
        root = np.sqrt(3 / 2)
        counts = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8 - read
        return self.gain * counts + offset


def fit_noise(image: np.ndarray) -> Noise:
    """Fits the variance of the noise against brightness, as a straight line.

    Args:
        image: A recorded image with shape (H, W), at least 32 pixels wide and high. Correlation between neighbours
            makes its noise look weaker than it is.
    """
    image = image.astype(np.float64)
    detail = (image[:-1, :-1] - image[:-1, 1:] - image[1:, :-1] + image[1:, 1:]) / 2
    light = ndimage.gaussian_filter(image, 2)[:-1, :-1]
    ends = (image == image.min()) | (image == image.max())
    least, greatest = np.percentile(light, (0.1, 99.9))
    edges = np.linspace(least, greatest, GROUPS + 1)
    group = np.digitize(light, edges)
    found, clipped = [], []
    for number in range(1, GROUPS + 1):
        of_group = group == number
        count = int(of_group.sum())
        if count >= FEWEST:
            kept = found if ends[:-1, :-1][of_group].mean() < CLIPPED else clipped
            kept.append((light[of_group].mean(), (detail[of_group] ** 2).mean(), count))
    if len(found) < 3:  # counts of few photons, most of which are 0, are not clipped
        found += clipped
    if len(found) < 3:  # no contrast: the same noise everywhere
        return Noise(1e-6, float(max((detail**2).mean(), 1e-6)))
    means, variances, counts = np.array(found).T
    variances = np.maximum(variances, 1e-6)
    weights = np.sqrt(np.minimum(counts, ENOUGH))
    smallest = variances.min() / 10

    def errors(line: np.ndarray) -> np.ndarray:
        return weights * np.log(np.maximum(np.exp(line[0]) * means + line[1], smallest) / variances)

    slope = max(float(np.polyfit(means, variances, 1, w=weights / variances)[0]), 1e-3)
    start = [np.log(slope), float(np.median(variances - slope * means))]
    gain, variance = optimize.least_squares(errors, start, loss="soft_l1", x_scale=[0.1, variances.mean()]).x
    return Noise(float(np.exp(gain)), float(variance))


def installed() -> bool:
    """Says whether the package ``bm3d`` is installed."""
    return find_spec("bm3d") is not None


def vst_bm3d(image: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Returns the denoised image with shape (H, W), in grey values.

    Args:
        image: A recorded image with shape (H, W).
        strength: Standard deviation of the noise that is removed, in that of the stabilised noise.
    """
    from bm3d import bm3d  # pyright: ignore[reportMissingImports]  (optional)

    noise = fit_noise(image)
    return noise.inverse(bm3d(noise.stabilised(image.astype(np.float64)), strength))
