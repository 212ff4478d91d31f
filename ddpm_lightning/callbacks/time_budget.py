"""Keeps extra work within a share of the time that a run takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["TimeBudget"]


class TimeBudget:
    """Decides whether work that is due again and again may be done now.

    The work may be done once at any time, which shows what it costs. From then on it may be done whenever all of its
    time, with the time that it took last, stays within the share. The longer the rest takes, the more often that is.

    Args:
        share: Share of the time since :meth:`start` that the work may take, above 0; 1 allows it at any time.
        clock: Returns seconds.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.share, self.clock = share, clock
        self.start()

    def start(self) -> None:
        """Starts to count, from nothing."""
        self._started, self.spent, self.last = self.clock(), 0.0, 0.0

    def allows(self) -> bool:
        """Returns whether the work may be done now."""
        elapsed = self.clock() - self._started
        return self.share >= 1 or not self.spent or self.spent + self.last <= self.share * elapsed

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Counts the time of its body."""
        started = self.clock()
        yield
        self.last = self.clock() - started
        self.spent += self.last
