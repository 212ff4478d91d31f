"""One progress bar for a job of many files or images; it counts the tiles that the network has processed."""

import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

import torch
from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ddpm_lightning.utils.errors import printable
from ddpm_lightning.utils.progress import EVERY, Lines, Remaining, so_far

__all__ = ["Meter"]

T = TypeVar("T")


class Meter(Progress):
    """Counts tiles against those of the whole job and shows how long it will still take.

    Where there is no terminal, it prints a line a minute.

    Args:
        total: Tiles of the whole job, of all processes.
        counters: Tiles that each process has done, in memory that they share, with shape (processes,).
        rank: Place of this process among the counters.
        shown: Whether this process shows the bar.
        doing: What is being done.
        every: Seconds between two lines where there is no terminal.
    """

    def __init__(
        self,
        total: int,
        counters: torch.Tensor,
        rank: int = 0,
        shown: bool = True,
        doing: str = "restoring",
        every: float = EVERY,
    ) -> None:
        self._total, self._counters, self._rank, self._doing = total, counters, rank, doing
        self._done = self._expected = 0
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            Remaining(),
        )
        self._lines = Lines(self._line, every) if shown and not self.console.is_terminal else None
        self.disable = not shown or self._lines is not None
        self.add_task(doing, total=total)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._lines is not None:
            self._lines.__enter__()
        return super().__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        super().__exit__(exc_type, exc_val, exc_tb)
        if self._lines is not None:
            self._lines.__exit__()

    def _line(self) -> str:
        done = so_far(int(self._counters.sum()), self._total, time.monotonic() - self._began)
        return f"{self.tasks[0].description}: {done}"

    def name(self, name: str) -> None:
        """Shows which file is at work."""
        self.update(self.task_ids[0], description=f"{self._doing} {name}")

    def over(self, items: Sequence[T], tiles: int) -> Iterator[T]:
        """Yields items, each of which takes this many tiles."""
        for item in items:
            self.expect(tiles)
            yield item
            self.plane_done()

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
