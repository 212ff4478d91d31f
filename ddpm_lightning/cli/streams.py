"""Standard output and error that outlive whoever reads them.

A reader that has seen enough (``… | head -1``) closes its pipe, and a terminal may be closed or its connection lost. A
job of hours does not end for that: what it still says goes nowhere, and its exit code is that of its work. Nor does it
end where its output goes to a file on a full disk; but then it says so in the end, and its exit code is 2.
"""

import contextlib
import errno
import io
import os
import sys
from typing import Any

__all__ = ["lost", "outlive_readers"]

#: What could not be written although somebody wants it, as on a full disk.
lost: list[str] = []

GONE = (errno.EPIPE, errno.EIO, errno.ECONNRESET, errno.ESTALE)


class _Outliving(io.FileIO):
    """A file that takes everything once its reader has gone."""

    def write(self, content: Any) -> int | None:
        """Writes bytes."""
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
    """Makes this process, and all that it starts, independent of who reads what it says."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            # Started without it: the number must not become that of another file, a checkpoint say.
            with contextlib.suppress(OSError):
                _silence(descriptor)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
            continue
        if stream is not getattr(sys, f"__{name}__") or isinstance(
            getattr(stream.buffer, "raw", None), _Outliving
        ):
            continue  # something else stands there, as in tests and notebooks
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
        # The former stream must not be closed with its descriptor when it is forgotten.
        setattr(sys, f"__{name}__", outliving)
        setattr(sys, name, outliving)
        _kept.append(stream)


_kept: list[Any] = []


def _silence(descriptor: int) -> None:
    """Lets a descriptor lead nowhere; processes that inherit it are not disturbed either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
