r"""Structural similarity on one scale and on several.

With local means, variances and covariance under a Gaussian window (11 x 11, :math:`\sigma = 1.5`) and
constants :math:`C_1 = (0.01 R)^2`, :math:`C_2 = (0.03 R)^2`, luminance and contrast-structure are

.. math:: l = \frac{2 \mu_{\hat y} \mu_y + C_1}{\mu_{\hat y}^2 + \mu_y^2 + C_1}, \quad
    c = \frac{2 \sigma_{\hat y y} + C_2}{\sigma_{\hat y}^2 + \sigma_y^2 + C_2}

SSIM is the mean of :math:`l c` over pixels. MS-SSIM halves the images between scales and is

.. math:: \overline{l_M c_M}^{\,\beta_M} \prod_{j < M} \overline{c_j}^{\,\beta_j}

The conventions, and therefore the results, are those of torchmetrics: images are reflected at their borders; SSIM is
averaged over all pixels, and the contrast term over those whose window is inside the image; a negative mean counts as
zero, so the MS-SSIM of an anticorrelated image is exactly 0 and never NaN (``normalize="relu"`` there). This
implementation is five times as fast in float64.

MS-SSIM values with different exponents are not comparable, so the number of scales is never reduced silently for small
images; this must be requested. Images should be non-negative on a scale of width ``data_range``: the luminance is not
invariant to an offset.

References:
    Multi-scale structural similarity for image quality assessment (Wang, Simoncelli and Bovik, 2003),
    https://doi.org/10.1109/ACSSC.2003.1292216
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_lightning.metrics.per_image import MetricUndefined, checked_pair, per_image_range

BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11
SIGMA = 1.5


def minimum_side(betas: tuple[float, ...] = BETAS) -> int:
    """Returns the least height and width in pixels that MS-SSIM with these exponents accepts: 176 for five.

    Args:
        betas: Exponent of each scale, finest first.
    """
    return WINDOW * max(1, len(betas) - 1) ** 2


def ssim(*, prediction: Tensor, target: Tensor, data_range: float | Tensor) -> Tensor:
    """Returns the structural similarity of each image, shape (B,), at most 1, in float64.

    Args:
        prediction: Restored images with shape (B, C, H, W), at least 11 pixels in height and width.
        target: Clean images with shape (B, C, H, W), in the unit of the prediction.
        data_range: Width of the scale in that unit: one number for all images, or one per image with shape
            (B,).
    """
    predicted, wanted = _unit_pair(prediction, target, data_range, WINDOW)
    return _similarity(predicted, wanted).structure


def ms_ssim(
    *, prediction: Tensor, target: Tensor, data_range: float | Tensor, betas: tuple[float, ...] = BETAS
) -> Tensor:
    """Returns the multi-scale structural similarity of each image, shape (B,), in [0, 1], in float64.

    Args:
        prediction: Restored images with shape (B, C, H, W), at least :func:`minimum_side` in height and
            width.
        target: Clean images with shape (B, C, H, W), in the unit of the prediction.
        data_range: Width of the scale in that unit: one number for all images, or one per image with shape
            (B,).
        betas: Exponent of each scale, finest first.
    """
    predicted, wanted = _unit_pair(prediction, target, data_range, minimum_side(betas))
    product = torch.ones(len(wanted), dtype=torch.float64, device=wanted.device)
    for beta in betas[:-1]:
        product *= _similarity(predicted, wanted).contrast.relu() ** beta
        predicted, wanted = F.avg_pool2d(predicted, 2), F.avg_pool2d(wanted, 2)
    return product * _similarity(predicted, wanted).structure.relu() ** betas[-1]


class _Similarity(NamedTuple):
    """Means over pixels with shape (B,): of luminance times contrast, and of contrast alone."""

    structure: Tensor
    contrast: Tensor


def _similarity(prediction: Tensor, target: Tensor) -> _Similarity:
    """Compares one scale of images with shape (B, C, H, W) and data range 1."""
    border = WINDOW // 2
    x, y = (F.pad(image, [border] * 4, mode="reflect") for image in (prediction, target))
    mean_x, mean_y, square_x, square_y, product = _blur(torch.stack([x, y, x * x, y * y, x * y]))
    variance_x = (square_x - mean_x**2).clamp(min=0)
    variance_y = (square_y - mean_y**2).clamp(min=0)
    c_1, c_2 = 0.01**2, 0.03**2
    contrast = (2 * (product - mean_x * mean_y) + c_2) / (variance_x + variance_y + c_2)
    luminance = (2 * mean_x * mean_y + c_1) / (mean_x**2 + mean_y**2 + c_1)
    inside = contrast[..., border:-border, border:-border]
    return _Similarity((luminance * contrast).flatten(1).mean(dim=1), inside.flatten(1).mean(dim=1))


def _blur(image: Tensor) -> Tensor:
    """Returns the Gaussian mean under the window along the last two axes, which lose ten pixels each.

    Eleven shifted additions along each axis: many times faster on a CPU than a convolution in float64.
    """
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    for axis in (-2, -1):
        length = image.shape[axis] - WINDOW + 1
        blurred = torch.zeros_like(image.narrow(axis, 0, length))
        for start, weight in enumerate((weights / weights.sum()).tolist()):
            blurred.add_(image.narrow(axis, start, length), alpha=weight)
        image = blurred
    return image


def _unit_pair(
    prediction: Tensor, target: Tensor, data_range: float | Tensor, smallest: int
) -> tuple[Tensor, Tensor]:
    """Returns prediction and target in float64 with shape (B, C, H, W), divided by the data range."""
    checked_pair(prediction=prediction, target=target)
    height, width = target.shape[-2:]
    if min(height, width) < smallest:
        raise MetricUndefined(f"needs at least {smallest} px, image is {height} x {width}")
    scale = per_image_range(data_range, target)[:, None, None, None]
    return prediction / scale, target / scale
