"""Work in a thread beside the window: messages, progress with an estimate, and cancelling."""

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, Literal, TypeVar

from ddpm_lightning.inference.observer import Cancelled
from ddpm_lightning.utils.progress import so_far

__all__ = ["Job", "Progress"]

Result = TypeVar("Result")
Message = TypeVar("Message")


class Progress:
    """How far a job is.

    Attributes:
        total: Steps of the job; 0 before they are known.
        done: Steps that are done.
        doing: What is being done, in words.
    """

    def __init__(self) -> None:
        self.total, self.done, self.doing = 0, 0, ""
        self._began = time.monotonic()

    def begin(self, total: int, doing: str) -> None:
        """Starts to count the steps of the job."""
        self.total, self.done, self.doing, self._began = total, 0, doing, time.monotonic()

    @property
    def fraction(self) -> float:
        """Finished share of the steps, from 0 to 1."""
        return min(self.done / self.total, 1.0) if self.total else 0.0

    def __str__(self) -> str:
        """Says what is being done, how much of it is done, and how long the rest will take."""
        if not self.total:
            return self.doing
        return f"{self.doing}: {so_far(self.done, self.total, time.monotonic() - self._began)}"


class Job(Generic[Message, Result]):
    """Runs a function in a thread of its own.

    The window asks for messages and the state several times a second; the thread never touches the window.

    Args:
        work: The function; it gets the job, and calls :meth:`check` often.

    Attributes:
        state: ``running``, ``finished``, ``cancelled`` or ``failed``.
        progress: How far it is.
        result: What the function returned, once it is finished.
        error: Why it failed.
    """

    def __init__(self, work: "Callable[[Job[Message, Result]], Result]") -> None:
        self.state: Literal["running", "finished", "cancelled", "failed"] = "running"
        self.progress = Progress()
        self.result: Result | None = None
        self.error: Exception | None = None
        self._work, self._cancelled = work, threading.Event()
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work(self)
            self.state = "finished"
        except Cancelled:
            self.state = "cancelled"
        except Exception as error:
            self.error, self.state = error, "cancelled" if self._cancelled.is_set() else "failed"

    def cancel(self) -> None:
        """Asks the function to end."""
        self._cancelled.set()

    @property
    def cancelling(self) -> bool:
        """Whether it was asked to end."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Is called by the function.

        Raises:
            Cancelled: If it shall end.
        """
        if self._cancelled.is_set():
            raise Cancelled

    def send(self, message: Message) -> None:
        """Passes a message to the window."""
        self._messages.put(message)

    def messages(self) -> list[Message]:
        """Returns the messages since the last call."""
        found = []
        while True:
            try:
                found.append(self._messages.get_nowait())
            except Empty:
                return found

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until the function has ended, and returns whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()
