r"""Normalised root-mean-square error with a choice of denominators.

.. math:: \mathrm{NRMSE} = \sqrt{\mathrm{MSE}} / D

========== ============================================ ============================================
name       :math:`D`                                    used by
========== ============================================ ============================================
mean       :math:`\bar y`                               the paper (arXiv 2409.12078), on 8-bit values
range      :math:`y_{\max} - y_{\min}`                  our protocol ``range``
euclidean  :math:`\|y\| / \sqrt N`                      scikit-image's default
std        :math:`\sigma_y` (population)                our protocol ``affine``
========== ============================================ ============================================

These are four different metrics; values are comparable only if they have the same denominator, so every table must name
it.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ddpm_lightning.metrics.per_image import checked_pair, mean_squared_error

Denominator = Literal["mean", "range", "euclidean", "std"]

DENOMINATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda wanted: wanted.mean(dim=1),
    "range": lambda wanted: wanted.amax(dim=1) - wanted.amin(dim=1),
    "euclidean": lambda wanted: wanted.square().mean(dim=1).sqrt(),
    "std": lambda wanted: wanted.std(dim=1, correction=0),
}


def nrmse(*, prediction: Tensor, target: Tensor, by: Denominator) -> Tensor:
    """Returns the normalised root-mean-square error of each image, shape (B,), in float64.

    It is NaN where the denominator is not positive.

    Args:
        prediction: Restored images with shape (B, C, H, W), in any unit.
        target: Clean images with shape (B, C, H, W), in the unit of the prediction.
        by: Name of the denominator: ``mean``, ``range``, ``euclidean`` or ``std``, each of the target.
    """
    if by not in DENOMINATORS:
        raise ValueError(f"NRMSE cannot be normalised by {by!r}: choose one of {', '.join(DENOMINATORS)}")
    _, wanted = checked_pair(prediction=prediction, target=target)
    denominator = DENOMINATORS[by](wanted)
    error = mean_squared_error(prediction=prediction, target=target).sqrt()
    return error / torch.where(denominator > 0, denominator, torch.nan)
