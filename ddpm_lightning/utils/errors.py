"""Errors that a user can fix.

The command line prints a :class:`UserError` without a traceback and exits with code 2. Its message names the file or
the configuration key, what was found, what is allowed, and what to do.
"""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

#: Surrogates that do not encode a byte of a file name.
LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
#: Control characters except tabs and line ends, invisible characters, and those that change the text direction.
_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
)
CONTROLS, CONTROLS_AND_LINES = re.compile(f"[{_UNSEEN}]"), re.compile(f"[{_UNSEEN}\t\n]")


class UserError(Exception):
    """Something the user gave cannot be used; the message says what, why, and the way out.

    Args:
        subject: File, folder or configuration key that is at fault.
        found: What was found there.
        allowed: What would have been accepted (may be empty).
        remedy: What to do now.
    """

    def __init__(self, subject: object, found: str, allowed: str = "", remedy: str = "") -> None:
        lines = [f"{printable(subject, lines=False)}: {found}"]
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


def printable(text: object, lines: bool = True) -> str:
    r"""Returns a text that is safe to print on any terminal or write to any file.

    File names and contents need not be UTF-8, and may contain codes that move the cursor, set the title or change the
    text direction: these are shown as ``\x1b``.

    Args:
        text: The text.
        lines: Whether line ends are kept.
    """
    text = LONE.sub("\ufffd", str(text)).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return (CONTROLS if lines else CONTROLS_AND_LINES).sub(lambda found: ascii(found[0])[1:-1], text)


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


def unknown(kind: str, found: str, allowed: Iterable[str]) -> UserError:
    """Returns the error for a name that does not exist, with the nearest ones that do."""
    names = list(allowed)
    near = nearest(found, names)
    remedy = f"did you mean {' or '.join(near)}?" if near else ""
    return UserError(f"{kind} {found!r}", "does not exist", allowed=", ".join(names), remedy=remedy)


def is_out_of_memory(error: BaseException) -> bool:
    """Says whether an error means that memory ran out."""
    words = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(word in str(error).lower() for word in words)


def out_of_memory(subject: object, error: BaseException) -> UserError:
    """Returns the error for a file that does not fit into memory, and may well be intact."""
    said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    remedy = "close other programs, or use a machine with more memory"
    return UserError(subject, f"does not fit into memory ({said})", remedy=remedy)


class Interrupted(BaseException):
    """A job was asked to stop, and stopped; the command exits with the code that shells use for the signal.

    It is not an :class:`Exception`, so handlers of errors such as damaged files do not catch it.

    Args:
        signum: Number of the signal: 15 (SIGTERM) leaves with 143, 2 (SIGINT) with 130, 1 (SIGHUP) with 129.
        message: The step of the run, and how to resume it.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.code = 128 + signum
