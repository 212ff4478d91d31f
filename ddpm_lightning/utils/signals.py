"""Signals that end a job: SIGTERM from a cluster, Ctrl-C, and SIGHUP when a terminal is closed.

A job that is killed by a signal leaves incomplete files, and a folder that appears to be in use on other machines.
Therefore these signals are raised as :class:`~ddpm_lightning.utils.errors.Interrupted`, so that unfinished work is
cleaned up. Signals that are ignored from the start, such as SIGHUP under ``nohup``, stay ignored.
"""

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from ddpm_lightning.utils.errors import Interrupted

__all__ = ["ECHO", "Alarm", "named", "raised", "raises", "taken"]

#: Seconds within which a second signal counts as a repeat of the first: a closing terminal sends SIGHUP twice, and
#: clusters signal both a process group and each of its processes.
ECHO = 1.0
#: Seconds that a job has to end after the second signal before it is killed.
GRACE = 2.0


def named(*names: str) -> list[int]:
    """Returns the numbers of those signals that this system has and that are not ignored."""
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def taken(numbers: Iterable[int], handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Handles signals in a block; does nothing outside the main thread, where this is impossible."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


_raising: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()


def raises(handler: Any) -> bool:
    """Says whether a handler only raises an error."""
    return handler is signal.default_int_handler or handler in _raising


@contextmanager
def raised(*names: str) -> Iterator[None]:
    """Raises these signals as errors in a block; a second signal after :data:`ECHO` seconds kills the process.

    Raises:
        Interrupted: When a signal arrives.
    """
    first: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if first and time.monotonic() - first[0] > ECHO:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not first:
            first.append(time.monotonic())
            raise Interrupted(number)

    _raising.add(stop)
    with taken(named(*names), stop):
        yield


class Alarm:
    """Receives signals even during a long computation of the main thread, when Python runs no handlers.

    Args:
        numbers: The signals; they must have handlers.
        first: Called with the first signal.
        second: Called with the second signal if the process has not ended within :data:`GRACE` seconds; then it exits.
    """

    def __init__(
        self, numbers: Iterable[int], first: Callable[[int], None], second: Callable[[int], None]
    ) -> None:
        self.numbers, self.first, self.second = set(numbers), first, second
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._former = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._closed = threading.Event()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._leave)
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Stops listening."""
        signal.set_wakeup_fd(self._former)
        self._closed.set()
        os.close(self._write)  # the thread reads the end, and closes the other side

    def _leave(self) -> None:
        """Keeps what a forked process is told from this one: the workers of a loader are told to end now and then."""
        if not self._closed.is_set():
            signal.set_wakeup_fd(-1)

    def _listen(self) -> None:
        heard = 0.0
        while content := os.read(self._read, 64):
            if self._former >= 0:
                with suppress(OSError):
                    os.write(self._former, content)
            for number in content:
                if number in self.numbers and not heard:
                    heard = time.monotonic()
                    self.first(number)
                elif number in self.numbers and time.monotonic() - heard > ECHO:
                    # A job that has ended by then may be one of several in this process.
                    if not self._closed.wait(GRACE):
                        self.second(number)
                        os._exit(128 + number)
        os.close(self._read)
