"""Sweeps: each job of ``--multirun`` runs in a fresh process.

A job inside of the sweeping process would leave its state to the next one, and the processes that DDP starts would
repeat the whole sweep. Started anew as a single run, a job knows nothing of the sweep, whatever the sweeper is.
"""

import json
import subprocess
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from ddpm_lightning.errors import UserError

__all__ = ["delegate", "is_job"]

FOLDER_KEYS = {
    "train": "run_folder",
    "demo": "run_folder",
    "evaluate": "output",
    "compare": "output",
    "restore": "output",
    "prepare": "output",
}


def is_job() -> bool:
    """Says whether this process was asked to sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def delegate(verb: str) -> float | None:
    """Runs the job at hand in a process of its own, in a folder of the sweep.

    Returns:
        The objective of a training: its best validation loss.

    Raises:
        UserError: If the job failed.
    """
    config = HydraConfig.get()
    folder = Path(config.runtime.output_dir)
    overrides = list(config.overrides.task)
    key = FOLDER_KEYS[verb]
    if any(override.lstrip("+").startswith(f"{key}=") for override in overrides):
        raise UserError(
            key,
            "is one folder, but each job of a sweep has its own",
            remedy="give hydra.sweep.dir=DIR instead",
        )
    overrides.append(f'{key}="{folder}"')
    code = subprocess.run([sys.executable, "-m", "ddpm_lightning", verb, *overrides]).returncode
    if code:
        raise UserError(
            f"job {config.job.num} ({' '.join(config.overrides.task)})", f"ended with code {code}"
        )
    status = folder / "status.json"
    return json.loads(status.read_text(encoding="utf-8")).get("objective") if status.is_file() else None
