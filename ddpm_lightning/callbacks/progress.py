"""One progress bar over the whole run, with a time estimate; plain lines where there is no terminal."""

import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)

__all__ = ["Progress"]


class Progress(ProgressBar):
    """Shows optimiser steps, losses and the time that is left.

    Args:
        lines: Number of lines that a whole run prints where there is no terminal.
    """

    def __init__(self, lines: int = 20) -> None:
        super().__init__()
        self.lines = lines
        self.console = Console()
        self._bar: Bar | None = None
        self._enabled = True

    def disable(self) -> None:
        """Shows nothing; Lightning calls it in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Shows the bar."""
        self._enabled = True

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Opens the bar at the step the run stands at."""
        self._total = int(trainer.estimated_stepping_batches)
        self._first, self._began = trainer.global_step, time.monotonic()
        self._next_line = self._first + max(self._total // self.lines, 1)
        if not self._enabled:
            return
        if self.console.is_terminal:
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
            times = (
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[losses]}"),
            )
            self._bar = Bar(*columns, *times, console=self.console)
            self._task = self._bar.add_task("training", total=self._total, completed=self._first, losses="")
            self._bar.start()
        else:
            self.console.print(f"training: {self._total} steps, from step {self._first}")

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        """Moves the bar, or prints a line now and then."""
        if not self._enabled:
            return
        step = trainer.global_step
        if self._bar is not None:
            self._bar.update(self._task, completed=step, losses=self._losses(trainer))
        elif step >= self._next_line:
            self._next_line += max(self._total // self.lines, 1)
            seconds = time.monotonic() - self._began
            left = seconds / max(step - self._first, 1) * (self._total - step)
            self.console.print(
                f"step {step} of {self._total}   {seconds:.0f} s, about {left:.0f} s left   {self._losses(trainer)}",
                soft_wrap=True,
            )

    def _losses(self, trainer: lightning.Trainer) -> str:
        shown = {key: float(value) for key, value in trainer.progress_bar_metrics.items() if key != "v_num"}
        return "  ".join(f"{key} {value:.4f}" for key, value in shown.items())

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Closes the bar."""
        self._close()

    def on_exception(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        """Closes the bar, so that the message that follows stands on a line of its own."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
