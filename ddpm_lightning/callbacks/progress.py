"""One progress bar for the run, with the remaining time; plain lines if there is no terminal."""

import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from ddpm_lightning.utils.progress import EVERY, Remaining, so_far

__all__ = ["Progress"]


class Progress(ProgressBar):
    """Shows optimiser steps, losses and the remaining time: a bar, or a line per minute if there is no terminal.

    Args:
        every: Seconds between two lines.
    """

    def __init__(self, every: float = EVERY) -> None:
        super().__init__()
        self.every = every
        self.console = Console()
        self._bar: Bar | None = None
        self._enabled = True
        self._last = -1

    def disable(self) -> None:
        """Shows nothing; Lightning calls it in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Shows the bar."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar at the current step of the run."""
        self._total = int(trainer.estimated_stepping_batches)
        self._first, self._began = trainer.global_step, time.monotonic()
        self._said = self._began
        if not self._enabled:
            return
        if self.console.is_terminal:
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
            times = (
                TimeElapsedColumn(),
                TextColumn("left"),
                Remaining(),
                TextColumn("{task.fields[losses]}"),
            )
            self._bar = Bar(*columns, *times, console=self.console)
            self._task = self._bar.add_task(
                "training", total=self._total, completed=self._first, first=self._first, losses=""
            )
            self._bar.start()
        else:
            self.console.print(f"training: {self._total} steps, from step {self._first}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advances the bar, or prints a line now and then."""
        if not self._enabled:
            return
        step = trainer.global_step
        if self._bar is not None:
            self._bar.update(self._task, completed=step, losses=self._losses(trainer))
        elif time.monotonic() - self._said >= self.every or step == self._total:
            # Several batches may make a step; the last step is reported once.
            if step == self._total == self._last:
                return
            self._said, self._last = time.monotonic(), step
            progress = so_far(step - self._first, self._total - self._first, self._said - self._began)
            line = f"step {step} of {self._total}   {progress}   {self._losses(trainer)}"
            self.console.print(line, soft_wrap=True, highlight=False)

    def _losses(self, trainer: Trainer) -> str:
        shown = {key: float(value) for key, value in trainer.progress_bar_metrics.items() if key != "v_num"}
        return "  ".join(f"{key} {value:.4f}" for key, value in shown.items())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the bar, so that the error starts on its own line."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
