"""Restores the same few validation images in every epoch, and logs metrics and images."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from ddpm_lightning.callbacks.panels import show
from ddpm_lightning.callbacks.processes import gathered
from ddpm_lightning.callbacks.time_budget import TimeBudget
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.diffusion.ensemble import Ensemble
from ddpm_lightning.inference.panels import panel
from ddpm_lightning.metrics.collection import perceptual_metric
from ddpm_lightning.metrics.torchmetrics_classes import training_metrics
from ddpm_lightning.models.method import Method
from ddpm_lightning.models.sampling import samples_of
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.instantiate import build
from ddpm_lightning.utils.settings import Count, UpToOne

__all__ = ["ValidationMetrics"]

#: The estimators that are scored, and the suffixes of their metrics: ``val/psnr`` and ``val/psnr_single``.
SUFFIXES = {"average": "", "single": "_single"}
NO_TARGETS = "the validation images have no clean partners"


class ValidationMetrics(Callback):
    """Restores the centres of a few fixed validation images with the averaged weights, and logs their metrics.

    By default PSNR, MS-SSIM, LPIPS, NRMSE and the Pearson correlation are logged, each as the mean over the images:

    * ``val/psnr``, …: of the restored image, which is the average of its samples;
    * ``val/psnr_single``, …: of its first sample alone, for methods with more than one.

    The protocol is ``range`` (:mod:`ddpm_lightning.metrics.protocol`); with ``scale="normalised"``, the data range is
    that of the normalisation instead, which is the scale of the protocol ``paper`` if that is 0 to 255. If a metric
    has no value, the reason is printed once. Images without a clean partner are restored, but not scored.

    **Cost.** Nearly all of the time is spent on sampling: ``images * samples`` restorations of a crop, with the few
    network evaluations of the model's default preset. The first and the last validation of a run are always scored;
    others are skipped if scoring would exceed ``budget``, a share of the running time. If epochs are short, many are
    skipped; if they are long, none.

    **Processes.** Each image is restored by one process, and torchmetrics merges the metrics. Noise is keyed by image
    and sample, so metrics depend neither on the number of processes nor on the epoch, and no random number of the
    training is consumed: its weights are the same with and without this callback, to the last bit.

    **Own metrics.** Any ``torchmetrics.Metric`` with ``update(prediction, target)`` can be added in the configuration::

        callbacks:
          images:
            metrics:
              uqi: {_target_: torchmetrics.image.UniversalImageQualityIndex}

    logs ``val/uqi`` and ``val/uqi_single``. It gets float32 images with shape (1, 1, H, W), scaled so that the target
    fills [0, 1]; the prediction is not clamped. Simple metrics are easiest to write as a subclass of
    :class:`ddpm_lightning.metrics.torchmetrics_classes.PerImageMetric`.

    Args:
        folder: Folder of the figures: ``samples_STEP.png`` shows each image as low, single, average, target and
            standard deviation.
        images: Number of images; ``None`` takes all.
        crop: Side of the centre in pixels; smaller images are used in full. MS-SSIM needs 176, LPIPS 64.
        samples: Samples of each image.
        preset: Preset of the model that chooses the sampler; ``None`` is the first that the model offers.
        budget: Share of the running time that may be spent here, above 0; 1 scores every validation.
        figure_every_n_epochs: Epochs from one figure to the next, if they are scored.
        lpips: Whether LPIPS is computed, if its backbone is on this machine.
        scale: What fills [0, 1] when images are scored: the range of each ``target``, or the ``normalised`` range
            [-1, 1].
        metrics: More metrics by their names in logs.

    Raises:
        UserError: If the budget is not above 0.
    """

    def __init__(
        self,
        folder: str,
        images: Count | None = 2,
        crop: Count = 192,
        samples: Count = 4,
        preset: str | None = None,
        budget: UpToOne = 0.1,
        figure_every_n_epochs: Count = 5,
        lpips: bool = True,
        scale: Literal["target", "normalised"] = "target",
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        if not budget > 0:
            raise UserError(
                "callbacks.images.budget",
                f"is {budget:g}",
                allowed="above 0, such as 0.1 for a tenth of the running time",
                remedy="correct it, or switch these metrics off by callbacks.images=null",
            )
        self.folder, self.images, self.crop, self.samples = Path(folder), images, crop, samples
        self.preset, self.lpips, self.scale, self.metrics = preset, lpips, scale, dict(metrics or {})
        self.budget = TimeBudget(budget)
        self.figure_every_n_epochs = figure_every_n_epochs
        self._last_figure = -figure_every_n_epochs
        self._collections: dict[str, MetricCollection] = {}
        self._printed: set[str] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts to measure the running time."""
        self.budget.start()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores images and logs metrics if the budget allows it; the model has its averaged weights here."""
        if trainer.sanity_checking:
            return
        last = trainer.should_stop or trainer.global_step >= trainer.estimated_stepping_batches
        # Clocks differ between processes, so the first one decides.
        if not trainer.strategy.broadcast(last or self.budget.allows()):
            self._print_once(
                trainer,
                f"restoring and scoring validation images takes {self.budget.last:.1f} s, so val/psnr and the like are"
                f" not computed in every epoch: they may take {self.budget.share:.0%} of the running time"
                " (callbacks.images.budget; 1 computes them in every epoch)",
            )
            return
        with self.budget.measured():
            self._score(trainer, pl_module, last)

    def _score(self, trainer: Trainer, pl_module: LightningModule, with_figure: bool) -> None:
        with_figure |= trainer.current_epoch - self._last_figure >= self.figure_every_n_epochs
        device = pl_module.device if pl_module.device.type == "cuda" else torch.device("cpu")
        method = _with_preset(cast(Method, pl_module.method), self.preset)
        self._prepare_metrics(trainer, method, device)
        images = gathered(list(self._restored(trainer, method, pl_module.device, device)))
        images.sort(key=lambda image: image.place)
        self._log(trainer, pl_module, images)
        if with_figure:
            self._last_figure = trainer.current_epoch
            if trainer.is_global_zero:
                versions = [image.versions for image in images]
                path = self.folder / f"samples_{trainer.global_step:07d}.png"
                panel(versions, path, unit="normalised intensity")
                show(trainer.loggers, trainer.global_step, versions, [image.scores for image in images])

    def _prepare_metrics(self, trainer: Trainer, method: Method, device: torch.device) -> None:
        """Creates the metrics when they are first needed, and resets them."""
        if not self._collections:
            distance = perceptual_metric() if self.lpips else None
            if isinstance(distance, str):
                self._print_once(trainer, f"val/lpips is absent: {distance}")
                distance = None
            for estimator, suffix in SUFFIXES.items():
                if estimator == "single" and method.deterministic:
                    continue
                metrics: dict[str, Metric | MetricCollection] = {
                    **training_metrics(distance),
                    **copy.deepcopy(self.metrics),
                }
                # Metrics whose states happen to be equal would be merged into a compute group.
                collection = MetricCollection(metrics, prefix="val/", postfix=suffix, compute_groups=False)
                self._collections[estimator] = collection.to(device)
        for collection in self._collections.values():
            collection.reset()

    def _restored(
        self, trainer: Trainer, method: Method, device: torch.device, metrics_on: torch.device
    ) -> Iterator["_RestoredImage"]:
        """Yields the images of this process, and adds them to the metrics."""
        data = cast(Any, trainer).datamodule
        pairs = data.pairs("val")
        chosen = np.unique(np.linspace(0, len(pairs) - 1, self.images or len(pairs)).round().astype(int))
        for place in range(trainer.global_rank, len(chosen), trainer.world_size):
            pair = pairs[int(chosen[place])]
            planes, high = _normalised(pair, data.normalisation, self.crop)
            low = planes[0]
            samples = samples_of(
                method, torch.from_numpy(planes)[None].to(device), pair.name, range(self.samples)
            )
            single, average, std = _summary(samples)
            image = _RestoredImage(place, {"low": low, "single": single, "average": average})
            if pair.paired:
                image.versions["target"] = high
                self._add_to_metrics(image, metrics_on)
            if std is not None:
                image.versions["std"] = std
            yield image

    def _add_to_metrics(self, image: "_RestoredImage", device: torch.device) -> None:
        """Scores the average and the single sample of one image."""
        target = image.versions["target"]
        darkest, brightest = (
            (float(target.min()), float(target.max())) if self.scale == "target" else (-1.0, 1.0)
        )
        width = brightest - darkest
        if not width > 0:
            image.reasons = dict.fromkeys(self._names(), "the target is constant")
            return

        def on_unit_scale(version: np.ndarray) -> Tensor:
            return torch.from_numpy((version - np.float32(darkest)) / np.float32(width))[None, None].to(
                device
            )

        for estimator, collection in self._collections.items():
            # Calling a collection returns the values of this image, and adds them to the mean over all.
            values = collection(on_unit_scale(image.versions[estimator]), on_unit_scale(target))
            image.scores[estimator] = {
                name.removeprefix("val/").removesuffix(SUFFIXES[estimator]): float(value)
                for name, value in values.items()
            }
        for name, value in image.scores["average"].items():
            if not np.isfinite(value):
                metric = self._collections["average"][name]
                image.reasons[name] = getattr(metric, "undefined", "") or f"not finite ({value})"
        image.scores = {
            estimator: {name: value for name, value in values.items() if np.isfinite(value)}
            for estimator, values in image.scores.items()
        }

    def _log(self, trainer: Trainer, pl_module: LightningModule, images: list["_RestoredImage"]) -> None:
        """Logs the means over all images of all processes, and says why one is missing; all processes call it."""
        if not any("target" in image.versions for image in images):
            self._print_once(trainer, f"val/psnr and the like are absent: {NO_TARGETS}")
            return
        if any(image.scores for image in images):
            for collection in self._collections.values():
                for name, value in collection.compute().items():
                    if value.isfinite():
                        # All processes have this value already, but may need it to choose the best checkpoint.
                        pl_module.log(name, float(value), sync_dist=True, reduce_fx="max")
        for name in self._names():
            reasons = [image.reasons[name] for image in images if name in image.reasons]
            if reasons:
                scored = "is absent" if len(reasons) == len(images) else "leaves out some images"
                self._print_once(trainer, f"val/{name} {scored}: {reasons[0]}")

    def _names(self) -> list[str]:
        return [str(name) for name in self._collections["average"].keys(keep_base=True)]

    def _print_once(self, trainer: Trainer, line: str) -> None:
        if line not in self._printed:
            trainer.print(line)
        self._printed.add(line)


@dataclass
class _RestoredImage:
    """One restored image.

    Attributes:
        place: Its index among the images that are restored.
        versions: Its versions with shape (H, W), normalised, float32, in the order of the panels.
        scores: Its finite metrics, by estimator and name.
        reasons: Why a metric has no value, by its name.
    """

    place: int
    versions: dict[str, np.ndarray]
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def _with_preset(method: Method, name: str | None) -> Method:
    """Returns a method that shares the weights of the given one, and has the sampler of one of its presets.

    Raises:
        UserError: If the method does not offer the preset.
    """
    presets = method.presets
    if name is not None and name not in presets:
        raise UserError(
            "callbacks.images.preset", f"is {name}", allowed=", ".join(presets), remedy="choose one of these"
        )
    preset = presets[name] if name is not None else next(iter(presets.values()))
    if not preset.sampler:
        return method
    own_package = type(method).__module__.partition(".")[0]
    method = copy.copy(method)
    cast(Any, method).sampler = build(dict(preset.sampler), ("sampler",), (own_package,))
    return method


def _normalised(pair: Pair, normalisation: Any, crop: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the centres of the low image with its neighbours, (C, H, W), and of the high image, normalised."""
    scale, target = normalisation.scales(pair.low, pair.high)
    low = _center(scale.normalise(pair.low), crop)
    around = [
        np.full_like(low, np.nan) if plane is None else _center(scale.normalise(plane), crop)
        for plane in pair.neighbours
    ]
    return np.stack([low, *around]), _center(target.normalise(pair.high), crop)


def _center(image: np.ndarray, side: int) -> np.ndarray:
    top, left = (max((length - side) // 2, 0) for length in image.shape)
    return image[top : top + side, left : left + side]


def _summary(samples: Iterator[Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Returns the first sample, the average, and the standard deviation of more than one, with shape (H, W)."""
    single = next(samples)
    ensemble = Ensemble()
    ensemble.update(single)
    for sample in samples:
        ensemble.update(sample)
    std = _plain(ensemble.std) if ensemble.count > 1 else None
    return _plain(single), _plain(ensemble.mean), std


def _plain(image: Tensor | None) -> np.ndarray:
    assert image is not None, "a method makes at least one sample"
    return image[0, 0].float().cpu().numpy()
