"""Runs in two stages: the regressor that gives the mean, then the flow that starts from it.

The first stage is an ordinary run of its own in the folder ``mean`` of the run, so its best checkpoint can be
evaluated, and given to other runs as ``model.mean``. Both stages together take the steps that the run was granted.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddpm_lightning.cli.config_file import read_config
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.errors import UserError
from ddpm_lightning.inference.checkpoint import load
from ddpm_lightning.models.pmrf import PMRF
from ddpm_lightning.models.regression import Regression

__all__ = ["FOLDER", "first_stage", "moved", "take_mean"]

#: Folder of the first stage, inside of the run's.
FOLDER = "mean"


def first_stage(config: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the configuration of the run that trains the mean, or ``None`` where a trained one is given.

    Args:
        config: Configuration of the whole run. Once the second stage has begun, a longer run lengthens that one alone.

    Raises:
        UserError: If there are not steps for two stages.
    """
    if config["model"]["mean"] is not None:
        return None
    total = config["trainer"]["max_steps"]
    if total < 2:
        raise UserError(
            "trainer.max_steps", f"is {total}", allowed="at least 2: the mean and the flow share them"
        )
    whole, own = Path(config["run_folder"]), Path(config["run_folder"]) / FOLDER
    steps = min(max(round(config["model"]["mean_share"] * total), 1), total - 1)
    if (whole / "checkpoints" / "last.ckpt").is_file():
        steps = read_config(own / "config.yaml")["trainer"]["max_steps"]
    small = "_small" if str(config["names"]["model"]).endswith("_small") else ""
    return {
        **moved(config, str(whole), str(own)),
        "model": config["model"]["regression"],
        "names": {**config["names"], "model": f"regression{small}"},
        "trainer": {**config["trainer"], "max_steps": steps},
        "resume": str(own) if (own / "checkpoints" / "last.ckpt").is_file() else None,
    }


def take_mean(model: PMRF, checkpoint: str | Path, data: PairDataModule, trust: Sequence[str] = ()) -> None:
    """Gives a flow the weights of a trained regressor; its file may name classes of trusted packages.

    Raises:
        UserError: If the checkpoint is none of a regressor of this size, or was trained with another normalisation.
    """
    trained = load(checkpoint, trust=trust)
    subject = f"model.mean={checkpoint}"
    if not isinstance(trained.method, Regression):
        raise UserError(
            subject,
            f"is a {type(trained.method).__name__}",
            allowed="a checkpoint of model=regression or model=regression_small",
        )
    if trained.normalisation.state() != data.normalisation.state():
        raise UserError(
            subject,
            "was trained with another normalisation",
            remedy="train both on the same data, with the same settings",
        )
    try:
        model.regression.load_state_dict(trained.method.state_dict())
    except RuntimeError as error:
        raise UserError(
            subject,
            "has another network than model.regression",
            remedy="pair regression with pmrf or residual_flow, and regression_small with their _small versions",
        ) from error


def moved(node: Any, before: str, after: str) -> Any:
    """Returns a configuration whose paths inside of one folder lie in another."""
    if isinstance(node, dict):
        return {key: moved(value, before, after) for key, value in node.items()}
    if isinstance(node, list):
        return [moved(value, before, after) for value in node]
    inside = isinstance(node, str) and (node == before or node.startswith(f"{before}/"))
    return after + node[len(before) :] if inside else node
