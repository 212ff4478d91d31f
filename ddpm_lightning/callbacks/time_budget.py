"""Limits additional work to a share of the running time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["TimeBudget"]


class TimeBudget:
    """Decides whether recurring work may be done now.

    The first time is always allowed, because it shows how long the work takes. After that, the work is allowed if its
    total time, including another run as long as the last one, stays within the share.

    Args:
        share: Share of the time since :meth:`start` that the work may take, above 0; 1 always allows it.
        clock: Returns the time in seconds.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.share, self.clock = share, clock
        self.start()

    def start(self) -> None:
        """Starts the measurement, and forgets earlier ones."""
        self._started, self.spent, self.last = self.clock(), 0.0, 0.0

    def allows(self) -> bool:
        """Returns whether the work may be done now."""
        elapsed = self.clock() - self._started
        return self.share >= 1 or not self.spent or self.spent + self.last <= self.share * elapsed

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Adds the duration of the block to the time spent."""
        started = self.clock()
        yield
        self.last = self.clock() - started
        self.spent += self.last
