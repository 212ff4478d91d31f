"""Remaining time of a job: a column of the progress bar on a terminal, else one line per minute."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from rich.progress import ProgressColumn, Task
from rich.text import Text

__all__ = ["EVERY", "Lines", "Remaining", "clock", "so_far"]

#: Seconds between two lines if there is no terminal.
EVERY = 60.0


def clock(seconds: float) -> str:
    """Returns a time as hours, minutes and seconds: ``0:05:30``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def so_far(done: float, total: float, seconds: float) -> str:
    """Reports the finished share of a job, the elapsed time, and the estimated remaining time.

    Args:
        done: Finished steps.
        total: Steps of the whole job.
        seconds: Elapsed time.
    """
    if not done:
        return f"0 % after {clock(seconds)}"
    left = max(total - done, 0) * seconds / done
    return f"{min(done / total, 1):.0%} after {clock(seconds)}, about {clock(left)} left"


class Remaining(ProgressColumn):
    """Remaining time at the mean pace so far, available as soon as one step is done."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Returns the time."""
        done = task.completed - task.fields.get("first", 0)  # some steps of a resumed job were done before
        if task.total is None or done <= 0 or task.elapsed is None:
            return Text("-:--:--", style="progress.remaining")
        left = max(task.total - task.completed, 0) * task.elapsed / done
        return Text(clock(left), style="progress.remaining")


class Lines:
    """Prints a line once a minute for the duration of a context, from a separate thread.

    Args:
        line: Returns the line.
        every: Seconds between two lines.
    """

    def __init__(self, line: Callable[[], str], every: float = EVERY) -> None:
        self._line, self._every, self._over = line, every, threading.Event()
        self._thread = threading.Thread(target=self._print, daemon=True)
        self.began = time.monotonic()

    def _print(self) -> None:
        while not self._over.wait(self._every):
            with suppress(OSError, ValueError):  # the reader has gone
                print(self._line(), flush=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
