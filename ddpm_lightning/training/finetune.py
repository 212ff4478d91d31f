"""Fine-tuning: runs that start with the networks, the kind of normalisation and the weights of a trained model.

The scale of intensities and the reference of inputs are fitted to the new data, and so is the initial noise of a flow.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ddpm_lightning.checkpoints.load import Trained, load
from ddpm_lightning.models.method import Method
from ddpm_lightning.utils.errors import UserError

__all__ = ["inherit", "inherited_model", "inherited_normalisation", "loaded", "take_weights"]

#: Setting, and attribute, of the first stage of methods that have one.
REGRESSOR = "regression"


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
        # The error names the setting of other verbs.
        subject, remedy = (
            str(text).replace("checkpoint=", "finetune=") for text in (error.subject, error.remedy)
        )
        raise UserError(subject, error.found, error.allowed, remedy) from error


def inherit(
    settings: dict[str, Any],
    trained: Trained,
    changes: Mapping[str, Any],
    chosen_model: str | None = None,
    own_normalisation: bool = False,
) -> dict[str, Any]:
    """Returns the settings of a run with the model, or its regressor, and the normalisation of a trained model.

    Args:
        settings: Settings of the run.
        trained: The trained model.
        changes: Settings of the model, nested as they are, that replace those of the trained model.
        chosen_model: Name of the model of the run, if one was chosen. It may be of another kind if both have the same
            first stage, or one is the first stage of the other; only that is then inherited.
        own_normalisation: Whether to keep the normalisation of the settings.

    Raises:
        UserError: If the chosen model or a change does not suit the trained model.
    """
    origin, data, seed = trained.card, settings["data"], settings["seed"]
    if not chosen_model or _kind(settings["model"]) == _kind(origin["model"]):
        model = inherited_model(trained, changes, seed)
    else:
        model = _with_shared_stage(settings["model"], origin["model"], trained, changes, seed)
        if model is None:
            raise UserError(
                f"model={chosen_model}",
                f"but finetune={settings['finetune']} is a {origin['names']['model']}",
                remedy="leave out model=NAME: the model is that of the checkpoint",
            )
    return {
        **settings,
        "model": model,
        "data": data if own_normalisation else inherited_normalisation(data, trained),
    }


def inherited_model(trained: Trained, changes: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Returns the description of a trained model, to be trained further.

    Args:
        trained: The trained model.
        changes: Settings of the model, nested as they are, that replace those of the trained model.
        seed: Seed of everything random in training.

    Raises:
        UserError: If the model has no such setting.
    """
    model, stage = dict(trained.card["model"]), trained.method.first_stage
    if stage:  # its first method is part of the checkpoint
        model[stage.checkpoint_setting] = None
    model = {**_merged(model, changes, str(trained.path)), "seed": seed}
    if stage:
        model[stage.part] = {**model[stage.part], "seed": seed}
    return model


def _with_shared_stage(
    model: Mapping[str, Any],
    origin: Mapping[str, Any],
    trained: Trained,
    changes: Mapping[str, Any],
    seed: int,
) -> dict[str, Any] | None:
    """Returns the description of a model with the regressor of a trained model of another kind, if both have one."""
    own, its = model.get(REGRESSOR), origin.get(REGRESSOR)
    if its and _kind(model) == _kind(its):
        return {**_merged(its, changes, str(trained.path)), "seed": seed}
    stage = its or origin
    if own and _kind(own) == _kind(stage):
        stage = _merged(stage, changes.get(REGRESSOR, {}), str(trained.path), f"model.{REGRESSOR}")
        return {**model, REGRESSOR: {**stage, "seed": seed}}
    return None


def _kind(model: Mapping[str, Any]) -> str:
    return model["_target_"]


def inherited_normalisation(data: Mapping[str, Any], trained: Trained) -> dict[str, Any]:
    """Returns the description of a data set with the kind of normalisation that a model was trained with."""
    own, normalisation = data["normalisation"], dict(trained.card["normalisation"]["config"])
    if normalisation["target"] is None:
        # A shared scale is right for the pairs that it was chosen for; those of others are matched in brightness.
        normalisation["matched"] = own["target"] is not None or bool(own.get("matched"))
    return {**data, "normalisation": normalisation}


def _merged(
    model: Mapping[str, Any], changes: Mapping[str, Any], checkpoint: str, above: str = "model"
) -> dict[str, Any]:
    """Returns nested settings with changes of existing keys."""
    merged = dict(model)
    for key, value in changes.items():
        if key not in model:
            raise UserError(
                f"{above}.{key}",
                f"is no setting of the model of finetune={checkpoint}",
                allowed=", ".join(map(str, model)),
            )
        nested = isinstance(value, Mapping) and isinstance(model[key], Mapping)
        merged[key] = _merged(model[key], value, checkpoint, f"{above}.{key}") if nested else value
    return merged


def take_weights(method: Method, checkpoint: str, trust: Sequence[str] = ()) -> dict[str, str]:
    """Gives a method the weights of a trained one; if the two differ, those of the stage that they have in common.

    Args:
        method: A new method.
        checkpoint: The trained one, or the name of a shipped one.
        trust: Packages whose classes the file may name.

    Returns:
        Name of the checkpoint and hash of its file, for the card.

    Raises:
        UserError: If the networks differ.
    """
    trained = loaded(checkpoint, trust)
    source, target = trained.method, method
    if type(source) is not type(target):
        source, target = getattr(source, REGRESSOR, source), getattr(target, REGRESSOR, target)
    # What combines a plane and its neighbours begins as the identity, if the trained method saw single planes.
    weights = {name: weight for name, weight in target.state_dict().items() if "stem." in name}
    try:
        target.load_state_dict({**weights, **source.state_dict()})
    except RuntimeError as error:
        raise UserError(
            f"finetune={checkpoint}",
            f"has another network than this run: {str(error).splitlines()[-1].strip()}",
            remedy="leave out what changes the network, such as model.network.base",
        ) from error
    method.reset_calibration()
    return {"checkpoint": str(checkpoint), "sha256": trained.sha256}
