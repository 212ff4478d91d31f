"""Runs that start from a trained model: its networks, its kind of normalisation, its weights; all else as configured.

The scale of intensities and the reference of inputs are fitted to the new data, and so is the start noise of a flow.
"""

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ddpm_lightning.checkpoints.load import Trained, load
from ddpm_lightning.models.learner import Learner
from ddpm_lightning.models.pmrf import PMRF
from ddpm_lightning.models.regression import Regression
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


def inherit(settings: dict[str, Any], origin: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the configuration of a run with the model and the normalisation of a trained model.

    Args:
        settings: Configuration of the run.
        origin: Card of the trained model.
        overrides: What was given on the command line. Settings below ``model`` hold on top of the model's own, and a
            normalisation in place of its own.

    Raises:
        UserError: If an override does not suit the model.
    """
    given = [override.lstrip("+~") for override in overrides]
    chosen = [override for override in given if override.startswith("model=")]
    if chosen and settings["model"]["_target_"] != origin["model"]["_target_"]:
        raise UserError(
            chosen[-1],
            f"but finetune={settings['finetune']} is a {origin['names']['model']}",
            remedy="leave out model=NAME: the model is that of the checkpoint",
        )
    model = dict(origin["model"])
    if "mean" in model:  # where a flow's regressor came from means nothing to the next run
        model["mean"] = None
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
    return {**settings, "model": _seeded(OmegaConf.to_container(model), settings["seed"]), "data": data}


def _seeded(model: dict[str, Any], seed: int) -> dict[str, Any]:
    """Returns a model's configuration with the seed of the run, that of a flow's regressor too."""
    nested = {"regression": _seeded(model["regression"], seed)} if "regression" in model else {}
    return {**model, **nested, "seed": seed}


def take_weights(model: Learner, checkpoint: str, trust: Sequence[str] = ()) -> dict[str, str]:
    """Gives a model the weights of a trained one, and a regressor those of the one that a flow starts from.

    Args:
        model: A fresh model.
        checkpoint: The trained one, or the name of a shipped one.
        trust: Packages whose classes the file may name.

    Returns:
        What a card says of it: its name and the hash of its file.

    Raises:
        UserError: If the networks differ.
    """
    trained = loaded(checkpoint, trust)
    source = trained.method
    if isinstance(model, Regression) and isinstance(source, PMRF):
        source = source.regression
    try:
        model.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"finetune={checkpoint}",
            f"has another network than this run: {str(error).splitlines()[-1].strip()}",
            remedy="leave out what changes the network, such as model.network.base",
        ) from error
    if isinstance(model, PMRF):
        model.sigma.zero_()  # measured anew, with the regressor as it will be
    return {"checkpoint": str(checkpoint), "sha256": trained.sha256}
