"""Checks of stored configurations, because a run folder may come from anyone.

All classes are checked before the first object is created, and a run may only write into its own folder.
"""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ddpm_lightning.checkpoints.weights import check_fit, checked_weights, limited_to, read_weights
from ddpm_lightning.models.build import build_method, check_method
from ddpm_lightning.training.settings import TrainSettings
from ddpm_lightning.utils.allowed_classes import Trust
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.instantiate import check

__all__ = ["check_classes", "check_groups", "check_weights", "check_places"]

#: Groups of settings that every run needs.
GROUPS = ("model", "data", "trainer", "callbacks", "logger", "names")
#: Parts of a checkpoint, besides the weights, that are needed to resume a run.
STATE = ("global_step", "epoch", "loops", "callbacks", "optimizer_states", "lr_schedulers", "card")
#: Settings of callbacks, loggers and profilers that name output paths.
PLACES = ("folder", "dirpath", "save_dir")


def check_groups(config: Mapping[str, Any]) -> None:
    """Raises a KeyError or a TypeError if a stored configuration lacks a group that every run has."""
    for group in GROUPS:
        if not isinstance(config[group], dict):
            raise TypeError(f"{group} is not a group of settings")
    _ = config["seed"] + config["trainer"]["max_steps"], config["model"]["_target_"] + ""
    _ = config["data"]["_target_"] + "", config["data"]["normalisation"]["_target_"] + ""


def check_classes(settings: TrainSettings, trust: Trust = ()) -> None:
    """Checks all classes that a run refers to before the first object is created.

    Raises:
        UserError: If one of them is not allowed, or does not accept its settings.
    """
    parts = {
        "data": (settings.data, ("data",)),
        "trainer": (settings.trainer, ("strategy", "profiler")),
        **{
            f"{group}.{name}": (node, (kind,))
            for group, kind in (("callbacks", "callback"), ("logger", "logger"))
            for name, node in getattr(settings, group).items()
            if node
        },
    }
    checks = {name: partial(check, node, kinds, trust) for name, (node, kinds) in parts.items()}
    for name, examine in {"model": partial(check_method, settings.model, trust), **checks}.items():
        try:
            examine()
        except UserError as error:
            named = str(error.subject).startswith("_target_")
            subject = f"{name}: {error.subject}" if named else f"{name}.{error.subject}"
            raise UserError(subject, error.found, error.allowed, error.remedy) from error


def check_weights(model: Mapping[str, Any], checkpoint: Path, trust: Trust = ()) -> None:
    """Rejects a model whose weights do not match the checkpoint to resume from, before memory is allocated.

    Raises:
        UserError: If they do not match, or the checkpoint contains no weights.
    """
    content = read_weights(checkpoint)
    content = content if isinstance(content, dict) else {}
    weights = checked_weights(content.get("state_dict"), checkpoint)
    written = str(content.get("pytorch-lightning_version"))
    missing = [key for key in STATE if key not in content]
    if missing or not written.startswith("2."):
        found = f"has no {', '.join(missing)}" if missing else f"was written by Lightning {written}"
        raise UserError(
            checkpoint,
            f"contains no state from which this run can be resumed: it {found}",
            remedy="restore the file from a backup, or start the run again",
        )
    with limited_to(weights, checkpoint), torch.device("meta"):
        built = build_method(model, trust)
    check_fit(built, weights, checkpoint)


def check_places(settings: TrainSettings) -> None:
    """Rejects a stored run whose callbacks, loggers or profilers would write outside its folder.

    Raises:
        UserError: If one would.
    """
    folder = Path(settings.run_folder)
    root = folder.resolve()
    waiting: list[tuple[str, Any]] = [
        ("callbacks", settings.callbacks),
        ("logger", settings.logger),
        ("trainer", settings.trainer),
    ]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(f"{path}.{key}", content) for key, content in value.items()]
        elif isinstance(value, list):
            waiting += [(path, content) for content in value]
        elif isinstance(value, str) and value:
            name = path.rpartition(".")[2]
            place = Path(os.path.realpath(value))
            outside = place != root and root not in place.parents
            leads_out = Path(value).is_absolute() or ".." in Path(value).parts or "://" in value
            if outside and (name in PLACES or leads_out):
                raise UserError(
                    f"{folder / 'config.yaml'}: {path}",
                    f"is {value}, outside of the run folder",
                    remedy="correct the file: a run may only write into its own folder",
                )
