"""Restores the same few validation images every few epochs: a picture and an honest PSNR beside the cheap loss."""

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from ddpm_lightning.diffusion.ensemble import Ensemble
from ddpm_lightning.evaluation.figures import panel
from ddpm_lightning.metrics.protocol import PROTOCOLS
from ddpm_lightning.metrics.psnr import psnr
from ddpm_lightning.models.protocol import draws_of

__all__ = ["SampledValidation"]


class SampledValidation(Callback):
    """Draws the centres of a few fixed validation images, with the averaged weights.

    Logs ``val/psnr_single`` and ``val/psnr_average`` (protocol ``range``), and writes
    ``samples_STEP.png`` with low, one draw, average, spread and target.

    Args:
        folder: Folder of the pictures.
        every_n_epochs: Epochs between drawings; the last epoch of the run is drawn as well.
        images: Number of images.
        crop: Side of the centre in pixels; smaller images are taken whole.
        draws: Draws of each image.
    """

    def __init__(
        self, folder: str, every_n_epochs: int = 5, images: int = 2, crop: int = 192, draws: int = 4
    ) -> None:
        self.folder = Path(folder)
        self.every_n_epochs, self.images, self.crop, self.draws = every_n_epochs, images, crop, draws

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Draws, logs and writes; while validation runs, the averaged weights are in place."""
        last = trainer.global_step >= trainer.estimated_stepping_batches
        if trainer.sanity_checking or (trainer.current_epoch + 1) % self.every_n_epochs and not last:
            return
        rows, scores = [], []
        pairs, normalisation = trainer.datamodule.pairs("val"), trainer.datamodule.normalisation
        chosen = np.unique(np.linspace(0, len(pairs) - 1, self.images).round().astype(int))
        for index in chosen:
            pair = pairs[int(index)]
            low = _centre(normalisation.input.scale(pair.low).normalise(pair.low), self.crop)
            high = _centre(normalisation.target.scale(pair.high).normalise(pair.high), self.crop)
            canvas = torch.from_numpy(low)[None, None].to(pl_module.device)
            ensemble, single = Ensemble(), None
            for draw in draws_of(pl_module, canvas, pair.name, range(self.draws)):
                single = draw if single is None else single
                ensemble.update(draw)
            images = [image.cpu().float() for image in (single, ensemble.mean, ensemble.std)]
            target = torch.from_numpy(high)[None, None]
            scores.append([_psnr(image, target) for image in images[:2]])
            rows.append({"low": low, **_named(images), "target": high})
        single, average = np.mean(scores, axis=0)
        for name, value in (("single", single), ("average", average)):
            pl_module.log(f"val/psnr_{name}", float(value), rank_zero_only=True)
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            panel(rows, self.folder / f"samples_{trainer.global_step:07d}.png")


def _centre(image: np.ndarray, side: int) -> np.ndarray:
    top, left = (max((length - side) // 2, 0) for length in image.shape)
    return image[top : top + side, left : left + side]


def _psnr(prediction: torch.Tensor, target: torch.Tensor) -> float:
    scored = PROTOCOLS["range"].apply(prediction, target)
    return psnr(prediction=scored.prediction, target=scored.target, data_range=scored.data_range).item()


def _named(images: list[torch.Tensor]) -> dict[str, Any]:
    return dict(zip(("single", "average", "std"), (image[0, 0].numpy() for image in images), strict=True))
