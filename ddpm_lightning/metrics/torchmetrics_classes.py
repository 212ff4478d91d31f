"""The metrics that are logged during training, as ``torchmetrics`` classes.

Each class averages a function of this package over images. Its states are sums, so torchmetrics merges them over any
number of processes with any number of images each, and images may differ in size from one update to the next.

The classes have the interface of torchmetrics' own image metrics, ``update(prediction, target)``, and expect the same
scale, so any class of torchmetrics can be logged beside them: the target fills [0, 1], and the prediction is on that
scale but not clamped. On this scale the numbers are those of the protocol ``range``.

References:
    TorchMetrics - Measuring Reproducibility in PyTorch (Detlefsen et al., 2022), https://doi.org/10.21105/joss.04101
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ddpm_lightning.metrics.collection import UNDEFINED
from ddpm_lightning.metrics.mae import mae
from ddpm_lightning.metrics.nrmse import Denominator, nrmse
from ddpm_lightning.metrics.pearson import pearson
from ddpm_lightning.metrics.per_image import MetricUndefined
from ddpm_lightning.metrics.psnr import psnr
from ddpm_lightning.metrics.ssim import ms_ssim

if TYPE_CHECKING:  # the package behind it is heavy and optional
    from ddpm_lightning.metrics.lpips import Lpips

__all__ = [
    "LPIPS",
    "MAE",
    "MSSSIM",
    "NRMSE",
    "PSNR",
    "PearsonCorrelation",
    "PerImageMetric",
    "training_metrics",
]


class PerImageMetric(Metric):
    """Mean over images of a metric that has one value per image.

    Subclasses implement :meth:`values`. Images without a finite value are left out of the mean and counted in
    ``skipped``.

    Args:
        settings: Arguments of ``torchmetrics.Metric``.

    Attributes:
        undefined: Why the last image without a value has none; empty if all images have one.
    """

    full_state_update = False
    is_differentiable = False
    #: What a value means that is not finite.
    not_finite = "not finite"
    total: Tensor
    count: Tensor
    skipped: Tensor

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.undefined = ""
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("skipped", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    @abstractmethod
    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns the value of each image, shape (B,); NaN or infinite where there is none.

        Args:
            prediction: Restored images with shape (B, C, H, W).
            target: Clean images with shape (B, C, H, W), in the unit of the prediction.

        Raises:
            MetricUndefined: If none of these images can have a value.
        """

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Adds the images of one batch.

        Args:
            prediction: Restored images with shape (B, C, H, W).
            target: Clean images with shape (B, C, H, W), in the unit of the prediction.
        """
        try:
            values = self.values(prediction, target).double()
        except MetricUndefined as error:
            values, self.undefined = self.total.new_full((len(target),), torch.nan), str(error)
        else:
            if not values.isfinite().all():
                self.undefined = self.not_finite
        finite = values.isfinite()
        self.total += values[finite].sum()
        self.count += finite.sum()
        self.skipped += (~finite).sum()

    def compute(self) -> Tensor:
        """Returns the mean over all images seen; NaN if none had a finite value."""
        return self.total / self.count if self.count else torch.full_like(self.total, torch.nan)


class MAE(PerImageMetric):
    """Mean over images of :func:`ddpm_lightning.metrics.mae.mae`; smaller is better."""

    higher_is_better = False

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns the mean absolute error of each image, shape (B,)."""
        return mae(prediction=prediction, target=target)


class PSNR(PerImageMetric):
    """Mean over images of :func:`ddpm_lightning.metrics.psnr.psnr`, in dB.

    Args:
        data_range: Width of the scale of the images.
        settings: Arguments of ``torchmetrics.Metric``.
    """

    higher_is_better = True
    not_finite = UNDEFINED["psnr"]

    def __init__(self, *, data_range: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.data_range = data_range

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns the PSNR of each image in dB, shape (B,)."""
        return psnr(prediction=prediction, target=target, data_range=self.data_range)


class MSSSIM(PerImageMetric):
    """Mean over images of :func:`ddpm_lightning.metrics.ssim.ms_ssim`, after clamping both to [0, ``data_range``].

    Args:
        data_range: Width of the scale of the images.
        settings: Arguments of ``torchmetrics.Metric``.
    """

    higher_is_better = True

    def __init__(self, *, data_range: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.data_range = data_range

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns the MS-SSIM of each image, shape (B,), in [0, 1]."""
        prediction, target = (image.clamp(0, self.data_range) for image in (prediction, target))
        return ms_ssim(prediction=prediction, target=target, data_range=self.data_range)


class LPIPS(PerImageMetric):
    """Mean over images of the perceptual distance of images in [0, 1]; smaller is better.

    Args:
        distance: The distance with its weights, see :func:`ddpm_lightning.metrics.collection.perceptual_metric`.
        settings: Arguments of ``torchmetrics.Metric``.
    """

    higher_is_better = False

    def __init__(self, distance: "Lpips", **settings: Any) -> None:
        super().__init__(**settings)
        self.distance = distance

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns the LPIPS of each image, shape (B,)."""
        return self.distance(prediction=2 * prediction - 1, target=2 * target - 1)


class NRMSE(PerImageMetric):
    """Mean over images of :func:`ddpm_lightning.metrics.nrmse.nrmse`; smaller is better.

    Args:
        by: Name of the denominator: ``mean``, ``range``, ``euclidean`` or ``std`` of the target.
        settings: Arguments of ``torchmetrics.Metric``.
    """

    higher_is_better = False
    not_finite = UNDEFINED["nrmse"]

    def __init__(self, *, by: Denominator, **settings: Any) -> None:
        super().__init__(**settings)
        self.by: Denominator = by

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns the NRMSE of each image, shape (B,)."""
        return nrmse(prediction=prediction, target=target, by=self.by)


class PearsonCorrelation(PerImageMetric):
    """Mean over images of :func:`ddpm_lightning.metrics.pearson.pearson`."""

    higher_is_better = True
    not_finite = UNDEFINED["pearson"]

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns the correlation coefficient of each image, shape (B,), in [-1, 1]."""
        return pearson(prediction=prediction, target=target)


def training_metrics(distance: "Lpips | None" = None) -> dict[str, Metric]:
    """Returns new metrics by their names in logs, for targets that fill [0, 1] (protocol ``range``).

    Args:
        distance: LPIPS with its weights; ``None`` leaves it out.
    """
    metrics: dict[str, Metric] = {"psnr": PSNR(data_range=1.0), "ms_ssim": MSSSIM(data_range=1.0)}
    if distance is not None:
        metrics["lpips"] = LPIPS(distance)
    return metrics | {"nrmse": NRMSE(by="range"), "pearson": PearsonCorrelation()}
