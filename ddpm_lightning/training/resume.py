"""Finds what is needed to resume a run: its settings, its last intact checkpoint, and its data."""

import shutil
from collections.abc import Mapping
from math import isclose
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from yaml import YAMLError

from ddpm_lightning.checkpoints.checkpoint_file import is_intact
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.simulation.cache import without_new_cache
from ddpm_lightning.training import two_stage
from ddpm_lightning.training.config_file import read_config
from ddpm_lightning.training.provenance import data_hash
from ddpm_lightning.training.run_config import check_groups
from ddpm_lightning.training.settings import TrainSettings
from ddpm_lightning.utils.atomic import atomic_write, read_json
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import command_of, expanded

__all__ = ["intact_checkpoint", "resumed_settings", "use_normalisation"]


def resumed_settings(folder: Path, values: Mapping[str, Any]) -> TrainSettings:
    """Returns the settings of a run to resume.

    Args:
        folder: Folder of the run; paths inside of it follow where it has moved.
        values: New values by dotted name: ``trainer.max_steps`` for a longer run, ``trainer.max_time`` for another
            limit of time, ``data.root`` where the data have moved, ``trainer.devices`` and ``trainer.num_nodes`` for
            another number of processes.

    Raises:
        UserError: If there is nothing to resume, its data are missing, or other settings are given.
    """
    path = folder / "config.yaml"
    begun = [intact_checkpoint(place, verbose=False) for place in (folder, folder / two_stage.FOLDER)]
    if not path.is_file() or not any(begun):
        raise UserError(
            f"resume={folder}",
            "contains no config.yaml with checkpoints/last.ckpt, so there is nothing to resume",
            remedy="start the run again; runs are saved at each validation and when they are asked to stop",
        )
    try:
        settings = read_config(path)
        check_groups(settings)
        settings = two_stage.relocated(settings, settings["run_folder"], str(folder))
    except (YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(path, "is damaged", remedy="restore it from a backup, or start a new run") from error
    for key, value in values.items():
        if key == "trainer.max_steps":
            step = read_json(folder / "status.json").get("step")
            reached = two_stage.first_steps(folder) + (step if isinstance(step, int) else 0)
            if not isinstance(value, int) or value < reached:
                raise UserError(
                    f"trainer.max_steps={value}",
                    f"is too low: the run is at step {reached}",
                    allowed=f"at least {reached}",
                )
            settings["trainer"]["max_steps"] = value
        elif key == "trainer.max_time":
            settings["trainer"]["max_time"] = value
        elif key in ("trainer.devices", "trainer.num_nodes"):
            settings["trainer"][key.removeprefix("trainer.")] = value
            if value != 1:
                settings["trainer"].setdefault("strategy", "ddp")
        elif key == "data.root":
            if "root" not in settings["data"]:
                raise UserError(
                    key, "is not a setting of this run: its data are not in a folder", remedy="leave it out"
                )
            settings["data"]["root"] = str(value)
        else:
            raise UserError(
                key,
                "cannot be changed in a run that is resumed: its own configuration is used",
                allowed="resume=RUN_FOLDER, trainer.max_steps=N, trainer.max_time=DD:HH:MM:SS, data.root=DIR,"
                " trainer.devices=N, trainer.num_nodes=N, trust=PACKAGE",
                remedy="start a new run for other settings",
            )
    settings["data"] = without_new_cache(settings["data"])
    root = settings["data"].get("root")
    if root is not None and not expanded(str(root)).is_dir():
        raise UserError(
            f"data.root={root}",
            "is not a folder"
            if "data.root" in values
            else "contained the data of this run, and does not exist",
            remedy=f"{_elsewhere(folder)}, where DIR is the folder of the data",
        )
    return TrainSettings.of({**settings, "run_folder": str(folder), "resume": str(folder)})


def intact_checkpoint(folder: Path, verbose: bool = True) -> Path | None:
    """Returns the newest intact checkpoint of a run, or ``None`` if it has none at all.

    Every checkpoint contains the complete state of the run: an older one leads to the same result, only later.

    Args:
        folder: Folder of the run.
        verbose: Whether this process prints that a damaged file was skipped.

    Raises:
        UserError: If there are checkpoints, but none is intact.
    """
    candidates = [folder / "checkpoints" / name for name in ("last.ckpt", "best.ckpt")]
    there = [path for path in candidates if path.exists()]
    for path in there:
        if is_intact(path):
            if path != there[0] and verbose:
                print(f"{there[0]} is damaged: the run resumes from {path.name} instead")
                with atomic_write(there[0]) as partial:
                    shutil.copy(path, partial)
            return path
    if there:
        raise UserError(
            there[0],
            "is damaged, and there is no other checkpoint to resume from",
            remedy=f"restore the file from a backup, or remove {folder} and start the run again",
        )
    return None


def use_normalisation(
    checkpoint: Path, folder: Path, data: PairDataModule, settings: Mapping[str, Any], verbose: bool = True
) -> None:
    """Checks that the data are those that a run was started with, and applies the normalisation of the run.

    Different file names or sizes, which a stray file can cause, are reported. Different intensities are rejected.

    Args:
        checkpoint: Checkpoint from which the run is resumed.
        folder: Folder of the run.
        data: The data, its normalisation fitted.
        settings: Settings of the data.
        verbose: Whether this process prints what it finds.

    Raises:
        UserError: If the normalisation of the run does not match the data.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        state = content["card"]["normalisation"]["state"]
    except (RuntimeError, UnpicklingError, KeyError, TypeError) as error:
        raise UserError(checkpoint, "is not a checkpoint of this program") from error
    where = f"data.root={settings['root']}" if settings.get("root") else f"data set {data.name}"
    if not _close(state, data.normalisation.state()):
        raise UserError(
            where,
            "contains other images than those that this run was started with: their intensities differ",
            remedy=f"{_elsewhere(folder)} with the data of the run, or start a new run",
        )
    # Another machine may round differently.
    data.load_normalisation(state)
    origin = read_json(folder / "provenance.json").get("data") or {"of": "settings"}
    if verbose and settings.get("root") and origin["of"] != "settings" and origin != data_hash(settings):
        print(f"{where}: {origin['of']} changed since the run was started; the result may differ")


def _elsewhere(folder: Path) -> str:
    """Returns the command that resumes a run whose data have moved."""
    return command_of("train", resume=folder, **{"data.root": "DIR"})


def _close(one: Any, other: Any) -> bool:
    """Returns whether containers are equal, numbers up to rounding errors."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float) and isinstance(other, int | float):
        return isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    return bool(one == other)
