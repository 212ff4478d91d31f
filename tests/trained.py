"""A trained model in a moment: random weights with open gains, written as the command line writes checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ddpm_lightning.checkpoints.calibration import Calibration
from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.checkpoints.store_calibration import store_calibration
from ddpm_lightning.cli import compose
from ddpm_lightning.evaluation.distribution_shift import InputReference
from ddpm_lightning.models.build import build_method, with_neighbours

TINY = [
    "model=ddpm_small",
    "model.network.base=8",
    "model.network.multipliers=[1,2]",
    "model.network.channels_per_head=8",
    "model.sampler.steps=3",
    "data.crop=32",
]


def write_checkpoint(
    path: Path, *overrides: str, per_image: bool = False, model: Sequence[str] = TINY, axis: str = ""
) -> Path:
    """Writes a checkpoint with a normalisation from 0…100 to [-1, 1], or fitted to each image.

    With ``data.neighbours``, planes were neighbours along ``axis``.
    """
    name = "image" if per_image else "dataset"
    config = compose.compose("train", [*model, f"data/normalisation={name}", *overrides])
    config.run_folder = str(path.parent)
    settings = compose.plain(config)
    neighbours = settings["data"]["neighbours"]
    settings["model"] = with_neighbours(settings["model"], neighbours)
    torch.manual_seed(0)
    built = build_method(settings["model"])
    for parameter_name, parameter in built.named_parameters():
        if parameter_name.endswith("gain"):
            nn.init.constant_(parameter, 0.3)
        elif parameter_name.endswith("kernels"):
            nn.init.constant_(parameter, 0.05)
    scale = {"low": 0.0, "high": 100.0}
    state = {"input": scale, "target": scale, "input_bounds": [-1, 1], "target_bounds": [-1.0, 1.5]}
    noise = np.random.default_rng(0).normal(0, 0.5, (8, 64, 64))
    card = {
        "format": 1,
        "names": {"model": "ddpm_small", "data": "simulated_microtubules"},
        "model": settings["model"],
        "data": settings["data"],
        "normalisation": {"config": settings["data"]["normalisation"], "state": state},
        "inputs": InputReference.of(noise).state(),
        "versions": {},
        **({"neighbours": {"planes": neighbours, "axis": axis}} if neighbours else {}),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": built.state_dict(), "card": card}, path)
    return path


def a_calibration(**values: Any) -> Calibration:
    """Returns a calibration with values of no importance, unless they are given."""
    plain = {"sampling": "exact", "sampler": "", "samples": 2, "std_factor": 2.0, "ideal_factor": 1.73}
    plain |= {"coverage": 0.7, "images": 12, "data": "pairs", "split": "val"}
    return Calibration.of(plain | values)


def store(trained: Trained, **values: Any) -> None:
    """Stores a calibration for a model in its file, for the very way that it makes samples."""
    own = {"sampling": trained.sampling, "sampler": trained.sampler, "samples": trained.samples}
    store_calibration(trained, a_calibration(**own, **values))
