"""The folder of a run: how it is chosen, which run owns it, and what a new run writes into it first.

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
from ddpm_lightning.training.settings import TrainSettings
from ddpm_lightning.utils.atomic import read_json, remove_partials, write_json
from ddpm_lightning.utils.errors import UserError, printable
from ddpm_lightning.utils.lock import hold, holder
from ddpm_lightning.utils.paths import command_of, expanded

__all__ = ["begin", "check_free", "choose_folder", "claim", "clear", "hold_run", "state_of"]

#: Environment variable that passes the folder chosen by the first process of a distributed run to the others.
FOLDER_VARIABLE = "DDPM_LIGHTNING_RUN_FOLDER"

#: What a run writes to its folder.
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


def begin(folder: Path, settings: TrainSettings, provenance: Mapping[str, Any], anew: bool) -> None:
    """Makes the folder of a run, and writes its settings and its provenance.

    Args:
        folder: Folder of the run.
        settings: Settings of the run.
        provenance: Where it comes from.
        anew: Whether it is a new run: the files of an earlier one are then removed.
    """
    if anew:
        clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_partials([folder, folder / "checkpoints", folder / "figures"])  # left by killed processes
    # First, because it marks the folder as that of a run.
    process = {"process": os.getpid(), "machine": platform.node()}
    write_json(folder / "status.json", {"state": "starting", **process})
    write_config(folder / "config.yaml", settings.model_dump())
    write_json(folder / "provenance.json", dict(provenance))


def check_free(folder: Path, overwrite: bool = False, force: bool = False) -> None:
    """Refuses a folder that a new run cannot have.

    Args:
        folder: Folder of the new run, which need not exist.
        overwrite: Whether it may contain an earlier run.
        force: Whether it may contain a run that seems to be active on another machine.

    Raises:
        UserError: If it belongs to another run, or contains files with names that runs use but that no run wrote.
    """
    if not overwrite and (state := _occupied(folder, force)):
        raise UserError(
            f"run_folder={folder}",
            f"already contains a run {state}",
            remedy=f"resume it with {command_of('train', resume=folder)}, or choose another folder",
        )
    found = [name for name in TRACES if (folder / name).exists()]
    if found and not _is_run(folder):
        raise UserError(
            f"run_folder={folder}",
            f"contains {', '.join(found)}, which no run wrote",
            allowed="an empty folder, or one that does not exist",
            remedy="choose another folder",
        )


def clear(folder: Path) -> None:
    """Removes the files of an earlier run; call it only after all checks of the new one."""
    for trace in TRACES if _is_run(folder) else ():
        path = folder / trace
        if path.is_dir():
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()


def _is_run(folder: Path) -> bool:
    return "state" in read_json(folder / "status.json") or "command" in read_json(folder / "provenance.json")


def state_of(folder: Path) -> str:
    """Returns the state of a run from its ``status.json``; ``killed`` if it should be running but has no process."""
    status = read_json(folder / "status.json")
    state = str(status.get("state", "unknown"))
    if state not in ("starting", "running"):
        return state
    if owner := holder(folder):
        places = {"alive": state, "dead": "killed", "elsewhere": f"{state} on {owner.host}"}
        return places[owner.state]
    # The first stage of a run, which does not lock its folder.
    machine = status.get("machine", platform.node())
    if machine != platform.node():
        return f"{state} on {printable(str(machine))}"
    return state if Path(f"/proc/{status.get('process')}").exists() else "killed"


def _occupied(folder: Path, force: bool) -> str:
    """Says why a folder belongs to another run; a run that failed before its first checkpoint does not count."""
    if any((folder / place / "checkpoints" / "last.ckpt").is_file() for place in (".", two_stage.FOLDER)):
        return "with checkpoints"
    status = read_json(folder / "status.json")
    # This process holds the lock of the folder, so no other process of this machine uses it.
    machine = status.get("machine", platform.node())
    if status.get("state") in ("starting", "running") and machine != platform.node() and not force:
        return f"that seems to be active on {printable(str(machine))}; if it was killed there, add force=true"
    return ""
