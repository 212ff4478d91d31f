"""One progress bar for a job of many files, whose steps are single tiles that a network sees."""

from collections.abc import Iterable

import torch
from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ddpm_lightning.errors import printable

__all__ = ["Meter"]


class Meter(Progress):
    """Counts tiles against those of the whole job and shows how long it will still take.

    Args:
        total: Tiles of the whole job, of all processes.
        counters: Tiles that each process has done, in memory that they share, with shape (processes,).
        rank: Place of this process among the counters.
        shown: Whether this process shows the bar.
    """

    def __init__(self, total: int, counters: torch.Tensor, rank: int = 0, shown: bool = True) -> None:
        self._counters, self._rank = counters, rank
        self._done = self._expected = 0
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            disable=not shown,
        )
        self.add_task("restoring", total=total)

    def name(self, name: str) -> None:
        """Shows which file is at work."""
        self.update(self.task_ids[0], description=f"restoring {name}")

    def expect(self, tiles: int) -> None:
        """Says how many tiles the plane at hand takes."""
        self._expected = tiles

    def count(self, tiles: int) -> None:
        """Some tiles of the plane at hand are done; never more count than were expected of it."""
        self._counters[self._rank] = min(int(self._counters[self._rank]) + tiles, self._done + self._expected)

    def plane_done(self) -> None:
        """The plane at hand is done, or need not be."""
        self._done += self._expected
        self._counters[self._rank] = self._done

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        self.console.print(printable(line), style="yellow", markup=False, highlight=False, soft_wrap=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Looks at what all processes have done whenever the bar is drawn."""
        for task in self.task_ids:
            self.update(task, completed=int(self._counters.sum()))
        return super().get_renderables()
