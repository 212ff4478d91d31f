"""Restores the same few validation images every few epochs: honest numbers and a picture beside the cheap loss."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import distributed

from ddpm_lightning.callbacks.panels import show
from ddpm_lightning.diffusion.ensemble import Ensemble
from ddpm_lightning.metrics.collection import Score, perceptual_metric, score
from ddpm_lightning.models.protocol import samples_of
from ddpm_lightning.reporting.panels import panel
from ddpm_lightning.utils.settings import Count

__all__ = ["SampledValidation"]

#: What is logged, where it can be had: MS-SSIM needs a crop of 176 pixels, LPIPS its backbone.
WATCHED = ("psnr", "ms_ssim", "lpips", "nrmse", "pearson")


class SampledValidation(Callback):
    """Draws the centres of a few fixed validation images, with the averaged weights.

    Logs ``val/METRIC_single`` and ``val/METRIC_average`` as plain numbers (protocol ``range``, mean over the images),
    and writes ``samples_STEP.png`` with low, one sample, average, target and spread. The images are shared out among
    the processes, each to one of them; no number is kept from one time to the next. Why a metric is absent is said
    once. Images without a clean partner are drawn alone.

    Most of the cost is drawing: ``images * samples`` restorations of a crop each time. Scoring a crop of 192 pixels
        takes
    0.01 s of one core, LPIPS 0.04 s more and 0.7 s to load it.

    Args:
        folder: Folder of the pictures.
        every_n_epochs: Epochs between drawings; the last epoch of the run is drawn as well.
        images: Number of images.
        crop: Side of the centre in pixels; smaller images are taken whole.
        samples: Samples of each image.
        lpips: Whether LPIPS is among the numbers, if its backbone is on this machine.
    """

    def __init__(
        self,
        folder: str,
        every_n_epochs: Count = 5,
        images: Count = 2,
        crop: Count = 192,
        samples: Count = 4,
        lpips: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.every_n_epochs, self.images, self.crop, self.samples = every_n_epochs, images, crop, samples
        self.lpips = lpips
        self._told: set[str] = set()

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Samples, logs and writes; while validation runs, the averaged weights are in place."""
        last = trainer.global_step >= trainer.estimated_stepping_batches
        if trainer.sanity_checking or (trainer.current_epoch + 1) % self.every_n_epochs and not last:
            return
        found = _gathered(list(self._restored(trainer, pl_module)))
        for name in ("single", "average"):
            for metric in WATCHED:
                values = [s[name].values[metric] for _, s, _ in found if s and metric in s[name].values]
                if values:
                    value = float(np.mean(values))
                    pl_module.log(f"val/{metric}_{name}", value, rank_zero_only=True)
        if trainer.is_global_zero:
            self._tell(trainer, [scores["average"].absent for _, scores, _ in found if scores])
            path = self.folder / f"samples_{trainer.global_step:07d}.png"
            images = [versions for _, _, versions in found]
            panel(images, path, unit="normalised intensity")
            numbers = [{name: score.values for name, score in scores.items()} for _, scores, _ in found]
            show(trainer.loggers, trainer.global_step, images, numbers)

    def _tell(self, trainer: lightning.Trainer, absent: list[dict[str, str]]) -> None:
        """Says once why a metric that is watched is absent."""
        wanted = [metric for metric in WATCHED if metric != "lpips" or self.lpips]
        reasons = {
            f"val/{metric} is absent: {found[metric]}"
            for found in absent
            for metric in wanted
            if metric in found
        }
        for reason in sorted(reasons - self._told):
            trainer.print(reason)
        self._told |= reasons

    def _restored(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> Iterator[tuple[int, dict[str, Score], dict[str, np.ndarray]]]:
        """Yields place, numbers and versions of the images of this process."""
        pairs, normalisation = trainer.datamodule.pairs("val"), trainer.datamodule.normalisation
        chosen = np.unique(np.linspace(0, len(pairs) - 1, self.images).round().astype(int))
        # Loaded anew each time: a copy that stayed would enter the memory of the training.
        lpips = perceptual_metric() if self.lpips else None
        for place in range(trainer.global_rank, len(chosen), trainer.world_size):
            pair = pairs[int(chosen[place])]
            scales = normalisation.scales(pair.low, pair.high)
            low, high = (
                _centre(scale.normalise(image), self.crop)
                for scale, image in zip(scales, (pair.low, pair.high), strict=True)
            )
            canvas = torch.from_numpy(low)[None, None].to(pl_module.device)
            ensemble, single = Ensemble(), None
            for sample in samples_of(pl_module, canvas, pair.name, range(self.samples)):
                single = sample if single is None else single
                ensemble.update(sample)
            # The metrics compute in float64, which MPS has not.
            device = pl_module.device if pl_module.device.type == "cuda" else torch.device("cpu")
            images = {"single": single.to(device), "average": ensemble.mean.float().to(device)}
            versions = {"low": low} | {name: image[0, 0].cpu().numpy() for name, image in images.items()}
            scores: dict[str, Score] = {}
            if pair.paired:
                target = torch.from_numpy(high)[None, None].to(device)
                scores = {name: score(image, target, "range", lpips=lpips) for name, image in images.items()}
                versions["target"] = high
            if ensemble.count > 1:
                versions["std"] = ensemble.std[0, 0].float().cpu().numpy()
            yield place, scores, versions


def _gathered(mine: list[tuple]) -> list[tuple]:
    """Returns what all processes found, in order; all of them must call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return mine
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, mine)
    return sorted((entry for part in parts for entry in part), key=lambda entry: entry[0])


def _centre(image: np.ndarray, side: int) -> np.ndarray:
    top, left = (max((length - side) // 2, 0) for length in image.shape)
    return image[top : top + side, left : left + side]
