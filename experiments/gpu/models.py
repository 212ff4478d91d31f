"""Networks of the full size without training: speed does not depend on the values of weights."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddpm_lightning.cli import compose
from ddpm_lightning.models.build import build_method
from ddpm_lightning.models.method import Method

__all__ = ["settings_of", "untrained", "write_untrained"]

#: The diffusion model as it is published, and what shrinks it.
MODEL = "model=ddpm"
TINY = ["model.network.base=8", "model.network.multipliers=[1,2]", "model.network.attention_levels=[1]"]


def settings_of(tiny: bool, *overrides: str) -> dict[str, Any]:
    """Returns the settings of a training of the full model, or of the tiny one."""
    tiny_overrides = [*TINY, "model.network.channels_per_head=8"] if tiny else []
    config = compose.compose("train", [MODEL, *tiny_overrides, "data=folder", "data.root=unused", *overrides])
    config.run_folder = "unused"
    return compose.plain(config)


def untrained(settings: dict[str, Any]) -> Method:
    """Returns the method with open gains: a fresh network returns 0, and could be faster for it."""
    torch.manual_seed(0)
    method = build_method(settings["model"])
    for name, parameter in method.named_parameters():
        if name.endswith("gain"):
            nn.init.constant_(parameter, 0.3)
    return method


def write_untrained(path: Path, tiny: bool) -> Path:
    """Writes the method as a checkpoint, for images from 0 to 255."""
    settings = settings_of(tiny, "data/normalisation=dataset")
    method = untrained(settings)
    scale = {"low": 0.0, "high": 255.0}
    state = {"input": scale, "target": scale, "input_bounds": [-1.0, 1.0], "target_bounds": [-1.0, 1.0]}
    card = {
        "format": 1,
        "names": {"model": "ddpm", "data": "folder"},
        "model": settings["model"],
        "data": settings["data"],
        "normalisation": {"config": settings["data"]["normalisation"], "state": state},
        "versions": {},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": method.state_dict(), "card": card}, path)
    return path
