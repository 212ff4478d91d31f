"""Builds methods from their descriptions: the group ``model`` of a configuration, or the card of a checkpoint.

Such a group contains the settings of a method and of its training: ``optimizer``, ``lr_schedule`` and ``seed``. Nested
methods, such as the regressor of a flow, are described in the same way.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ddpm_lightning.models.method import Method
from ddpm_lightning.utils.allowed_classes import Trust, kind_of
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.instantiate import build, check

__all__ = ["TRAINING", "build_method", "check_method", "method_settings", "with_neighbours"]

#: Settings of a group ``model`` for the training of the method.
TRAINING = ("optimizer", "lr_schedule", "seed")
#: Setting, and attribute, of the regressor of methods that build on one.
REGRESSOR = "regression"
#: What combines a plane and its neighbours, and methods that have none.
STEM = "ddpm_lightning.networks.neighbours.NeighbourStem"
SINGLE_PLANES = (
    "ddpm_lightning.models.classical.Classical",
    "ddpm_lightning.models.pix2pix.Pix2Pix",
    "ddpm_lightning.models.unet_rcan.UNetRCANRegression",
)


def build_method(
    model: Mapping[str, Any], trust: Trust = (), bounds: tuple[float, float] | None = None
) -> Method:
    """Builds a method from its description, without optimiser and seed.

    Args:
        model: Description of the method, and of how it is trained.
        trust: Whose classes it may name, see :func:`ddpm_lightning.utils.instantiate.build`.
        bounds: Range of clean images on the normalised scale; by default that of the method.

    Returns:
        The method with random weights.

    Raises:
        UserError: If a class is not allowed, does not exist, or does not accept its settings.
    """
    method: Method = build(method_settings(model), ("method",), trust)
    method.bounds = bounds or method.bounds
    return method


def check_method(model: Mapping[str, Any], trust: Trust = ()) -> None:
    """Checks a description, its optimisers and schedules included, before anything is built.

    Raises:
        UserError: As :func:`build_method`.
    """
    check(method_settings(model), ("method",), trust)
    for path, kind, value in _training(model):
        if kind == "seed":
            fits, allowed = isinstance(value, int) and not isinstance(value, bool), "a whole number"
        else:
            fits, allowed = value is None or (isinstance(value, Mapping) and "_target_" in value), "a class"
        if not fits:
            raise UserError(path, f"cannot be built: the value is {value!r}"[:100], allowed=allowed)
        try:
            check({kind: value}, (kind,), trust)
        except UserError as error:
            named = str(error.subject).startswith("_target_")
            subject = error.subject if named else path + str(error.subject).removeprefix(kind)
            raise UserError(subject, error.found, error.allowed, error.remedy) from error


def method_settings(model: Any) -> Any:
    """Returns a description without the settings of the training."""
    if not isinstance(model, Mapping):
        return model
    return {
        key: method_settings(value) if _is_method(value) else value
        for key, value in model.items()
        if key not in TRAINING
    }


def with_neighbours(model: Mapping[str, Any], neighbours: int) -> dict[str, Any]:
    """Returns the description of a method that makes use of the neighbours of planes, as its data include them.

    Of methods that build on a regressor, it is the regressor that does.

    Args:
        model: Description of the method.
        neighbours: Planes on each side; 0 for none.

    Raises:
        UserError: If the method already uses another number, or cannot use any.
    """
    if REGRESSOR in model:
        return {**model, REGRESSOR: with_neighbours(model[REGRESSOR], neighbours)}
    used = (model.get("stem") or {}).get("neighbours", 0)
    if used == neighbours:
        return dict(model)
    if used:
        raise UserError(
            f"data.neighbours={neighbours}",
            f"but the model uses {used} neighbours on each side",
            remedy=f"set data.neighbours={used}",
        )
    if str(model.get("_target_")) in SINGLE_PLANES:
        raise UserError(
            f"data.neighbours={neighbours}",
            "cannot be used by this model, which sees single planes only",
            allowed="regression, ddpm, pmrf, residual_flow, scored, care, noise2void",
            remedy="choose one of these, or leave out data.neighbours",
        )
    return {**model, "stem": {"_target_": STEM, "neighbours": neighbours}}


def _training(model: Any, above: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yields path, name and value of each setting of the training of a method and of methods within it."""
    for key, value in model.items() if isinstance(model, Mapping) else ():
        if key in TRAINING:
            yield f"{above}{key}", key, value
        elif _is_method(value):
            yield from _training(value, f"{above}{key}.")


def _is_method(node: Any) -> bool:
    return isinstance(node, Mapping) and (kind_of(node.get("_target_")) == "method" or "optimizer" in node)
