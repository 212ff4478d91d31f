"""The card of a checkpoint, which describes its model. It is validated, because the file may come from anyone.

It must be a tree of plain values of limited size; then each part that other code relies on is checked.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpm_lightning.checkpoints.calibration import calibrations_of
from ddpm_lightning.readouts.calibration import readout_calibrations_of
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.plain import check_plain

__all__ = ["CARD_FORMAT", "checked_card", "training_of"]

#: Version of the card format; increased whenever earlier versions of this program could not read new cards.
CARD_FORMAT = 1
#: Features of training inputs that every reader requires.
FEATURES = ("mean", "dark", "bright", "noise")


def checked_card(content: Any, path: Path) -> dict[str, Any]:
    """Returns the card of a checkpoint.

    Args:
        content: Content of the file.
        path: The file, for errors.

    Raises:
        UserError: If it is missing, has another format, or is malformed.
    """
    card = content.get("card") if isinstance(content, dict) else None
    if not isinstance(card, dict) or "model" not in card:
        raise UserError(
            path,
            "is not a checkpoint of ddpm-lightning",
            remedy="pass a file from RUN/checkpoints/, or train one",
        )
    try:
        check_plain(card, "its card")
        if card.get("format") != CARD_FORMAT:
            raise UserError(
                path,
                f"has a card of format {card.get('format')}",
                allowed=f"format {CARD_FORMAT}",
                remedy="use the version of ddpm-lightning that wrote it: " + str(card.get("versions")),
            )
        _check_parts(card)
    except ValueError as error:
        raise UserError(
            path,
            f"is damaged, or was not written by this program: {error}",
            remedy="copy it again from its source",
        ) from error
    return card


def _check_parts(card: dict[str, Any]) -> None:
    names = _named(card, "names")
    for key in ("model", "data"):
        _wanted(isinstance(names.get(key), str), f"names.{key}", "a name")
    _named(card, "model")
    _wanted(isinstance(_named(card, "data").get("_target_"), str), "data._target_", "a class")
    normalisation = _named(card, "normalisation")
    config, state = _named(normalisation, "config"), _named(normalisation, "state")
    _wanted(isinstance(config.get("_target_"), str), "normalisation.config._target_", "a class")
    for role in ("input", "target"):
        scale = _named(state, role)
        _wanted(all(map(_is_number, scale.values())), f"normalisation.state.{role}", "numbers")
        if "low" in scale and "high" in scale:
            _wanted(scale["low"] < scale["high"], f"normalisation.state.{role}", "low below high")
        bounds = state.get(f"{role}_bounds")
        rising = (
            isinstance(bounds, list | tuple)
            and len(bounds) == 2
            and all(map(_is_number, bounds))
            and bounds[0] < bounds[1]
        )
        _wanted(rising, f"normalisation.state.{role}_bounds", "two rising numbers")
    for key in ("config", "provenance", "about", "versions", "finetune", "training"):
        _wanted(isinstance(card.get(key, {}), Mapping), key, "named values")
    _wanted(isinstance(card.get("data_name", ""), str), "data_name", "a name")
    size = card.get("pixel_size_um")
    _wanted(size is None or (_is_number(size) and size > 0), "pixel_size_um", "a number above 0, or null")
    axis = _named(card, "neighbours").get("axis") if "neighbours" in card else ""
    _wanted(axis in ("", "z", "t"), "neighbours.axis", "z, t or empty")
    calibrations_of(card)
    readout_calibrations_of(card)
    if "inputs" in card:
        _check_inputs(_named(card, "inputs"))


def _check_inputs(inputs: Mapping[str, Any]) -> None:
    for name in {*FEATURES, *inputs}:
        values = inputs.get(name)
        listed = isinstance(values, list | tuple) and len(values) > 0 and all(map(_is_number, values))
        _wanted(listed, f"inputs.{name}", "a list of numbers")


def _named(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = node.get(key)
    if not isinstance(value, Mapping):
        raise _malformed(key, "named values")
    return value


def _wanted(holds: bool, key: str, what: str) -> None:
    if not holds:
        raise _malformed(key, what)


def _malformed(key: str, what: str) -> ValueError:
    return ValueError(f"{key} of its card is not {what}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def training_of(card: dict[str, Any]) -> dict[str, Any]:
    """Returns what a card says of the training of its model, for the records of results."""
    config, origin = card.get("config", {}), card.get("provenance", {})
    return {
        "data": card.get("data_name", card["names"]["data"]),
        "data_settings": card["data"],
        "data_hash": origin.get("data"),
        "pixel_size_um": card.get("pixel_size_um"),
        "normalisation": card["normalisation"],
        "model": card["model"],
        "trainer": config.get("trainer"),
        "seed": config.get("seed"),
        "commit": origin.get("commit"),
    }
