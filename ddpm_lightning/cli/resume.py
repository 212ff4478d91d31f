"""Where a run goes on: its last checkpoint, or an older one if the last is damaged."""

import shutil
from pathlib import Path

from ddpm_lightning.callbacks.checkpoint_files import sound
from ddpm_lightning.errors import UserError
from ddpm_lightning.storage import whole

__all__ = ["checkpoint_of"]


def checkpoint_of(folder: Path, speaks: bool = True) -> Path | None:
    """Returns the newest whole checkpoint of a run, or ``None`` if it has none at all.

    Every checkpoint holds the whole state of the run: from an older one it comes to the same end, only later.

    Args:
        folder: Folder of the run.
        speaks: Whether this process says that a damaged file was passed over.

    Raises:
        UserError: If there are checkpoints, but none is whole.
    """
    candidates = [folder / "checkpoints" / name for name in ("last.ckpt", "best.ckpt")]
    there = [path for path in candidates if path.exists()]
    for path in there:
        if sound(path):
            if path != there[0] and speaks:
                print(f"{there[0]} is damaged: the run goes on from {path.name} instead")
                with whole(there[0]) as partial:
                    shutil.copy(path, partial)
            return path
    if there:
        raise UserError(
            there[0],
            "is damaged, and there is no other checkpoint to go on from",
            remedy=f"put back a copy of the file, or remove {folder} and start the run again",
        )
    return None
