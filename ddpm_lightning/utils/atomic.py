"""Atomic writes: a file is written under a hidden name in the same folder, and renamed once it is complete.

The hidden name is random and must not exist, so no two processes write to the same file, and no existing link is
followed. The content is flushed to the disk before the file is renamed.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ddpm_lightning.utils.errors import UserError

__all__ = [
    "AtomicWriter",
    "DiskError",
    "DiskFull",
    "Fingerprint",
    "atomic_write",
    "create_new",
    "disk_full_errors",
    "fingerprint",
    "is_intact_zip",
    "read_json",
    "read_text",
    "recorded_writes",
    "remove_partials",
    "sha256",
    "write_bytes",
    "write_json",
    "write_text",
]

#: Pattern of the hidden names of this program, which :func:`_hidden` makes.
PARTIAL = re.compile(r"\.(.*)\.[0-9a-f]{16}\.partial", re.DOTALL)
#: Bytes of the name that the hidden name repeats; names may have the maximum length.
REPEATED = 200
#: Maximum size in bytes of the text files that are read; a sparse file of any size takes no disk space.
LARGEST_TEXT = 2**28
FULL = (errno.ENOSPC, errno.EDQUOT)

#: Size and hash of a file or folder: ``{"bytes": …, "sha256": …}``.
Fingerprint = dict[str, Any]
_recorded: ContextVar[dict[str, Fingerprint] | None] = ContextVar("recorded", default=None)


class DiskError(UserError):
    """The folder cannot be written to, so writing other files there would fail too."""


class DiskFull(DiskError):
    """The disk is full."""


@contextmanager
def atomic_write(path: str | Path, folder: bool = False, durable: bool = True) -> Iterator[Path]:
    """Yields a hidden path to write to, which is renamed to the path when the block ends without an error.

    Until then, an existing file is kept. A process that is killed leaves the hidden file behind.

    Args:
        path: The file; its folder is created.
        folder: Whether it is a folder, such as a Zarr image.
        durable: Whether to flush it to the disk; not needed for files that can be recreated and are verified when read.

    Raises:
        DiskFull: If the disk is full.
        OSError: If the file cannot be written for another reason.
    """
    writer = AtomicWriter(path, folder, durable)
    try:
        with disk_full_errors(path):
            yield writer.begin()
            writer.commit()
    finally:
        writer.discard()


class AtomicWriter:
    """:func:`atomic_write` in steps, for writers that do not fit one ``with`` block.

    Args:
        path: The file.
        folder: Whether it is a folder.
        durable: Whether to flush it to the disk.
    """

    def __init__(self, path: str | Path, folder: bool = False, durable: bool = True) -> None:
        self.path, self.folder, self.durable = Path(path), folder, durable
        self._partial: Path | None = None

    def begin(self) -> Path:
        """Creates an empty file or folder under a hidden name, and returns its path."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            os.lstat(self.path)  # raises now, before any work, if the name is too long
        partial = _hidden(self.path)
        if self.folder:
            partial.mkdir()
        else:
            os.close(create_new(partial))
        self._partial = partial
        return partial

    def commit(self) -> None:
        """Flushes the content to the disk and renames the file."""
        partial = self._partial
        assert partial is not None, "begin was not called"
        if self.durable:
            _flush(partial)
        if (recorded := _recorded.get()) is not None:
            recorded[os.path.abspath(self.path)] = fingerprint(partial)
        if self.folder and self.path.is_dir() and not self.path.is_symlink():
            # A folder can only replace an empty one, so the old one is moved away once everything is written.
            old = _hidden(self.path)
            self.path.replace(old)
            partial.replace(self.path)
            _remove(old)
        else:
            partial.replace(self.path)
        self._partial = None
        if self.durable:
            _flush_names(self.path.parent)

    def discard(self) -> None:
        """Removes what was written, unless it was committed."""
        if self._partial is not None:
            _remove(self._partial)
            self._partial = None


def create_new(path: Path) -> int:
    """Creates a new file with default permissions, and returns its descriptor.

    Raises:
        FileExistsError: If the path exists, even as a dangling link.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags, 0o666)


@contextmanager
def disk_full_errors(path: str | Path, size: int | None = None) -> Iterator[None]:
    """Turns errors caused by a full disk, which vary and may not name the file, into :class:`DiskFull`.

    Args:
        path: What is written.
        size: Its size in bytes, if known.

    Raises:
        DiskFull: If the disk is full; it names ``path``.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # numpy reports a short write without an error number.
        full = isinstance(error, OSError) and (error.errno in FULL or "requested and" in str(error))
        # PyTorch and others only report a failed write; their partial file still exists, so the disk is still full.
        if full or (not isinstance(error, MemoryError) and not _has_room(Path(path).parent)):
            room = "some space" if size is None else f"{size / 1e6:.1f} MB of space"
            remedy = f"free {room} and run the same command again, or choose another folder"
            raise DiskFull(path, "the disk is full", remedy=remedy) from error
        raise


def _has_room(folder: Path) -> bool:
    """Says whether there is space for a file in a folder; other errors, such as permissions, count as yes."""
    probe = _hidden(folder / "probe")
    try:
        descriptor = create_new(probe)
    except OSError as error:
        return error.errno not in FULL
    try:
        os.write(descriptor, bytes(1 << 16))
        os.fsync(descriptor)
    except OSError as error:
        return error.errno not in FULL
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)
    return True


def _hidden(path: Path) -> Path:
    return path.with_name(f".{_repeated(path.name)}.{secrets.token_hex(8)}.partial")


def _repeated(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:REPEATED])


def _flush(partial: Path) -> None:
    """Flushes a file, or all files of a folder, to the disk."""
    for file in _files(partial):
        descriptor = os.open(file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _flush_names(folder: Path) -> None:
    """Flushes the names in a folder to the disk, if the system supports it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Removes an unfinished file or folder; a link is removed, not followed."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_partials(folders: Iterable[Path], names: Collection[str] | None = None) -> None:
    """Removes unfinished files of killed processes; call it only while no other process writes these files.

    Args:
        folders: The folders.
        names: Names of the files, without their folders; by default all.
    """
    known = None if names is None else {_repeated(name) for name in names}
    for folder in folders:
        for path in list(folder.iterdir()) if folder.is_dir() else ():
            found = PARTIAL.fullmatch(path.name)
            if found and (known is None or found[1] in known):
                _remove(path)


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, as ``sha256sum`` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> Fingerprint:
    """Returns the size and SHA-256 of a file, or of all names and contents of a folder."""
    if path.is_file():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"bytes": file.tell(), "sha256": digest}
    if not path.is_dir():
        raise OSError(errno.EINVAL, "is neither a file nor a folder", str(path))
    total, size = hashlib.sha256(), 0
    for file in _files(path):
        found = fingerprint(file)
        size += found["bytes"]
        total.update(f"{found['sha256']} {os.fsencode(file.relative_to(path)).hex()}\n".encode())
    return {"bytes": size, "sha256": total.hexdigest()}


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


@contextmanager
def recorded_writes() -> Iterator[dict[str, Fingerprint]]:
    """Records the fingerprint of every file that :func:`atomic_write` writes in this block, by absolute path.

    It is that of the content as written, even if the file changes afterwards.
    """
    recorded: dict[str, Fingerprint] = {}
    token = _recorded.set(recorded)
    try:
        yield recorded
    finally:
        _recorded.reset(token)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes bytes atomically."""
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text atomically, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Writes plain containers atomically, as JSON; numbers must be finite."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_text(path: Path) -> str:
    """Returns the text of an untrusted file in UTF-8.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not a regular file (reading a pipe could block forever), too large, or not UTF-8.
    """
    if not path.is_file() and path.exists():
        raise ValueError(f"{path} is not a file")
    if path.stat().st_size > LARGEST_TEXT:
        raise ValueError(f"{path} is larger than {LARGEST_TEXT} bytes")
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Returns the content of a JSON file; an empty dictionary if the file is missing or is not a JSON object."""
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def is_intact_zip(path: Path) -> bool:
    """Says whether a file is an intact ZIP archive of uncompressed parts, as PyTorch writes checkpoints.

    Compressed or overlapping parts could be a thousand times as large as the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
            small = sum(part.file_size for part in parts) <= path.stat().st_size
            return stored and small and archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError):
        return False
