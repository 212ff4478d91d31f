r"""Peak signal-to-noise ratio, in dB.

.. math:: \mathrm{PSNR} = 10 \log_{10} \frac{R^2}{\mathrm{MSE}}

The range :math:`R` must be given by the caller, because values with different definitions of it are measured on
different scales. It is 255 under the protocol ``paper`` and max - min of the target under ``range``. A prediction that
equals its target has an infinite PSNR.

The scale-invariant PSNR of a prediction whose gain and offset are arbitrary standardises the target and fits
the gain of the centred prediction by least squares:

.. math::
    g = \frac{y - \bar y}{\sigma_y}, \quad p = \hat y - \bar{\hat y}, \quad
    a = \max\left(0, \frac{\sum g p}{\sum p^2}\right), \quad
    \mathrm{SI\text{-}PSNR} =
    10 \log_{10} \frac{((y_{\max} - y_{\min}) / \sigma_y)^2}{\frac{1}{N} \sum (g - a p)^2}

References:
    Content-aware image restoration: pushing the limits of fluorescence microscopy (Weigert et al., 2018),
    https://www.nature.com/articles/s41592-018-0216-7 (fits gain and offset before the comparison).
"""

import torch
from torch import Tensor

from ddpm_lightning.metrics.per_image import checked_pair, mean_squared_error, per_image_range


def psnr(*, prediction: Tensor, target: Tensor, data_range: float | Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio of each image in dB, shape (B,), in float64.

    It is infinite where prediction and target are equal, and NaN where the data range of an image is zero.

    Args:
        prediction: Restored images with shape (B, C, H, W), in any unit.
        target: Clean images with shape (B, C, H, W), in the unit of the prediction.
        data_range: Width of the scale in that unit: one number for all images, or one per image with shape
            (B,).
    """
    error = mean_squared_error(prediction=prediction, target=target)
    return 10 * torch.log10(per_image_range(data_range, target).square() / error)


def scale_invariant_psnr(*, prediction: Tensor, target: Tensor) -> Tensor:
    """Returns the PSNR in dB after the best gain and offset, shape (B,), in float64.

    The gain is at least 0: an inverted image, like a constant one, is scored as the mean of the target. A constant
    target gives NaN.

    Args:
        prediction: Restored images with shape (B, C, H, W), in any unit.
        target: Clean images with shape (B, C, H, W), in any unit.
    """
    predicted, wanted = checked_pair(prediction=prediction, target=target)
    deviation = wanted.std(dim=1, correction=0)
    standardised = (wanted - wanted.mean(dim=1, keepdim=True)) / deviation[:, None]
    centred = predicted - predicted.mean(dim=1, keepdim=True)
    power = centred.square().sum(dim=1)
    gain = torch.where(power > 0, (standardised * centred).sum(dim=1) / power, 0.0).clamp(min=0)
    error = (standardised - gain[:, None] * centred).square().mean(dim=1)
    width = (wanted.amax(dim=1) - wanted.amin(dim=1)) / deviation
    return 10 * torch.log10(width.square() / error)
