r"""Does the restoration keep intensities proportional?

Least squares of the prediction on the target, and the ratio of their total intensities:

.. math:: \hat y \approx s\, y + o, \quad s = \frac{\mathrm{cov}(\hat y, y)}{\mathrm{var}(y)}, \quad
    o = \bar{\hat y} - s \bar y, \quad t = \frac{\sum \hat y}{\sum y}

A restoration fit for quantification has :math:`s = 1`, :math:`o = 0`, :math:`t = 1`. A slope below 1 means that
contrast is reduced. Noise in the prediction does not lower the slope, because the target is the independent variable.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_lightning.metrics.per_image import checked_pair


class Linearity(NamedTuple):
    """Fit of the prediction by the target, each with shape (B,).

    Attributes:
        slope: Gain, 1 is ideal; NaN where the target is constant.
        intercept: Offset in the unit of the images, 0 is ideal; NaN where the target is constant.
        total_intensity_ratio: Sum of the prediction over sum of the target, 1 is ideal; NaN where the latter
            is 0.
    """

    slope: Tensor
    intercept: Tensor
    total_intensity_ratio: Tensor


def linearity(*, prediction: Tensor, target: Tensor) -> Linearity:
    """Returns slope, intercept and ratio of total intensity of each image, in float64.

    Args:
        prediction: Restored images with shape (B, C, H, W), in any unit.
        target: Clean images with shape (B, C, H, W), in the unit of the prediction.
    """
    predicted, wanted = checked_pair(prediction=prediction, target=target)
    predicted_mean, wanted_mean = predicted.mean(dim=1), wanted.mean(dim=1)
    centred = wanted - wanted_mean[:, None]
    variance = centred.square().mean(dim=1)
    varied = (wanted != wanted[:, :1]).any(dim=1)
    slope = (centred * predicted).mean(dim=1) / torch.where(varied, variance, torch.nan)
    ratio = predicted_mean / torch.where(wanted_mean != 0, wanted_mean, torch.nan)
    return Linearity(slope, predicted_mean - slope * wanted_mean, ratio)
