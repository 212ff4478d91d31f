"""The card of a run, which all of its checkpoints contain: what a reader must know to use the weights."""

from importlib.metadata import version
from typing import Any

import torch

from ddpm_lightning.checkpoints.card import CARD_FORMAT
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.evaluation.distribution_shift import InputReference
from ddpm_lightning.training.provenance import provenance
from ddpm_lightning.training.settings import TrainSettings
from ddpm_lightning.utils.version import __version__

__all__ = ["make_card"]


def make_card(settings: TrainSettings, data: PairDataModule) -> dict[str, Any]:
    """Returns the description of a model that its checkpoints contain, in plain containers.

    Args:
        settings: Settings of the run.
        data: The data, its normalisation fitted.
    """
    config = settings.model_dump()
    return {
        "format": CARD_FORMAT,
        "names": config["names"],
        "model": config["model"],
        "data": config["data"],
        "data_name": data.name,
        "normalisation": {"config": config["data"]["normalisation"], "state": data.normalisation.state()},
        "inputs": InputReference.of_split(data).state(),
        "pixel_size_um": data.pairs("train")[0].pixel_size,
        **({"neighbours": {"planes": data.neighbours, "axis": data.stack_axis}} if data.neighbours else {}),
        "config": config,
        "provenance": provenance(settings),
        "versions": {"ddpm_lightning": __version__, "torch": str(torch.__version__)}
        | {name: version(name) for name in ("lightning", "torchmetrics", "numpy")},
    }
