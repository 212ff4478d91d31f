"""Sweeps: each job of ``--multirun`` runs in a process of its own; a sweep that is started again runs what is left.

A job inside the sweeping process would pass its state on to the next one, and the processes that DDP starts would
repeat the whole sweep. As a separate run, a job does not depend on the sweeper and the launcher. Each job keeps
``job.json`` in its folder: its overrides, and how it ended.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from ddpm_lightning.cli.arguments import quoted
from ddpm_lightning.reporting.sweep import RECORD
from ddpm_lightning.utils.atomic import read_json, write_json
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.lock import hold
from ddpm_lightning.utils.subprocesses import run_command

__all__ = ["FAILED", "RECORD", "delegate", "is_job"]

FOLDER_KEYS = {
    "train": "run_folder",
    "demo": "run_folder",
    "evaluate": "output",
    "compare": "output",
    "report": "output",
    "benchmark": "output",
    "restore": "output",
    "prepare": "output",
}
#: Objective of a job that failed or diverged: sweepers that search need a number, and all objectives are minimised.
FAILED = 1e10
#: Tell a run the name of its sweep, and its overrides there; W&B makes groups and tags of them.
SWEEP_VARIABLE, JOB_VARIABLE = "DDPM_LIGHTNING_SWEEP", "DDPM_LIGHTNING_JOB"
#: Variables that would make a job believe that it is one process of a distributed run.
FOREIGN = (
    "SLURM_NTASKS",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)


def is_job() -> bool:
    """Returns whether this process runs a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def delegate(verb: str) -> float | None:
    """Runs the current job in a process of its own, in a folder of the sweep; a finished job is skipped.

    Returns:
        The objective of a training, its best validation loss; :data:`FAILED` if the job failed; else ``None``.

    Raises:
        UserError: If the job cannot be part of this sweep.
        Interrupted: If this process was told to stop; the job was told as well, and has saved its state.
    """
    config = HydraConfig.get()
    folder = Path(config.runtime.output_dir)
    force = "force=true" in config.overrides.task
    asked = [override for override in config.overrides.task if not override.startswith("force=")]
    # The job may use the locked folder: the token is in its environment.
    with hold(folder, force):
        return _delegate(verb, config, folder, asked)


def _delegate(verb: str, config: Any, folder: Path, asked: list[str]) -> float | None:
    record = {"verb": verb, "overrides": asked, "state": "running"}
    before = _accept(folder, record)
    name = f"job {config.job.num} ({' '.join(asked)})"
    if before.get("state") == "finished":
        print(f"{name} is finished already")
        return _objective(folder)
    write_json(folder / RECORD, record)
    print(f"{name}", flush=True)
    code = _run(_command(verb, asked, folder), Path(config.sweep.dir).name, asked)
    write_json(folder / RECORD, {**record, "state": "failed" if code else "finished", "code": code})
    if code:
        print(f"{name} ended with code {code}; the sweep continues", file=sys.stderr, flush=True)
        return FAILED
    objective = _objective(folder)
    return FAILED if objective is None and verb in ("train", "demo") else objective


def _accept(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Returns the record that the job left when it was started before, if it was.

    Raises:
        UserError: If the job cannot be part of this sweep.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ or os.environ.get("LOCAL_RANK", "0") != "0":
        raise UserError(
            "--multirun",
            "was given to every process of a distributed run, and each would run the whole sweep",
            remedy="start the sweep without torchrun, with trainer=ddp: each job then starts its own processes",
        )
    key = FOLDER_KEYS.get(record["verb"])
    if key is None:
        raise UserError("--multirun", f"is not for {record['verb']}", allowed=", ".join(FOLDER_KEYS))
    if _names(record["overrides"], key) and not _shares_output(record["verb"], record["overrides"]):
        raise UserError(
            key,
            "is a single folder, but each job of a sweep needs its own",
            remedy="give hydra.sweep.dir=DIR instead",
        )
    before = read_json(folder / RECORD)
    if before and (before.get("verb"), before.get("overrides")) != (record["verb"], record["overrides"]):
        raise UserError(
            folder,
            f"holds another job: {before.get('verb')} {' '.join(before.get('overrides', []))}",
            remedy="give the same sweep as before, or another hydra.sweep.dir=DIR",
        )
    return before


def _command(verb: str, asked: list[str], folder: Path) -> list[str]:
    """Returns the command of a job, which resumes it if it was stopped."""
    command = [sys.executable, "-m", "ddpm_lightning", verb]
    begun = any((folder / place / "checkpoints" / "last.ckpt").is_file() for place in (".", "mean"))
    if verb == "train" and begun:
        return [*command, f"resume={quoted(folder)}"]
    # A file of conf/sweep sets the mode to MULTIRUN, but the job itself is a single run.
    place = [] if _shares_output(verb, asked) else [f"{FOLDER_KEYS[verb]}={quoted(folder)}"]
    return [*command, *asked, *place, "hydra.mode=RUN"]


def _shares_output(verb: str, overrides: list[str]) -> bool:
    """Says whether the jobs are shards of one job, whose results are in one folder."""
    return verb == "restore" and _names(overrides, "shard") and _names(overrides, "output")


def _names(overrides: list[str], key: str) -> bool:
    return any(override.lstrip("+").startswith(f"{key}=") for override in overrides)


def _run(command: list[str], sweep: str, asked: list[str]) -> int:
    """Runs a command in a session of its own and passes signals on, so that the job receives each once and can save."""
    environment = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    environment |= {SWEEP_VARIABLE: sweep, JOB_VARIABLE: json.dumps(asked)}
    return run_command(
        command, environment, "the sweep stops here; start it again with the same hydra.sweep.dir to resume"
    )


def _objective(folder: Path) -> float | None:
    return read_json(folder / "status.json").get("objective")
