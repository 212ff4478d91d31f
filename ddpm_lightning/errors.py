"""Errors that a user can mend.

The command line prints a :class:`UserError` without a traceback and leaves with exit code 2. Its message names the
file or the configuration key, what was found, what is allowed, and what to do.
"""

from collections.abc import Iterable
from difflib import SequenceMatcher


class UserError(Exception):
    """Something the user gave cannot be used; the message says what, why, and the way out.

    Args:
        subject: File, folder or configuration key that is at fault.
        found: What was found there.
        allowed: What would have been accepted (may be empty).
        remedy: What to do now.
    """

    def __init__(self, subject: object, found: str, allowed: str = "", remedy: str = "") -> None:
        lines = [f"{subject}: {found}"]
        if allowed:
            lines.append(f"allowed: {allowed}")
        if remedy:
            lines.append(f"what to do: {remedy}")
        super().__init__(printable("\n  ".join(lines)))
        self.subject = subject
        self.found = found
        self.allowed = allowed
        self.remedy = remedy

    def __reduce__(self) -> tuple:
        """Keeps the error picklable, so that it survives a worker process."""
        return type(self), (self.subject, self.found, self.allowed, self.remedy)


def printable(text: str) -> str:
    """Returns a text that can be written anywhere: names of files need not be UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def nearest(found: str, names: Iterable[str], least: float = 0.6) -> list[str]:
    """Returns the names that were probably meant, the likeliest first: at most three, all about as near as the nearest.

    Args:
        found: What was given.
        names: What exists.
        least: Similarity below which nothing is suggested, from 0 to 1 (that of :mod:`difflib`).
    """
    near = {name: SequenceMatcher(None, found.lower(), name.lower()).ratio() for name in names}
    best = max(near.values(), default=0.0)
    chosen = [name for name, ratio in near.items() if ratio >= max(least, best - 0.1)]
    return sorted(chosen, key=lambda name: -near[name])[:3]


def is_out_of_memory(error: BaseException) -> bool:
    """Says whether an error means that memory was too short."""
    words = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(word in str(error).lower() for word in words)


class Interrupted(Exception):
    """A run was told to stop, and stopped; the command line leaves with the exit code that shells use for the signal.

    Args:
        signum: Number of the signal: 15 (SIGTERM) leaves with 143, 2 (SIGINT) with 130.
        message: Where the run stands, and how it goes on.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.code = 128 + signum
