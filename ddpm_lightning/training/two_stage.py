"""Runs in two stages: the regressor that gives the mean, then the flow that starts from it.

The first stage is an ordinary run of its own in the folder ``mean`` of the run, so its best checkpoint can be
evaluated, and given to other runs as ``model.mean``. Both stages together take the steps and the time that the run
was granted.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddpm_lightning.callbacks.max_time import MaxTime
from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.checkpoints.weights import read_weights
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.models.pmrf import PMRF
from ddpm_lightning.models.regression import Regression
from ddpm_lightning.training.config_file import read_config
from ddpm_lightning.utils.atomic import read_json
from ddpm_lightning.utils.errors import UserError

__all__ = ["FOLDER", "first_stage", "first_steps", "moved", "progress", "shared", "take_mean"]

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
    trainer = {**config["trainer"], "max_steps": first_steps(whole) or shared(config["model"], total)}
    if (time := trainer.get("max_time")) is not None:
        trainer["max_time"] = {"seconds": config["model"]["mean_share"] * MaxTime(time).seconds}
    small = "_small" if str(config["names"]["model"]).endswith("_small") else ""
    return {
        **moved(config, str(whole), str(own)),
        "model": config["model"]["regression"],
        "names": {**config["names"], "model": f"regression{small}"},
        "trainer": trainer,
        "resume": str(own) if (own / "checkpoints" / "last.ckpt").is_file() else None,
    }


def shared(model: Mapping[str, Any], total: int) -> int:
    """Returns how many of the steps of a run in two stages the first stage gets."""
    return min(max(round(model["mean_share"] * total), 1), total - 1)


def first_steps(folder: Path) -> int:
    """Returns the steps that the first stage of a run was granted if its second stage has begun, else 0."""
    config = folder / FOLDER / "config.yaml"
    begun = config.is_file() and (folder / "checkpoints" / "last.ckpt").is_file()
    return read_config(config)["trainer"]["max_steps"] if begun else 0


def progress(folder: Path, resumed: Path | None) -> dict[str, int]:
    """Returns how far the regressor of a flow was trained, ``step`` of ``steps``; nothing where there is no record.

    Args:
        folder: Folder of the whole run.
        resumed: Checkpoint that its flow goes on from. Its own record holds: the first stage may have gone on since.
    """
    card = read_weights(resumed)["card"] if resumed else {}
    training = card.get("training") if isinstance(card, dict) else None
    own = training.get("regressor") if isinstance(training, dict) else None
    record = own if isinstance(own, dict) else read_json(folder / FOLDER / "status.json")
    found = {key: record.get(key) for key in ("step", "steps")}
    return found if all(isinstance(value, int) for value in found.values()) else {}


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
