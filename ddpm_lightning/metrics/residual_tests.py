r"""What a restoration has removed: noise only, all of the noise?

The residual :math:`r = x - f` is the image minus its restoration. If the restoration is right, it is the noise: its
variance follows the photon-transfer curve of the image, and neighbouring pixels correlate as those of the noise
(:mod:`ddpm_lightning.metrics.noise_model`). Three things can be wrong, and none needs a clean image to be seen:

- *Noise is left*: then restoration and residual share it, and fine detail of both is alike. With :math:`D` for an image
  minus its Gaussian blur of 2 pixels, the share of the noise that is left is
  :math:`\langle r\, Df \rangle / \langle r\, Dx \rangle`, up to what chance adds.
- *Structure is removed*: it is in the residual as spots that noise cannot make, or as correlation beyond that of the
  noise.
- *A blur would do better*: if more noise is left than the best blur would leave. That blur :math:`G` has the least
  error by Stein's unbiased estimate, for noise with covariance :math:`\Sigma`
  :math:`\lVert x - Gx \rVert^2 - \mathrm{tr}\,\Sigma + 2\,\mathrm{tr}\,G \Sigma`.

References:
    Estimation of the mean of a multivariate normal distribution (Stein, 1981), https://doi.org/10.1214/aos/1176345632
"""

from dataclasses import dataclass

import numpy as np
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.optimize import minimize_scalar

from ddpm_lightning.metrics.noise_model import NoiseModel, blocks_of, fit_noise, neighbour_correlation

__all__ = ["ResidualTests", "best_blur", "examine_residual", "standardised_residual"]

#: Side of a region in pixels.
REGION = 32
#: Blur in pixels below which detail is fine.
FINE = 2.0
#: Blur that shows spots best, about that of a microscope's optics, and the blur that shows what surrounds them.
SPOT, SURROUNDINGS = 1.4, 8.0
#: A spot is so many standard deviations of the blurred residual high; noise alone reaches 5.
SPOT_HEIGHT = 8.0
#: Range of blurs that are compared.
BLURS = (0.3, 6.0)


@dataclass(frozen=True)
class ResidualTests:
    """What the residual shows.

    Attributes:
        correlation: Correlation of the noise of neighbouring pixels in the input.
        measurable: Whether noise could be told from structure (:class:`NoiseModel`).
        blur: Gaussian blur in pixels that has the least error by Stein's estimate.
        noise_left: Share of the noise that is left in the restored image.
        excess: Noise that is left in the restored image, relative to what that blur would leave: ``noise_left`` times
            ``variance``, over the variance of blurred noise. It has no exact meaning, but tells well whether the blur
            is closer to the truth (``experiments/residual_tests``).
        residual_correlation: Correlation of neighbouring pixels of the residual.
        variance: Median over regions of the variance of the residual over that of the noise.
        much, little: Share of the regions in which the variance is above 2, and below a half.
        spots: Number of spots in the residual that noise cannot make.
    """

    correlation: float
    measurable: bool
    blur: float
    noise_left: float
    excess: float
    residual_correlation: float
    variance: float
    much: float
    little: float
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
    weight = 1 / np.sqrt(noise.variance(restored))
    residual = (image - restored) * weight
    regions = blocks_of(residual, REGION).var(axis=(1, 2))
    blur, left, variance = (
        best_blur(image, noise, float(np.mean(weight**-2))),
        _noise_left(image, restored, weight),
        float(np.median(regions)),
    )
    return ResidualTests(
        noise.neighbours,
        noise.measurable,
        blur,
        left,
        left * variance / max(noise.blurred(np.sqrt(2) * blur), 1e-3),
        neighbour_correlation(residual),
        variance,
        float((regions > 2).mean()),
        float((regions < 0.5).mean()),
        _spots(residual),
    )


def standardised_residual(image: np.ndarray, restored: np.ndarray) -> np.ndarray | None:
    """Returns the residual in standard deviations of the noise, with shape (H, W); ``None`` if it has none.

    Args:
        image: Noisy image with shape (H, W), in intensities.
        restored: Its restoration with the same shape.
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
    power = np.square(np.asarray(dctn(image - image.mean(), norm="ortho"))) / image.size

    def error(sigma: float) -> float:
        down, right = (
            np.exp(-0.5 * np.square(sigma * np.pi * np.arange(length) / length)) for length in image.shape
        )
        removed = power.sum() - 2 * down @ power @ right + down**2 @ power @ right**2
        return float(removed + 2 * variance * noise.blurred(sigma))

    found = minimize_scalar(error, bounds=BLURS, method="bounded", options={"xatol": 0.02})
    return float(found.x)


def _noise_left(image: np.ndarray, restored: np.ndarray, weight: np.ndarray) -> float:
    """Returns the share of the noise that is left in the restored image; all pixels count alike by their weights."""
    residual = (image - restored) * weight**2
    fine = ((residual * (one - gaussian_filter(one, FINE))).mean() for one in (restored, image))
    left, whole = fine
    return float(left / whole) if whole > 0 else 0.0


def _spots(residual: np.ndarray) -> int:
    """Returns the number of bright spots in a standardised residual that noise cannot make."""
    smooth = gaussian_filter(residual, SPOT) - gaussian_filter(residual, SURROUNDINGS)
    height = SPOT_HEIGHT * 1.4826 * np.median(np.abs(smooth))
    return int(((smooth > height) & (maximum_filter(smooth, 7) == smooth)).sum())
