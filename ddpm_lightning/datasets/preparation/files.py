"""Files of the preparation: written atomically; errors of the disk stop the preparation, whatever ``on_error`` says."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddpm_lightning.utils.atomic import DiskError, DiskFull, disk_full_errors, write_bytes

__all__ = ["disk_errors", "require_space", "write_file", "write_json"]


def write_file(path: Path, content: bytes) -> None:
    """Writes a file atomically.

    Raises:
        DiskError: If it cannot be written.
    """
    with disk_errors(path):
        write_bytes(path, content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file with one entry per line in every long list."""
    parts = []
    for key, value in content.items():
        if isinstance(value, list) and len(value) > 4:
            lines = ",\n".join(f"  {json.dumps(entry, allow_nan=False)}" for entry in value)
            parts.append(f" {json.dumps(key)}: [\n{lines}\n ]")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}")
    write_file(path, ("{\n" + ",\n".join(parts) + "\n}\n").encode())


def require_space(folder: Path, needed: int, what: str) -> None:
    """Checks that the disk has enough space.

    Args:
        folder: Folder to be written to; it need not exist yet.
        needed: Bytes that will be written.
        what: What they are, for the message.

    Raises:
        DiskFull: If there is less space.
    """
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DiskFull(
            folder,
            f"no space: {what} needs {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free",
            remedy="free some space, or choose a folder on another disk with data.root=DIR",
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns errors of the file system into :class:`DiskError`, which names the file."""
    try:
        with disk_full_errors(path):
            yield
    except OSError as error:
        raise DiskError(
            path, f"cannot be written ({error})", remedy="choose another data.root=DIR"
        ) from error
