"""Whether the size of the standard deviation is calibrated: what results and error messages say of it.

With the mean m and the standard deviation s over the samples, without a factor, the calibrated interval of a pixel is
m ± factor (s + epsilon · gain), where the gain is the number of intensities for each unit of the normalised scale.
"""

import re
from collections.abc import Mapping
from typing import Any

from ddpm_lightning.checkpoints.load import ModelSettings, Trained
from ddpm_lightning.checkpoints.store_calibration import copy_command, is_shipped
from ddpm_lightning.inference.plane_restorer import PlaneRestorer
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import command_of, expanded

__all__ = ["required_intervals", "std_map_in_words", "std_map_record"]


def required_intervals(trained: Trained, settings: ModelSettings) -> Conformal:
    """Returns the calibrated intervals for this checkpoint, sampler and number of samples, which must exist.

    Args:
        trained: The model.
        settings: How it makes samples.

    Raises:
        UserError: If there are none; it names the command that calibrates them.
    """
    samples = 0 if trained.std_by_network else settings.samples or trained.samples
    calibration = trained.calibration(samples)
    if calibration is not None and calibration.intervals is not None:
        return calibration.intervals
    raise UserError(
        "intervals=true",
        f"this model was not calibrated for {f'{samples} samples by ' * bool(samples)}{trained.sampling}",
        remedy=_command(trained, settings, samples),
    )


def std_map_record(restorer: PlaneRestorer, settings: ModelSettings, samples: int) -> dict[str, Any]:
    """Returns what the record of a file says of its standard deviation map.

    Args:
        restorer: The model.
        settings: How it makes samples.
        samples: Number of samples.
    """
    found = restorer.calibration(samples)
    if found is not None:
        return {"calibrated": True, **found.model_dump(exclude={"intervals"})}
    if restorer.tolerance is not None:
        return {
            "calibrated": False,
            "remedy": "leave out tolerance: a calibration needs a fixed number of samples",
        }
    return {"calibrated": False, "remedy": _command(restorer.trained, settings, samples)}


def std_map_in_words(record: Mapping[str, Any]) -> str:
    """Returns the sentence on the standard deviation map for the screen.

    Args:
        record: Result of :func:`std_map_record`.
    """
    if record["calibrated"]:
        origin = f"{record['images']} images of {record['data']}, split {record['split']}"
        return f"standard deviation scaled by {record['std_factor']:.2f}, the factor measured on {origin}"
    return (
        "the standard deviation map ranks pixels by uncertainty, but its size is not calibrated; to calibrate it: "
        f"{record['remedy']}"
    )


def _command(trained: Trained, settings: ModelSettings, samples: int) -> str:
    """Returns the command that calibrates a model for these samples."""
    root = trained.card["data"].get("root")
    shipped = is_shipped(trained.path)
    own = shipped or (root and not expanded(str(root)).is_dir())
    number = (
        {"samples": samples} if samples else {}
    )  # of no importance for the standard deviation of a network
    moved = {"data": "folder", "data.root": "DIR"} if own else {}
    path = f"my_{trained.path.name}" if shipped else trained.path
    keys = {"checkpoint": path, "split": "val", "calibrate": "true", **number, **moved}
    command = command_of("evaluate", **_sampling(settings), **keys)
    pairs = " with pairs of your own in DIR: the images of the training are not here" if own else ""
    return f"{copy_command(trained.path)} && {command}{pairs}" if shipped else f"{command}{pairs}"


def _sampling(settings: ModelSettings) -> Mapping[str, Any]:
    """Returns the settings that decide how samples are made, as they are typed on the command line."""
    keys: dict[str, Any] = {"preset": settings.preset}
    for name, value in (settings.sampler or {}).items():
        if name == "_target_":  # sampler=dpm_solver is the class DPMSolver
            kind = value.rpartition(".")[2]
            keys["sampler"] = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()
        else:
            keys[f"sampler.{name}"] = value
    keys |= {"tta": settings.tta, "trust": ",".join(settings.trust) or None}
    return {
        key: str(value).lower() if isinstance(value, bool) else value
        for key, value in keys.items()
        if value is not None
    }
