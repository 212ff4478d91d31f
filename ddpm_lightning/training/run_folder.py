"""The folder of a run: which one it is, which run owns it, and what a new run writes into it first.

A new run takes an empty folder, or that of a run that failed before its first checkpoint; it removes no other files.
"""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from ddpm_lightning.training import two_stage
from ddpm_lightning.training.config_file import write_config
from ddpm_lightning.training.processes import is_first, started_elsewhere
from ddpm_lightning.utils.atomic import read_json, remove_partials, write_json
from ddpm_lightning.utils.errors import UserError, printable
from ddpm_lightning.utils.lock import hold, holder
from ddpm_lightning.utils.paths import command_of, expanded

__all__ = ["begin", "check_free", "choose_folder", "claim", "clear", "hold_run", "state_of"]

#: Tells the processes of a distributed run the folder that the first of them chose.
FOLDER_VARIABLE = "DDPM_LIGHTNING_RUN_FOLDER"

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


def choose_folder(given: str | None, names: Mapping[str, str | None]) -> Path:
    """Returns the folder of a new run, by default ``runs/DATE_TIME_MODEL_DATA``.

    Raises:
        UserError: If none is given and the processes, started by torchrun or SLURM, would each choose another.
    """
    if started_elsewhere() and given is None:
        raise UserError(
            "run_folder",
            "is not given, and each process would choose another",
            remedy="add run_folder=DIR, on storage that all machines share",
        )
    told = None if is_first() else os.environ.get(FOLDER_VARIABLE)
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return expanded(told or given or f"runs/{stamp}_{names['model']}_{names['data']}")


@contextmanager
def claim(folder: Path, overwrite: bool = False, force: bool = False) -> Iterator[None]:
    """Locks the folder of a new run for the duration of the block, and tells other processes of the run which it is.

    Args:
        folder: Folder of the new run, which need not exist.
        overwrite: Whether to replace an earlier run there; it is removed when the new one begins.
        force: Whether to take a folder in which a run on another machine seems to be active.

    Raises:
        UserError: If the folder belongs to another run, or holds files of no run.
    """
    with hold_run(folder, force):
        if is_first():
            check_free(folder, overwrite, force)
        before = os.environ.get(FOLDER_VARIABLE)
        os.environ[FOLDER_VARIABLE] = str(folder)
        try:
            yield
        finally:
            os.environ.pop(FOLDER_VARIABLE)
            if before is not None:
                os.environ[FOLDER_VARIABLE] = before


def hold_run(folder: Path, force: bool = False) -> AbstractContextManager[Any]:
    """Locks the folder of a run for all of its processes."""
    return hold(folder, force) if is_first() else nullcontext()


def begin(folder: Path, config: Mapping[str, Any], provenance: Mapping[str, Any], anew: bool) -> None:
    """Makes the folder of a run, and writes what the run is.

    Args:
        folder: Folder of the run.
        config: Its configuration.
        provenance: Where it comes from.
        anew: Whether it is a new run: what an earlier one left is removed.
    """
    if anew:
        clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_partials([folder, folder / "checkpoints", folder / "figures"])  # left by killed processes
    # First, because it marks the folder as that of a run.
    process = {"process": os.getpid(), "machine": platform.node()}
    write_json(folder / "status.json", {"state": "starting", **process})
    write_config(folder / "config.yaml", dict(config))
    write_json(folder / "provenance.json", dict(provenance))


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
