r"""What all metrics share: one value per image, computed in float64.

Pooling squared errors over all pixels of a data set and averaging a metric over its images give different results. The
restoration literature uses the average:

.. math:: \bar m = \frac{1}{n} \sum_{i=1}^{n} m(\hat y_i, y_i)

So every metric is a pure function of tensors with shape (B, C, H, W) that returns shape (B,).
``torchmetrics_classes.py`` turns those that are logged during training into classes that average over images and
processes; only that file imports torchmetrics.
"""

import torch
from einops import rearrange
from torch import Tensor

__all__ = ["MetricUndefined", "checked_pair", "mean_squared_error", "per_image_range"]


class MetricUndefined(ValueError):
    """A metric has no value for these images, for example because they are too small; the text says why."""


def checked_pair(*, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both images in float64 with shape (B, C * H * W).

    Args:
        prediction: Restored images with shape (B, C, H, W), in any unit.
        target: Clean images with shape (B, C, H, W), in the unit of the prediction.
    """
    if prediction.shape != target.shape or prediction.dim() != 4:
        raise ValueError(
            f"prediction has shape {tuple(prediction.shape)} and target {tuple(target.shape)}: "
            "metrics compare two tensors of one shape (B, C, H, W)"
        )
    predicted, wanted = (rearrange(image.double(), "b c h w -> b (c h w)") for image in (prediction, target))
    return predicted, wanted


def mean_squared_error(*, prediction: Tensor, target: Tensor) -> Tensor:
    """Returns the mean squared error of each image, shape (B,), in float64.

    Args:
        prediction: Restored images with shape (B, C, H, W), in any unit.
        target: Clean images with shape (B, C, H, W), in the unit of the prediction.
    """
    predicted, wanted = checked_pair(prediction=prediction, target=target)
    return (predicted - wanted).square().mean(dim=1)


def per_image_range(data_range: float | Tensor, target: Tensor) -> Tensor:
    """Returns the data range as a float64 tensor with shape (B,); NaN where it is not positive.

    Args:
        data_range: Width of the scale of the values: one positive number, or one per image with shape (B,).
        target: Images with shape (B, C, H, W) that the range belongs to.
    """
    if not isinstance(data_range, Tensor) and not data_range > 0:
        raise ValueError(
            f"data_range is {data_range}: it must be positive (255 for 8 bit, or max - min of the target)"
        )
    width = torch.as_tensor(data_range, dtype=torch.float64, device=target.device).expand(len(target))
    return torch.where(width > 0, width, torch.nan)
