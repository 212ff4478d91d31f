"""Whose a run folder is: a new run takes an empty one, or that of a run that came to nothing, and no file of others."""

import platform
import shutil
from pathlib import Path

from ddpm_lightning.training import two_stage
from ddpm_lightning.utils.atomic import read_json
from ddpm_lightning.utils.errors import UserError, printable
from ddpm_lightning.utils.lock import holder
from ddpm_lightning.utils.paths import command_of

__all__ = ["check_free", "clear", "state_of"]

#: What a run leaves in its folder.
TRACES = (
    "checkpoints",
    "figures",
    "evaluation",
    two_stage.FOLDER,
    "config.yaml",
    "metrics.csv",
    "status.json",
    "provenance.json",
    "wandb.json",
    "wandb",
)


def check_free(folder: Path, overwrite: bool = False, force: bool = False) -> None:
    """Refuses a folder that a new run cannot have.

    Args:
        folder: Folder of the new run, which may not be there yet.
        overwrite: Whether an earlier run may lie there.
        force: Whether a run may lie there that seems to be at work on another machine.

    Raises:
        UserError: If another run is there, or files under the names of a run's that are of none.
    """
    if not overwrite and (state := _occupied(folder, force)):
        raise UserError(
            f"run_folder={folder}",
            f"holds a run already, {state}",
            remedy=f"go on with {command_of('train', resume=folder)}, or choose another folder",
        )
    found = [name for name in TRACES if (folder / name).exists()]
    if found and not _is_run(folder):
        raise UserError(
            f"run_folder={folder}",
            f"holds {', '.join(found)}, which no run left there",
            allowed="an empty folder, or one that does not exist",
            remedy="choose another folder",
        )


def clear(folder: Path) -> None:
    """Removes what an earlier run left; call it where nothing can be refused any more."""
    for trace in TRACES if _is_run(folder) else ():
        path = folder / trace
        if path.is_dir():
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()


def _is_run(folder: Path) -> bool:
    return "state" in read_json(folder / "status.json") or "command" in read_json(folder / "provenance.json")


def state_of(folder: Path) -> str:
    """Returns the state of a run, as its ``status.json`` says and its process shows: one that runs may be killed."""
    status = read_json(folder / "status.json")
    state = str(status.get("state", "unknown"))
    if state not in ("starting", "running"):
        return state
    if owner := holder(folder):
        places = {"alive": state, "dead": "killed", "elsewhere": f"{state} on {owner.host}"}
        return places[owner.state]
    # The first stage of a run, which holds no folder of its own; or that of an earlier version.
    machine = status.get("machine", platform.node())
    if machine != platform.node():
        return f"{state} on {printable(str(machine))}"
    return state if Path(f"/proc/{status.get('process')}").exists() else "killed"


def _occupied(folder: Path, force: bool) -> str:
    """Says what run a folder belongs to; one that failed before its first checkpoint has no claim to it."""
    if any((folder / place / "checkpoints" / "last.ckpt").is_file() for place in (".", two_stage.FOLDER)):
        return "with checkpoints"
    status = read_json(folder / "status.json")
    # Whoever asks holds the folder, so no process of this machine is at work there.
    machine = status.get("machine", platform.node())
    if status.get("state") in ("starting", "running") and machine != platform.node() and not force:
        return f"as it seems at work on {printable(str(machine))}; if it was killed there, give force=true"
    return ""
