"""Writes a calibration into the card of a checkpoint; the weights and everything else in the file stay as they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddpm_lightning.checkpoints.calibration import CALIBRATIONS, Calibration, calibrations_of
from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.checkpoints.safetensors_file import SHIPPED, SUFFIX, replace_card
from ddpm_lightning.checkpoints.weights import read_weights
from ddpm_lightning.readouts.calibration import READOUTS, ReadoutCalibration, readout_calibrations_of
from ddpm_lightning.utils.atomic import fingerprint
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import command_of
from ddpm_lightning.utils.settings import Settings

__all__ = ["check_writable", "copy_command", "is_shipped", "store_calibration", "store_readouts"]


def is_shipped(path: Path) -> bool:
    """Says whether a file is one of the models that come with the package."""
    return path.parent == SHIPPED


def copy_command(path: Path) -> str:
    """Returns the command that makes a copy of a shipped model, which can then be calibrated."""
    copy = f"my_{path.stem}{SUFFIX}"
    return command_of("export", checkpoint=path.stem, output=copy, authors="[me]")


def check_writable(path: Path) -> None:
    """Checks before the work begins that a calibration can be written into a checkpoint.

    Raises:
        UserError: If it belongs to the package: a shipped model is the same everywhere.
    """
    if is_shipped(path):
        raise UserError(
            "calibrate=true",
            f"checkpoint={path.stem} is a model of this program, which is not changed",
            remedy=f"make a copy, and calibrate that: {copy_command(path)}",
        )


def store_calibration(trained: Trained, calibration: Calibration) -> None:
    """Writes a calibration into the card of a model's file, in place of an earlier one for the same samples.

    Args:
        trained: The model; its card and its hash are updated.
        calibration: What is written.

    Raises:
        UserError: If the file was replaced since it was loaded, or cannot be written.
    """
    others = [one for one in calibrations_of(trained.card) if one.key != calibration.key]
    _store(trained, CALIBRATIONS, [*others, calibration])


def store_readouts(trained: Trained, calibrations: Sequence[ReadoutCalibration]) -> None:
    """Writes calibrated readouts into the card of a model's file, in place of earlier ones for the same samples.

    Args:
        trained: The model; its card and its hash are updated.
        calibrations: What is written.

    Raises:
        UserError: If the file was replaced since it was loaded, or cannot be written.
    """
    replaced = {one.key for one in calibrations}
    others = [one for one in readout_calibrations_of(trained.card) if one.key not in replaced]
    _store(trained, READOUTS, [*others, *calibrations])


def _store(trained: Trained, entry: str, values: Sequence[Settings]) -> None:
    path = trained.path
    check_writable(path)
    card = {**trained.card, entry: [one.model_dump() for one in values]}
    try:
        if fingerprint(path)["sha256"] != trained.sha256:
            raise UserError(path, "was replaced while it was calibrated", remedy="calibrate it again")
        if path.suffix == SUFFIX:
            replace_card(path, card)
        else:
            _replace_card_of_checkpoint(path, card)
        trained.card, trained.sha256 = card, fingerprint(path)["sha256"]
    except OSError as error:
        found = f"cannot be written: {error.strerror}"
        raise UserError(path, found, remedy="copy the checkpoint to another folder") from error


def _replace_card_of_checkpoint(path: Path, card: dict[str, Any]) -> None:
    # Imported here because Lightning, which this file needs, is slow to load.
    from ddpm_lightning.checkpoints.checkpoint_file import save_atomically

    save_atomically({**read_weights(path), "card": card}, path)
