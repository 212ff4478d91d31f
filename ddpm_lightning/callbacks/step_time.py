"""What one optimiser step takes on this machine."""

import statistics
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import STEP_OUTPUT

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
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: STEP_OUTPUT,
        batch: dict,
        batch_idx: int,
    ) -> None:
        """Notes the time."""
        self.reached.append((trainer.global_step, seconds(pl_module.device)))

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Writes the median."""
        if not trainer.is_global_zero:
            return
        counted = self.reached[WARMUP:]
        pairs = zip(counted, counted[1:], strict=False)
        taken = [(later - before) / (step - last) for (last, before), (step, later) in pairs if step > last]
        if taken:
            write_json(self.path, {"seconds_per_step": statistics.median(taken), "steps": len(taken)})
