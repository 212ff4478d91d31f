"""Standard output and error that a job can still write to after their reader has gone.

A reader may close its pipe early (``… | head -1``), and a terminal may be closed or disconnected. A job of hours must
not fail because of that: its further output is discarded, and its exit code is that of its work. If the output goes to
a file on a full disk, the job runs to its end as well, but then reports the loss, and its exit code is 2.
"""

import contextlib
import errno
import io
import os
import sys
from typing import Any

__all__ = ["lost", "outlive_readers"]

#: Streams whose output was lost although a reader exists, for example on a full disk, each with the reason.
lost: list[str] = []

GONE = (errno.EPIPE, errno.EIO, errno.ECONNRESET, errno.ESTALE)


class _Outliving(io.FileIO):
    """A file that discards what is written to it once its reader has gone."""

    def write(self, content: Any) -> int | None:
        """Writes bytes, or discards them; returns their number."""
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in GONE:
                lost.append(f"{self._called}: {(error.strerror or str(error)).lower()}")
            _silence(self.fileno())
            return len(content)

    def __init__(self, descriptor: int, called: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._called = called


def outlive_readers() -> None:
    """Protects this process, and all processes that it starts, from readers of its output that go away."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            # Started without this stream: its number must not be reused for another file, such as a checkpoint.
            with contextlib.suppress(OSError):
                _silence(descriptor)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
            continue
        if stream is not getattr(sys, f"__{name}__") or isinstance(
            getattr(stream.buffer, "raw", None), _Outliving
        ):
            continue  # replaced by something else, as in tests and notebooks
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
        raw = _Outliving(stream.fileno(), "standard output" if name == "stdout" else "standard error")
        outliving = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        # The former stream is kept: when it is collected, it would close the descriptor.
        setattr(sys, f"__{name}__", outliving)
        setattr(sys, name, outliving)
        _kept.append(stream)


_kept: list[Any] = []


def _silence(descriptor: int) -> None:
    """Redirects a descriptor to the null device, also for processes that inherit it."""
    null = os.open(os.devnull, os.O_WRONLY)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
