"""Runs that start from a trained model: its networks, its kind of normalisation, its weights; all else as configured.

The scale of intensities and the reference of inputs are fitted to the new data, and so is the start noise of a flow.
"""

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ddpm_lightning.checkpoints.load import Trained, load
from ddpm_lightning.models.method import Method
from ddpm_lightning.utils.errors import UserError

__all__ = ["inherit", "loaded", "take_weights"]


def loaded(checkpoint: Any, trust: Sequence[str] = ()) -> Trained:
    """Returns the trained model that a run starts from.

    Args:
        checkpoint: Its file, or the name of a shipped one.
        trust: Packages whose classes the file may name.

    Raises:
        UserError: If there is none of that name, or it cannot be used.
    """
    if not isinstance(checkpoint, str):
        raise UserError(
            "finetune", f"is {checkpoint}", allowed="a checkpoint, or the name of a shipped model"
        )
    try:
        return load(checkpoint, trust=trust)
    except UserError as error:
        # It speaks of the key by which other verbs take checkpoints.
        subject, remedy = (
            str(text).replace("checkpoint=", "finetune=") for text in (error.subject, error.remedy)
        )
        raise UserError(subject, error.found, error.allowed, remedy) from error


def inherit(settings: dict[str, Any], trained: Trained, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the configuration of a run with the model and the normalisation of a trained model.

    Args:
        settings: Configuration of the run.
        trained: The trained model.
        overrides: What was given on the command line. Settings below ``model`` hold on top of the model's own, and a
            normalisation in place of its own.

    Raises:
        UserError: If an override does not suit the model.
    """
    origin, stage = trained.card, trained.method.first_stage
    given = [override.lstrip("+~") for override in overrides]
    chosen = [override for override in given if override.startswith("model=")]
    if chosen and settings["model"]["_target_"] != origin["model"]["_target_"]:
        raise UserError(
            chosen[-1],
            f"but finetune={settings['finetune']} is a {origin['names']['model']}",
            remedy="leave out model=NAME: the model is that of the checkpoint",
        )
    model = dict(origin["model"])
    if stage:  # where the first method came from means nothing to the next run
        model[stage.checkpoint_setting] = None
    model = OmegaConf.create(model)
    OmegaConf.set_struct(model, True)
    for override in given:
        key, _, value = override.partition("=")
        if not key.startswith("model."):
            continue
        try:
            model.merge_with(OmegaConf.from_dotlist([f"{key.removeprefix('model.')}={value}"]))
        except OmegaConfBaseException as error:
            raise UserError(
                key,
                f"is no setting of the model of finetune={settings['finetune']}",
                allowed=", ".join(origin["model"]),
            ) from error
    data = settings["data"]
    if not any(override.startswith(("data.normalisation", "data/normalisation")) for override in given):
        own, normalisation = data["normalisation"], dict(origin["normalisation"]["config"])
        if normalisation["target"] is None:
            # A shared scale is right for the pairs that it was chosen for; those of others are matched in brightness.
            normalisation["matched"] = own["target"] is not None or bool(own.get("matched"))
        data = {**data, "normalisation": normalisation}
    model = {**OmegaConf.to_container(model), "seed": settings["seed"]}
    if stage:
        model[stage.part] = {**model[stage.part], "seed": settings["seed"]}
    return {**settings, "model": model, "data": data}


def take_weights(method: Method, checkpoint: str, trust: Sequence[str] = ()) -> dict[str, str]:
    """Gives a method the weights of a trained one, or of the first stage of a trained one.

    Args:
        method: A new method.
        checkpoint: The trained one, or the name of a shipped one.
        trust: Packages whose classes the file may name.

    Returns:
        What a card says of it: its name and the hash of its file.

    Raises:
        UserError: If the networks differ.
    """
    trained = loaded(checkpoint, trust)
    source = trained.method
    if source.first_stage and type(first := getattr(source, source.first_stage.part)) is type(method):
        source = first
    try:
        method.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"finetune={checkpoint}",
            f"has another network than this run: {str(error).splitlines()[-1].strip()}",
            remedy="leave out what changes the network, such as model.network.base",
        ) from error
    method.reset_calibration()
    return {"checkpoint": str(checkpoint), "sha256": trained.sha256}
