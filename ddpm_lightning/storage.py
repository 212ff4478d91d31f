"""Files that appear whole or not at all: written under a hidden name beside their place, then renamed.

The hidden name cannot be guessed and is made new, so no two processes write to the same file, and a link that somebody
left there is not followed. The content reaches the disk before the file takes its name.
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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ddpm_lightning.errors import UserError

__all__ = [
    "DiskFull",
    "Draft",
    "Print",
    "disk_full_named",
    "new_file",
    "noted",
    "print_of",
    "read_json",
    "remove_partials",
    "text_of",
    "whole",
    "whole_zip",
    "write_bytes",
    "write_json",
    "write_text",
]

#: What tells the hidden names of this program from others; :func:`_hidden` makes them.
PARTIAL = re.compile(r"\..*\.[0-9a-f]{16}\.partial")
#: Bytes of a name that its hidden name repeats: a name may be as long as names can be.
REPEATED = 200
#: No record of this program is larger; a sparse file of any size takes no room.
LARGEST_TEXT = 2**28
FULL = (errno.ENOSPC, errno.EDQUOT)

#: Size and hash of a file or folder: ``{"bytes": …, "sha256": …}``.
Print = dict[str, Any]
_noted: ContextVar[dict[str, Print] | None] = ContextVar("noted", default=None)


class DiskFull(UserError):
    """There is no room: no other file would fare better."""


@contextmanager
def whole(path: str | Path, folder: bool = False, lasting: bool = True) -> Iterator[Path]:
    """Gives the name under which to write a file, which takes its own name when the block ends without an error.

    What was there before stays until then. A process that is killed leaves the hidden file behind.

    Args:
        path: The file; its folder is made.
        folder: Whether it is a folder, as the images of Zarr are.
        lasting: Whether to wait for the disk; not for what can be made again and is checked when it is read.

    Raises:
        DiskFull: If the disk is full.
        OSError: If the file cannot be written for another reason.
    """
    draft = Draft(path, folder, lasting)
    try:
        with disk_full_named(path):
            yield draft.begin()
            draft.keep()
    finally:
        draft.drop()


class Draft:
    """A file that is being written, for writers that are no single block; others take :func:`whole`.

    Args:
        path: The file.
        folder: Whether it is a folder.
        lasting: Whether to wait for the disk.
    """

    def __init__(self, path: str | Path, folder: bool = False, lasting: bool = True) -> None:
        self.path, self.folder, self.lasting = Path(path), folder, lasting
        self._partial: Path | None = None

    def begin(self) -> Path:
        """Makes an empty file or folder under a hidden name, and returns that."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            os.lstat(self.path)  # a name that is too long is refused before the work
        partial = _hidden(self.path)
        if self.folder:
            partial.mkdir()
        else:
            os.close(new_file(partial))
        self._partial = partial
        return partial

    def keep(self) -> None:
        """Gives the file its name, when its content has reached the disk."""
        if self.lasting:
            _settle(self._partial)
        if (prints := _noted.get()) is not None:
            prints[os.path.abspath(self.path)] = print_of(self._partial)
        if self.folder and self.path.is_dir() and not self.path.is_symlink():
            # A folder takes the place of an empty one only: what was there gives way when all is written.
            aside = _hidden(self.path)
            self.path.replace(aside)
            self._partial.replace(self.path)
            _remove(aside)
        else:
            self._partial.replace(self.path)
        self._partial = None
        if self.lasting:
            _settle_names(self.path.parent)

    def drop(self) -> None:
        """Removes what was written, unless it was kept."""
        if self._partial is not None:
            _remove(self._partial)
            self._partial = None


def new_file(path: Path) -> int:
    """Makes a file that was not there, with the ordinary permissions, and returns its descriptor.

    Raises:
        FileExistsError: If anything is there, a link that leads nowhere included.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags, 0o666)


@contextmanager
def disk_full_named(path: str | Path, size: int | None = None) -> Iterator[None]:
    """Turns the errors of a full disk, which name no file or are of another kind, into one that does.

    Args:
        path: What is written.
        size: Bytes that it takes, where they are known.

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
        # Torch and others say only that a write failed. What they wrote is still there, and so is the want of room.
        if full or (not isinstance(error, MemoryError) and not _has_room(Path(path).parent)):
            room = "room" if size is None else f"{size / 1e6:.1f} MB of room"
            remedy = f"make {room} and run the same command again, or choose another folder"
            raise DiskFull(path, "the disk is full", remedy=remedy) from error
        raise


def _has_room(folder: Path) -> bool:
    """Says whether a file can be written to a folder; whoever may not write there has another trouble."""
    probe = _hidden(folder / "probe")
    try:
        descriptor = new_file(probe)
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
    name = os.fsdecode(os.fsencode(path.name)[:REPEATED])
    return path.with_name(f".{name}.{secrets.token_hex(8)}.partial")


def _settle(partial: Path) -> None:
    """Waits until a file, or all files of a folder, are on the disk."""
    for file in _files(partial):
        descriptor = os.open(file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _settle_names(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the system can."""
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
    """Removes what was begun; a link is removed and not followed."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_partials(folders: Iterable[Path]) -> None:
    """Removes what killed processes left half-written in some folders; call it while nobody else writes there."""
    for folder in folders:
        if folder.is_dir():
            for path in [path for path in folder.iterdir() if PARTIAL.fullmatch(path.name)]:
                _remove(path)


def print_of(path: Path) -> Print:
    """Returns size and sha256 of a file, or of all names and contents of a folder."""
    if path.is_file():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"bytes": file.tell(), "sha256": digest}
    if not path.is_dir():
        raise OSError(errno.EINVAL, "is neither a file nor a folder", str(path))
    total, size = hashlib.sha256(), 0
    for file in _files(path):
        found = print_of(file)
        size += found["bytes"]
        total.update(f"{found['sha256']} {os.fsencode(file.relative_to(path)).hex()}\n".encode())
    return {"bytes": size, "sha256": total.hexdigest()}


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


@contextmanager
def noted() -> Iterator[dict[str, Print]]:
    """Notes size and hash of every file that is written by :func:`whole` in this block, by its absolute path.

    They are those of what was written, whatever lies under the name afterwards.
    """
    prints: dict[str, Print] = {}
    token = _noted.set(prints)
    try:
        yield prints
    finally:
        _noted.reset(token)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes bytes."""
    with whole(path) as partial:
        partial.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Writes plain containers; numbers must be finite."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def text_of(path: Path) -> str:
    """Returns the text of a file in UTF-8 that may come from a stranger.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no ordinary file, which could be waited for without end, or gigantic, or no text.
    """
    if not path.is_file() and path.exists():
        raise ValueError(f"{path} is not a file")
    if path.stat().st_size > LARGEST_TEXT:
        raise ValueError(f"{path} is larger than {LARGEST_TEXT} bytes")
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Returns what a JSON file holds; nothing, if it is not there or was not written by us."""
    try:
        content = json.loads(text_of(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def whole_zip(path: Path) -> bool:
    """Says whether a file is a sound zip archive whose parts are stored as they are, as PyTorch writes checkpoints.

    Parts that are packed, or that share their bytes, could be a thousand times as large as the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
            small = sum(part.file_size for part in parts) <= path.stat().st_size
            return stored and small and archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError):
        return False
