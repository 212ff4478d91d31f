r"""Pearson correlation of prediction and target over the pixels of an image.

.. math::
    r = \frac{\sum (\hat y - \bar{\hat y})(y - \bar y)}
    {\sqrt{\sum (\hat y - \bar{\hat y})^2 \sum (y - \bar y)^2}}

It does not depend on gain or offset, so it is the same under every protocol that changes only these. If either image is
constant, it is NaN; the metric class skips and counts such images.
"""

import torch
from torch import Tensor

from ddpm_lightning.metrics.per_image import checked_pair


def pearson(*, prediction: Tensor, target: Tensor) -> Tensor:
    """Returns the correlation coefficient of each image, shape (B,), in [-1, 1], in float64.

    Args:
        prediction: Restored images with shape (B, C, H, W), in any unit.
        target: Clean images with shape (B, C, H, W), in any unit.
    """
    pixels = checked_pair(prediction=prediction, target=target)
    predicted, wanted = (image - image.mean(dim=1, keepdim=True) for image in pixels)
    # Each factor has its own root: the product of two sums of squares underflows for images with tiny values.
    norm = predicted.norm(dim=1) * wanted.norm(dim=1)
    correlation = ((predicted * wanted).sum(dim=1) / norm).clamp(-1, 1)
    constant = [(image == image[:, :1]).all(dim=1) for image in pixels]
    return torch.where(constant[0] | constant[1], torch.nan, correlation)
