"""Checkpoints as files: written completely or not at all, and checked for damage before they are used.

Lightning writes to a temporary file as well, but in the temporary folder of the system. If that is on another disk, the
file is then copied, and killing the process truncates the copy. Here the temporary file is in the folder of the
checkpoint, and is on the disk before it is renamed, so a file with the name of a checkpoint is always complete.
"""

import errno
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from ddpm_lightning.utils.atomic import atomic_write, is_intact_zip
from ddpm_lightning.utils.lock import check

#: Errors of reading that do not mean that a file is damaged.
NO_DAMAGE = (
    *(errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT, errno.ESTALE),
    *(errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH),
)

__all__ = ["AtomicCheckpointIO", "is_intact", "save_atomically"]


def save_atomically(content: Any, path: str | Path) -> None:
    """Writes an object by ``torch.save``; if that fails, such as on a full disk, the former file is kept."""
    check(path)
    with atomic_write(path) as partial, partial.open("wb") as file:
        torch.save(content, file)


def is_intact(path: Path) -> bool:
    """Says whether a checkpoint exists and is undamaged: truncated or altered ones fail the checksums of their parts.

    Raises:
        OSError: If it cannot be read for a reason other than damage: no permission, no memory, no connection.
    """
    try:
        return is_intact_zip(path)
    except OSError as error:
        # Other errors are due to invalid offsets in the file, or to a damaged disk.
        if error.errno in NO_DAMAGE:
            raise
        return False


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints by :func:`save_atomically`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes a checkpoint; Lightning calls it in the first process alone."""
        save_atomically(checkpoint, path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint that a better one replaces.

        The path may come from the checkpoint that a run is resumed from, which may come from anyone. Lightning would
        also remove folders, and accept addresses such as ``local:///home``; here only checkpoint files are removed.
        """
        path = Path(path)
        if path.suffix == ".ckpt" and ".." not in path.parts and path.is_file():
            path.unlink()
