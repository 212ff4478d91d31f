"""One progress bar for a job of many files, whose steps are single tiles that a network sees."""

import time
from types import TracebackType
from typing import Self

import torch
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Meter"]

#: Seconds between two looks at what other processes have done.
PERIOD = 0.2


class Meter:
    """Counts tiles against those of the whole job and shows how long it will still take.

    Args:
        total: Tiles of the whole job, of all processes.
        counters: Tiles that each process has done, in memory that they share, with shape (processes,).
        rank: Place of this process among the counters.
        shown: Whether this process shows the bar.
    """

    def __init__(self, total: int, counters: torch.Tensor, rank: int = 0, shown: bool = True) -> None:
        self.counters, self.rank, self.shown = counters, rank, shown
        self._base = self._step = 0
        self._latest = 0.0
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            disable=not shown,
        )
        self._task = self.progress.add_task("restoring", total=max(total, 1))

    def name(self, name: str) -> None:
        """Shows which file is at work."""
        self.progress.update(self._task, description=f"restoring {name}")

    def expect(self, step: int) -> None:
        """Says how many tiles the plane at hand takes."""
        self._step = step

    def advance(self, tiles: int) -> None:
        """Some tiles of the plane at hand are done; never more than were expected of it."""
        self._set(min(int(self.counters[self.rank]) + tiles, self._base + self._step))

    def finish(self, tiles: int) -> None:
        """So many tiles are done, or need not be done, since the last call."""
        self._base += tiles
        self._set(self._base)

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        self.progress.console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def _set(self, done: int) -> None:
        self.counters[self.rank] = done
        if self.shown and time.monotonic() - self._latest > PERIOD:
            self._latest = time.monotonic()
            self.progress.update(self._task, completed=int(self.counters.sum()))

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.update(self._task, completed=int(self.counters.sum()))
        self.progress.stop()
