"""The pace of a training: what one optimiser step costs on this machine."""

import statistics
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback

from ddpm_lightning.utils.atomic import write_json
from ddpm_lightning.utils.timing import seconds

__all__ = ["Pace"]

#: Steps that are not counted: memory is being found, kernels are being chosen.
WARMUP = 3


class Pace(Callback):
    """Writes ``pace.json`` with the median seconds of an optimiser step, loading of data included.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "pace.json"
        self.reached: list[tuple[int, float]] = []

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *arguments: object
    ) -> None:
        """Notes the time."""
        self.reached.append((trainer.global_step, seconds(pl_module.device)))

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Writes what was found."""
        if not trainer.is_global_zero:
            return
        counted = self.reached[WARMUP:]
        pairs = zip(counted, counted[1:], strict=False)
        taken = [(later - before) / (step - last) for (last, before), (step, later) in pairs if step > last]
        if taken:
            write_json(self.path, {"seconds_per_step": statistics.median(taken), "steps": len(taken)})
