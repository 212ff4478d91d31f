r"""SQUIRREL: does a sharp image, blurred back, agree with the diffraction-limited one?

With a Gaussian blur :math:`G_\sigma`, the super-resolved image :math:`\hat y` and a reference :math:`x`,

.. math:: \mathrm{RSE} = \min_{\sigma, \alpha, \beta} \mathrm{RMSE}(\alpha\, G_\sigma * \hat y + \beta,\; x)

and RSP is the Pearson correlation of the blurred image with the reference. Gain, at least 0, and offset follow from
linear regression for each :math:`\sigma`, and :math:`\sigma` from a one-dimensional search up to :math:`4 / 2.355`
pixels of the reference.

No image has to be blurred during the search: a symmetric kernel with the response :math:`h` acts as a multiplication in
the cosine transform of an image that is reflected at its borders. So with the transforms :math:`A, B` of both images
less their means

.. math:: N\, \mathrm{RSE}^2(\sigma) = \sum B^2 - \max\left(0, \sum h A B \right)^2 \Big/ \sum h^2 A^2

It needs no clean target, so it checks a restoration against its own input. Noise in the reference limits the RSP that
can be reached. If :math:`\sigma` is at the end of the search range, no blur fits.

References:
    Quantitative mapping and minimization of super-resolution optical imaging artifacts (Culley et al., 2018),
    https://doi.org/10.1038/nmeth.4605
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter
from scipy.optimize import OptimizeResult, minimize_scalar
from skimage.transform import resize

WIDEST_FWHM = 4.0
FWHM_PER_SIGMA = 2.355


@dataclass(frozen=True)
class Squirrel:
    """Best fit of the blurred image to its reference.

    Attributes:
        rsp: Resolution-scaled Pearson correlation in [-1, 1]; NaN where image or reference is constant.
        rse: Resolution-scaled error in the unit of the reference, 0 is best.
        sigma: Blur of the fit in pixels of the image.
        at_bound: Whether the search ended at its upper end: then no blur fits.
        error_map: Absolute difference of fit and reference with shape (H, W).
    """

    rsp: float
    rse: float
    sigma: float
    at_bound: bool
    error_map: np.ndarray


def squirrel(image: np.ndarray, reference: np.ndarray) -> Squirrel:
    """Compares a sharp image with a diffraction-limited one of the same field.

    Args:
        image: Restored image with shape (H, W), in any unit.
        reference: Diffraction-limited image with shape (h, w), no larger; it is interpolated to (H, W).
    """
    if image.ndim != 2 or reference.ndim != 2 or min(reference.shape) < 2:
        raise ValueError(f"needs two images with shape (H, W), got {image.shape} and {reference.shape}")
    magnification = image.shape[0] / reference.shape[0]
    if magnification < 1 or abs(image.shape[1] / reference.shape[1] / magnification - 1) > 0.02:
        raise ValueError(f"the reference {reference.shape} is no smaller copy of the image {image.shape}")
    image, reference = image.astype(np.float64), reference.astype(np.float64)
    if image.shape != reference.shape:
        reference = np.asarray(resize(reference, image.shape, order=3, preserve_range=True))

    widest = WIDEST_FWHM / FWHM_PER_SIGMA * magnification
    sigma = _best_blur(image, reference, widest)
    blurred = gaussian_filter(image, sigma)
    centred = blurred - blurred.mean()
    power = np.square(centred).mean()
    # Not below 0: an inverted image is no restoration.
    alpha = max((centred * reference).mean() / power, 0.0) if power > 0 else 0.0
    best = alpha * centred + reference.mean()
    spread = centred.std() * reference.std()
    rsp = float((centred * (reference - reference.mean())).mean() / spread) if spread > 0 else np.nan
    error = np.abs(best - reference)
    return Squirrel(rsp, float(np.sqrt(np.square(error).mean())), sigma, sigma > 0.99 * widest, error)


def _best_blur(image: np.ndarray, reference: np.ndarray, widest: float) -> float:
    """Returns the standard deviation up to ``widest`` of the blur that brings the image closest to its reference."""
    first, second = (np.asarray(dctn(one - one.mean(), norm="ortho")) for one in (image, reference))
    cross, power, whole = first * second, first * first, np.square(second).sum()

    def squared_error(sigma: float) -> float:
        rows, columns = (_response(length, sigma) for length in image.shape)
        kept = rows**2 @ power @ columns**2
        return whole - max(rows @ cross @ columns, 0.0) ** 2 / kept if kept > 0 else whole

    found = minimize_scalar(squared_error, bounds=(0, widest), method="bounded", options={"xatol": 1e-3})
    return float(cast(OptimizeResult, found).x)


def _response(length: int, sigma: float) -> np.ndarray:
    """Returns what scipy's Gaussian filter makes of each cosine along an axis, with shape (length,)."""
    offsets = np.arange(int(4 * sigma + 0.5) + 1)
    weights = np.exp(-0.5 * np.square(offsets / sigma))
    weights[1:] *= 2  # both sides of the kernel
    return weights / weights.sum() @ np.cos(np.outer(offsets, np.pi * np.arange(length) / length))
