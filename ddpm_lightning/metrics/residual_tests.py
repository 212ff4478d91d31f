r"""What a restoration has removed: noise only, and all of the noise?

The residual :math:`r = x - f` is the image minus its restoration. If the restoration is right, the residual is the
noise: its variance follows the photon-transfer curve of the image, and neighbouring pixels correlate as those of the
noise do (:mod:`ddpm_lightning.metrics.noise_model`). Two things can be wrong, and neither needs a clean image to be
seen:

- *Noise is left.* Then restoration and residual share fine detail. With :math:`D` for an image minus its Gaussian blur
  of 2 pixels, the share of the noise that is left is :math:`a = \langle r\, Df \rangle / \langle r\, Dx \rangle`. The
  residual contains the other part, with :math:`(1 - a)^2` of the variance of the noise; so the noise that is left has
  :math:`a^2 / (1 - a)^2` times the variance of the residual. It is compared with the noise that the best Gaussian blur
  :math:`G` would leave: the one with the least error by Stein's unbiased estimate, for noise with covariance
  :math:`\Sigma`, :math:`\lVert x - Gx \rVert^2 - \mathrm{tr}\,\Sigma + 2\,\mathrm{tr}\,G \Sigma`.
- *Structure is removed.* It is in the residual as spots that noise cannot make, as regions that vary more than the
  noise, or as correlation beyond that of the noise.

References:
    Estimation of the mean of a multivariate normal distribution (Stein, 1981), https://doi.org/10.1214/aos/1176345632
"""

from dataclasses import dataclass

import numpy as np

from ddpm_lightning.metrics.noise_model import NoiseModel, blocks_of, fit_noise, neighbour_correlation

__all__ = ["ResidualTests", "best_blur", "examine_residual", "standardised_residual"]

#: Side of a region in pixels.
REGION = 32
#: A region varies too much if its variance is this many times that of the noise.
TOO_MUCH = 2.0
#: Blur in pixels below which detail is fine.
FINE = 2.0
#: Blur that shows spots best, about that of a microscope's optics, and the blur that shows what surrounds them.
SPOT, SURROUNDINGS = 1.4, 8.0
#: A spot is this many standard deviations of the blurred residual high; noise alone reaches 5.
SPOT_HEIGHT = 8.0
#: Range of blurs that are compared.
BLURS = (0.3, 6.0)
#: Share of the noise left above which the residual is too weak to measure the noise.
MOST_LEFT = 0.95


@dataclass(frozen=True)
class ResidualTests:
    """What the residual shows.

    Attributes:
        correlation: Correlation of the noise of neighbouring pixels in the input.
        measurable: Whether noise could be told from structure (:class:`NoiseModel`).
        blur: Gaussian blur in pixels that has the least error by Stein's estimate.
        noise_left: Share of the noise that is left in the restored image; 1 if nothing was removed.
        noise_ratio: Variance of the noise that is left, over that of the noise that this blur would leave.
        residual_correlation: Correlation of neighbouring pixels of the residual.
        varied_regions: Share of the regions of 32 x 32 pixels in which the residual has more than twice the variance of
            the noise.
        spots: Number of spots in the residual that noise cannot make.
    """

    correlation: float
    measurable: bool
    blur: float
    noise_left: float
    noise_ratio: float
    residual_correlation: float
    varied_regions: float
    spots: int


def examine_residual(image: np.ndarray, restored: np.ndarray) -> ResidualTests | None:
    """Tests what a restoration has removed.

    Args:
        image: Noisy image with shape (H, W), in intensities.
        restored: Its restoration with the same shape, in the same unit.

    Returns:
        The findings, or ``None`` if the noise of the image cannot be measured (see :func:`fit_noise`).
    """
    image, restored = image.astype(np.float64), restored.astype(np.float64)
    noise = fit_noise(image, restored)
    if noise is None:
        return None
    variance = noise.variance(restored)
    residual = (image - restored) / np.sqrt(variance)
    regions = blocks_of(residual, min(REGION, *image.shape)).var(axis=(1, 2))
    blur = best_blur(image, noise, float(variance.mean()))
    left = _noise_left(image, restored, variance)
    removed = 1 - min(left, MOST_LEFT)
    left_by_blur = max(noise.blurred(np.sqrt(2) * blur), 1e-3)
    return ResidualTests(
        correlation=noise.neighbours,
        measurable=noise.measurable,
        blur=blur,
        noise_left=left,
        noise_ratio=float(np.median(regions)) * (left / removed) ** 2 / left_by_blur,
        residual_correlation=neighbour_correlation(residual),
        varied_regions=float((regions > TOO_MUCH).mean()),
        spots=_spots(residual),
    )


def standardised_residual(image: np.ndarray, restored: np.ndarray) -> np.ndarray | None:
    """Returns the residual in standard deviations of the noise, with shape (H, W).

    Args:
        image: Noisy image with shape (H, W), in intensities.
        restored: Its restoration with the same shape.

    Returns:
        The residual, or ``None`` if the noise of the image cannot be measured.
    """
    noise = fit_noise(image, restored)
    if noise is None:
        return None
    residual = image.astype(np.float64) - restored
    return (residual / np.sqrt(noise.variance(restored))).astype(np.float32)


def best_blur(image: np.ndarray, noise: NoiseModel, variance: float) -> float:
    """Returns the standard deviation in pixels of the Gaussian blur that has the least error by Stein's estimate.

    Args:
        image: Noisy image with shape (H, W).
        noise: Its noise.
        variance: Mean variance of the noise.
    """
    from scipy.fft import dctn  # imported here because it is slow to load
    from scipy.optimize import minimize_scalar

    power = np.square(np.asarray(dctn(image - image.mean(), norm="ortho"))) / image.size

    def error(sigma: float) -> float:
        down, right = (
            np.exp(-0.5 * np.square(sigma * np.pi * np.arange(length) / length)) for length in image.shape
        )
        removed = power.sum() - 2 * down @ power @ right + down**2 @ power @ right**2
        return float(removed + 2 * variance * noise.blurred(sigma))

    found = minimize_scalar(error, bounds=BLURS, method="bounded", options={"xatol": 0.02})
    return float(found.x)


def _noise_left(image: np.ndarray, restored: np.ndarray, variance: np.ndarray) -> float:
    """Returns the share of the noise that is left in the restored image, at least 0; pixels count by their noise."""
    from scipy.ndimage import gaussian_filter  # imported here because it is slow to load

    residual = (image - restored) / variance
    in_restored, in_image = (
        float((residual * (one - gaussian_filter(one, FINE))).mean()) for one in (restored, image)
    )
    return max(in_restored / in_image, 0.0) if in_image > 0 else 1.0


def _spots(residual: np.ndarray) -> int:
    """Returns the number of bright spots in a standardised residual that noise cannot make."""
    from scipy.ndimage import gaussian_filter, maximum_filter  # imported here because it is slow to load

    smooth = gaussian_filter(residual, SPOT) - gaussian_filter(residual, SURROUNDINGS)
    height = SPOT_HEIGHT * 1.4826 * np.median(np.abs(smooth))
    return int(((smooth > height) & (maximum_filter(smooth, 7) == smooth)).sum())
