r"""One value per image, then the mean over images.

Pooling squared errors over all pixels of a data set and averaging a metric over its images are different
numbers; the literature on restoration means the second:

.. math:: \bar m = \frac{1}{n} \sum_{i=1}^{n} m(\hat y_i, y_i)

Here every metric is a pure function of tensors with shape (B, C, H, W) that returns shape (B,), and
:class:`PerImageMetric` turns such a function into a ``torchmetrics.Metric`` that sums over images. Its states
are sums, so they merge over any number of processes with any number of images each, and images may differ in
size from one update to the next.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


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
    return prediction.double().flatten(1), target.double().flatten(1)


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


class PerImageMetric(Metric):
    """Mean over images of a function of prediction and target.

    Subclasses set ``function``, a pure function with keyword arguments ``prediction`` and ``target`` that
    returns one value per image. Its further arguments are given to the constructor (the same for all images)
    or to ``update`` (different for each batch). Values that are not finite are left out of the mean and
    counted in ``skipped``.

    Args:
        settings: Further arguments of ``function``; what it does not know goes to ``torchmetrics.Metric``.
    """

    function: Callable[..., Tensor]
    full_state_update = False
    is_differentiable = False
    total: Tensor
    count: Tensor
    skipped: Tensor

    def __init__(self, **settings: Any) -> None:
        known = inspect.signature(self.function).parameters
        super().__init__(**{name: value for name, value in settings.items() if name not in known})
        self.settings = {name: value for name, value in settings.items() if name in known}
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("skipped", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, *, prediction: Tensor, target: Tensor, **settings: Any) -> None:
        """Adds the images of one batch.

        Args:
            prediction: Restored images with shape (B, C, H, W).
            target: Clean images with shape (B, C, H, W).
            settings: Further arguments of ``function`` for this batch, such as ``data_range`` with shape
                (B,).
        """
        values = self.function(prediction=prediction, target=target, **{**self.settings, **settings}).double()
        finite = values.isfinite()
        self.total += values[finite].sum()
        self.count += finite.sum()
        self.skipped += (~finite).sum()

    def compute(self) -> Tensor:
        """Returns the mean over all images seen; NaN when none had a finite value."""
        return self.total / self.count if self.count else torch.full_like(self.total, torch.nan)
