"""Runs in two stages, for methods that build on another method: the first method is trained before the second.

The first stage is an ordinary run in the folder ``mean`` of the run, so its best checkpoint can be evaluated, and given
to other runs (as ``model.mean`` of a flow). Both stages share the steps and the time of the run.
"""

from pathlib import Path
from typing import Any

from ddpm_lightning.callbacks.max_time import MaxTime
from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.checkpoints.weights import read_weights
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.models.method import FirstStage, Method
from ddpm_lightning.training.config_file import read_config
from ddpm_lightning.training.settings import TrainSettings
from ddpm_lightning.utils.allowed_classes import Trust
from ddpm_lightning.utils.atomic import read_json
from ddpm_lightning.utils.errors import UserError

__all__ = ["FOLDER", "first_settings", "first_steps", "planned_steps", "progress", "relocated", "take_first"]

#: Folder of the first stage, inside of the run's.
FOLDER = "mean"


def first_settings(settings: TrainSettings, stage: FirstStage) -> TrainSettings | None:
    """Returns the settings of the run that trains the first method, or ``None`` if a trained one is given.

    Args:
        settings: Settings of the whole run. Once the second stage has begun, additional steps are all its own.
        stage: The first stage of its method.

    Raises:
        UserError: If there are too few steps for two stages.
    """
    if stage.checkpoint is not None:
        return None
    total = settings.trainer["max_steps"]
    if total < 2:
        raise UserError(
            "trainer.max_steps",
            f"is {total}",
            allowed=f"at least 2: {stage.part} and the method itself share them",
        )
    run = Path(settings.run_folder)
    own = run / FOLDER
    trainer = {**settings.trainer, "max_steps": first_steps(run) or planned_steps(stage, total)}
    if (time := trainer.get("max_time")) is not None:
        trainer["max_time"] = {"seconds": stage.share * MaxTime(time).seconds}
    small = "_small" if str(settings.names["model"]).endswith("_small") else ""
    return TrainSettings.of(
        {
            **relocated(settings.model_dump(), str(run), str(own)),
            "model": settings.model[stage.part],
            "names": {**settings.names, "model": stage.model + small},
            "trainer": trainer,
            "resume": str(own) if (own / "checkpoints" / "last.ckpt").is_file() else None,
        }
    )


def planned_steps(stage: FirstStage, total: int) -> int:
    """Returns how many of the steps of a new run its first stage takes."""
    return min(max(round(stage.share * total), 1), total - 1)


def first_steps(folder: Path) -> int:
    """Returns the steps of the first stage of a run if its second stage has begun, else 0."""
    config = folder / FOLDER / "config.yaml"
    begun = config.is_file() and (folder / "checkpoints" / "last.ckpt").is_file()
    return read_config(config)["trainer"]["max_steps"] if begun else 0


def progress(folder: Path, resumed: Path | None) -> dict[str, int]:
    """Returns how far the first method was trained, as ``step`` and ``steps``; nothing if there is no record.

    Args:
        folder: Folder of the whole run.
        resumed: Checkpoint from which the second stage is resumed; its record takes precedence, because the first
            stage may have been trained further since.
    """
    card = read_weights(resumed)["card"] if resumed else {}
    training = card.get("training") if isinstance(card, dict) else None
    own = training.get("regressor") if isinstance(training, dict) else None
    record = own if isinstance(own, dict) else read_json(folder / FOLDER / "status.json")
    found = {key: value for key in ("step", "steps") if isinstance(value := record.get(key), int)}
    return found if len(found) == 2 else {}


def take_first(
    method: Method, stage: FirstStage, checkpoint: str | Path, data: PairDataModule, trust: Trust = ()
) -> None:
    """Gives a method the weights of the trained method that it builds on.

    Args:
        method: The method.
        stage: Its first stage.
        checkpoint: Checkpoint of the trained first method.
        data: The data of the run, its normalisation fitted.
        trust: Packages whose classes the checkpoint may name.

    Raises:
        UserError: If the checkpoint is of another method or size, or was trained with another normalisation.
    """
    trained = load(checkpoint, trust=trust)
    subject, part = f"model.{stage.checkpoint_setting}={checkpoint}", getattr(method, stage.part)
    if type(trained.method) is not type(part):
        raise UserError(
            subject,
            f"is a {type(trained.method).__name__}",
            allowed=f"a checkpoint of model={stage.model} or model={stage.model}_small",
        )
    if trained.normalisation.state() != data.normalisation.state():
        raise UserError(
            subject,
            "was trained with another normalisation",
            remedy="train both on the same data, with the same settings",
        )
    try:
        part.load_state_dict(trained.method.state_dict())
    except RuntimeError as error:
        raise UserError(
            subject,
            f"has another network than model.{stage.part}",
            remedy=f"pair {stage.model} with full-size models, and {stage.model}_small with their _small versions",
        ) from error


def relocated(node: Any, before: str, after: str) -> Any:
    """Returns a configuration in which paths within the folder ``before`` are within the folder ``after``."""
    if isinstance(node, dict):
        return {key: relocated(value, before, after) for key, value in node.items()}
    if isinstance(node, list):
        return [relocated(value, before, after) for value in node]
    inside = isinstance(node, str) and (node == before or node.startswith(f"{before}/"))
    return after + node[len(before) :] if inside else node
