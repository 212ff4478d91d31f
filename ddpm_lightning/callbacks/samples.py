"""Restores the same few validation images every few epochs: honest numbers and a picture beside the cheap loss."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import distributed

from ddpm_lightning.diffusion.ensemble import Ensemble
from ddpm_lightning.evaluation.figures import panel
from ddpm_lightning.metrics.backbone import find_backbone
from ddpm_lightning.metrics.collection import score
from ddpm_lightning.models.protocol import draws_of

__all__ = ["SampledValidation"]

#: What is logged, where it can be had: MS-SSIM needs a crop of 176 pixels, LPIPS its backbone.
WATCHED = ("psnr", "ms_ssim", "lpips", "nrmse", "pearson")


class SampledValidation(Callback):
    """Draws the centres of a few fixed validation images, with the averaged weights.

    Logs ``val/METRIC_single`` and ``val/METRIC_average`` as plain numbers (protocol ``range``, mean over the images),
    and writes ``samples_STEP.png`` with low, one draw, average, target and spread. The images are shared out among the
    processes; nothing is kept from one time to the next.

    Args:
        folder: Folder of the pictures.
        every_n_epochs: Epochs between drawings; the last epoch of the run is drawn as well.
        images: Number of images.
        crop: Side of the centre in pixels; smaller images are taken whole.
        draws: Draws of each image.
        lpips: Whether LPIPS is among the numbers, if its backbone is on this machine.
    """

    def __init__(
        self,
        folder: str,
        every_n_epochs: int = 5,
        images: int = 2,
        crop: int = 192,
        draws: int = 4,
        lpips: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.every_n_epochs, self.images, self.crop, self.draws = every_n_epochs, images, crop, draws
        self.lpips = lpips

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Draws, logs and writes; while validation runs, the averaged weights are in place."""
        last = trainer.global_step >= trainer.estimated_stepping_batches
        if trainer.sanity_checking or (trainer.current_epoch + 1) % self.every_n_epochs and not last:
            return
        found = _gathered(list(self._restored(trainer, pl_module)))
        for name in ("single", "average"):
            for metric in WATCHED:
                values = [scores[name][metric] for _, scores, _ in found if metric in scores[name]]
                if values:
                    value = float(np.mean(values))
                    pl_module.log(f"val/{metric}_{name}", value, rank_zero_only=True)
        if trainer.is_global_zero:
            path = self.folder / f"samples_{trainer.global_step:07d}.png"
            panel([versions for _, _, versions in found], path)

    def _restored(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> Iterator[tuple[int, dict[str, dict[str, float]], dict[str, np.ndarray]]]:
        """Yields place, numbers and versions of the images of this process."""
        pairs, normalisation = trainer.datamodule.pairs("val"), trainer.datamodule.normalisation
        chosen = np.unique(np.linspace(0, len(pairs) - 1, self.images).round().astype(int))
        lpips = _loaded_lpips() if self.lpips else None
        for place in range(trainer.global_rank, len(chosen), trainer.world_size):
            pair = pairs[int(chosen[place])]
            low = _centre(normalisation.input.scale(pair.low).normalise(pair.low), self.crop)
            high = _centre(normalisation.target.scale(pair.high).normalise(pair.high), self.crop)
            canvas = torch.from_numpy(low)[None, None].to(pl_module.device)
            ensemble, single = Ensemble(), None
            for draw in draws_of(pl_module, canvas, pair.name, range(self.draws)):
                single = draw if single is None else single
                ensemble.update(draw)
            # The metrics compute in float64, which MPS has not.
            device = pl_module.device if pl_module.device.type == "cuda" else torch.device("cpu")
            target = torch.from_numpy(high)[None, None].to(device)
            images = {"single": single.to(device), "average": ensemble.mean.float().to(device)}
            scores = {
                name: score(image, target, "range", lpips=lpips).values for name, image in images.items()
            }
            versions = {name: image[0, 0].cpu().numpy() for name, image in images.items()}
            std = ensemble.std[0, 0].float().cpu().numpy()
            yield place, scores, {"low": low, **versions, "target": high, "std": std}


def _gathered(mine: list[tuple]) -> list[tuple]:
    """Returns what all processes found, in order; all of them must call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return mine
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, mine)
    return sorted((entry for part in parts for entry in part), key=lambda entry: entry[0])


def _loaded_lpips() -> Any:
    """Returns the perceptual metric, or ``None`` where its backbone is not on this machine.

    It is loaded anew each time: a copy that stayed would enter the memory of the training.
    """
    if find_backbone() is None:
        return None
    from ddpm_lightning.metrics.lpips import Lpips  # the package is heavy, and not everywhere

    with torch.inference_mode(False):
        return Lpips.load()


def _centre(image: np.ndarray, side: int) -> np.ndarray:
    top, left = (max((length - side) // 2, 0) for length in image.shape)
    return image[top : top + side, left : left + side]
