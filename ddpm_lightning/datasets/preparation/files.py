"""Files that are whole or absent: written under a temporary name, then renamed; and their hashes."""

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddpm_lightning.utils.atomic import Draft
from ddpm_lightning.utils.errors import UserError

__all__ = ["DiskError", "disk_errors", "require_space", "sha256", "write_json", "write_whole"]


class DiskError(UserError):
    """Nothing can be written there: no space, or no permission. No other file would fare better."""


def sha256(path: Path) -> str:
    """Returns the sha256 of a file, as ``sha256sum`` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file under a hidden name, then renames it."""
    draft = Draft(path)
    try:
        with disk_errors(path):
            draft.begin().write_bytes(content)
            draft.keep()
    finally:
        draft.drop()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file of which every long list has one entry on a line."""
    parts = []
    for key, value in content.items():
        if isinstance(value, list) and len(value) > 4:
            lines = ",\n".join(f"  {json.dumps(entry, allow_nan=False)}" for entry in value)
            parts.append(f" {json.dumps(key)}: [\n{lines}\n ]")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}")
    write_whole(path, ("{\n" + ",\n".join(parts) + "\n}\n").encode())


def require_space(folder: Path, needed: int, what: str) -> None:
    """Makes sure that a file system has room.

    Args:
        folder: Folder to be written to; it need not exist yet.
        needed: Bytes that will be written.
        what: What they are, for the message.

    Raises:
        DiskError: If there is less room.
    """
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DiskError(
            folder,
            f"no space: {what} takes {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free",
            remedy="free some, or choose a folder on another disk with data.root=DIR",
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns the troubles of a file system into one sentence for the user."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        found = "no space: the disk is full" if full else f"cannot be written ({error})"
        remedy = "free some space and run the same command again" if full else "choose another data.root=DIR"
        raise DiskError(path, found, remedy=remedy) from error
