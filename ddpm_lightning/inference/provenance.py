"""Model and settings of a job: the part of ``restore.json`` that all files share."""

from typing import Any

import numpy as np
import torch

from ddpm_lightning.checkpoints.card import training_of
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.readouts.readout import find_readouts
from ddpm_lightning.utils.version import __version__

__all__ = ["changed_settings", "job_record"]

#: Settings that affect pixels: files that were restored with other values are restored again.
DECISIVE = (
    "seed",
    "samples",
    "tolerance",
    "compiled",
    "channels",
    "tile",
    "overlap",
    "margin",
    "batch",
    "hot_pixels",
    "scale",
    "noise",
    "average_neighbours",
    "dtype",
)


def job_record(
    restorer: Restorer, settings: FileSettings, intervals: Conformal | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns model, settings and versions of a job, and those of them that affect pixels."""
    trained, values = restorer.trained, settings.model_dump(mode="json")
    decisive = {name: values[name] for name in DECISIVE}
    decisive |= {
        "bfloat16": restorer.bfloat16,
        "model": trained.sha256,
        "preset": trained.sampling,
        "intervals": intervals.model_dump() if intervals else None,
        "device": restorer.device.type,
    }
    # Without these, results of earlier versions are those of this one.
    if settings.format != "same":
        decisive["format"] = settings.format
    if restorer.method.neighbours:
        decisive["neighbours_axis"] = restorer.neighbours_axis
    if settings.readout:
        decisive["readouts"] = [readout.key for readout in find_readouts(settings.readout)]
    if settings.control:
        decisive["control"] = True
    calibration = restorer.calibration(settings.sample_count)
    if calibration is not None:
        decisive["std_factor"] = calibration.std_factor
    about = {
        "model": {
            "file": str(trained.path),
            "sha256": trained.sha256,
            "names": trained.card["names"],
            "versions": trained.card.get("versions", {}),
            "training": training_of(trained.card),
        },
        "preset": trained.preset,
        "sampler": trained.sampling,
        "evaluations_per_sample": trained.evaluations(1).total,
        "mean": trained.mean,
        "checked_against_training": restorer.shift_check.checks,
        "settings": values,
        "version": __version__,
        "versions": {
            "ddpm_lightning": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
        "device": str(restorer.device),
    }
    return about, decisive


def changed_settings(before: dict[str, Any], about: dict[str, Any]) -> list[str]:
    """Returns the settings that affect pixels and differ from the last job in this folder, with both values."""
    old, new = before.get("settings", {}), about["settings"]
    pairs = [(name, old.get(name), new[name]) for name in (*DECISIVE, "intervals") if name in old]
    pairs += [("sampler", before.get("sampler"), about["sampler"])] if "sampler" in before else []
    found = [f"{name}: {then} before, {now} now" for name, then, now in pairs if then != now]
    other = before.get("model", {}).get("sha256") not in (None, about["model"]["sha256"])
    return (["another model, or another calibration of it"] if other else []) + found
