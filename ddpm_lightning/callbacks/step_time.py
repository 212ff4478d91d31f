"""Duration of an optimiser step on this machine."""

import statistics
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ddpm_lightning.utils.atomic import write_json
from ddpm_lightning.utils.timing import seconds

__all__ = ["StepTime"]

#: First steps, which are not counted: memory is allocated and kernels are chosen.
WARMUP = 3


class StepTime(Callback):
    """Writes ``step_time.json`` with the median seconds of an optimiser step, including the loading of data.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "step_time.json"
        self.reached: list[tuple[int, float]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: dict, batch_idx: int
    ) -> None:
        """Notes the time."""
        self.reached.append((trainer.global_step, seconds(pl_module.device)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the median."""
        if not trainer.is_global_zero:
            return
        counted = self.reached[WARMUP:]
        pairs = zip(counted, counted[1:], strict=False)
        taken = [(later - before) / (step - last) for (last, before), (step, later) in pairs if step > last]
        if taken:
            write_json(self.path, {"seconds_per_step": statistics.median(taken), "steps": len(taken)})
