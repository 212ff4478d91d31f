"""Progress of tasks of several steps: bars on a terminal, else one line per minute."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from ddpm_lightning.utils.progress import EVERY, Remaining, so_far

__all__ = ["Report", "task_progress"]

#: Called with the name of a task, the number of finished steps, and the number of all steps (0 if unknown).
Report = Callable[[str, int, int], None]


@contextmanager
def task_progress() -> Iterator[Report]:
    """Yields a function that shows the progress of each task."""
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), Remaining(), transient=True
    )
    bars.disable = not bars.console.is_terminal
    with bars:
        tasks: dict[str, TaskID] = {}
        started: dict[str, float] = {}
        printed = time.monotonic()

        def report(task: str, done: int, total: int) -> None:
            nonlocal printed
            now = time.monotonic()
            started.setdefault(task, now)
            if bars.disable and now - printed >= EVERY:
                printed = now
                state = so_far(done, total, now - started[task]) if total > 0 else f"{done}"
                print(f"{task}: {state}", flush=True)
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=None)
            bars.update(tasks[task], completed=done, total=total if total > 0 else None)

        yield report
