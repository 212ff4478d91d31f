"""Checkpoints as files: written whole or not at all, and looked at before they are trusted.

Lightning writes to a temporary file too, but to one in the system's folder for them: where that is another disk, the
move to its place is a copy that a kill cuts short. Here the temporary file lies beside its place and reaches the disk
before it gets its name, so a checkpoint that has its name is whole, whatever ended the process or the machine.
"""

import errno
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from ddpm_lightning.utils.atomic import atomic_write, is_intact_zip
from ddpm_lightning.utils.lock import check

NO_DAMAGE = (
    *(errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT, errno.ESTALE),
    *(errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH),
)

__all__ = ["AtomicCheckpointIO", "is_intact", "save_atomically"]


def save_atomically(content: Any, path: str | Path) -> None:
    """Writes what ``torch.save`` takes; a full disk leaves what was there before."""
    check(path)
    with atomic_write(path) as partial, partial.open("wb") as file:
        torch.save(content, file)


def is_intact(path: Path) -> bool:
    """Says whether a checkpoint is there and whole: a truncated or altered one fails the checksums of its parts.

    Raises:
        OSError: If it cannot be read now, which says nothing of what it holds: no permission, no memory, no connection.
    """
    try:
        return is_intact_zip(path)
    except OSError as error:
        # Other errors are those of offsets that lead nowhere, and of a disk that is damaged itself.
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

        The path may come from the checkpoint that a run is resumed from, and so from a stranger. Lightning would remove
        whole folders, and take addresses such as ``local:///home``; here it is a checkpoint file or nothing.
        """
        path = Path(path)
        if path.suffix == ".ckpt" and ".." not in path.parts and path.is_file():
            path.unlink()
