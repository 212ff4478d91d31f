"""``CKPT.intervals.json``: the factor that turns standard deviations of samples into intervals, beside its checkpoint.

With the mean m and the standard deviation s over the samples, as ``restore`` writes them, the interval of a pixel is
m ± factor (s + epsilon · gain), where the gain is the number of intensities for each unit of the normalised scale. The
factor is valid for one checkpoint, sampler and number of samples; it is not used with others.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpm_lightning.checkpoints.load import ModelSettings, Trained
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.utils.atomic import write_json
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import command_of, expanded

__all__ = ["intervals_file", "required_intervals", "stored_intervals", "write_intervals"]


def intervals_file(checkpoint: Path) -> Path:
    """Returns the file of the intervals of a checkpoint."""
    return checkpoint.with_suffix(".intervals.json")


def write_intervals(conformal: Conformal, trained: Trained, samples: int, data: str, split: str) -> None:
    """Writes the file of the intervals of a checkpoint.

    Args:
        conformal: The calibrated intervals.
        trained: The model.
        samples: Samples of each image.
        data: Name of the data set that they were calibrated on.
        split: Name of its split.

    Raises:
        UserError: If the file cannot be written.
    """
    path = intervals_file(trained.path)
    content = {
        **conformal.to_dict(),
        "samples": samples,
        "preset": trained.sampling,
        "data": data,
        "split": split,
        "checkpoint_sha256": trained.sha256,
        "meaning": "mean ± factor * (std + epsilon * gain), gain = intensities for each unit of the normalised scale",
    }
    try:
        write_json(path, content)
    except OSError as error:
        found = f"cannot be written: {error.strerror}"
        raise UserError(path, found, remedy="copy the checkpoint to another folder") from error


def stored_intervals(trained: Trained, samples: int) -> tuple[Conformal | None, str]:
    """Returns the stored intervals for this checkpoint, sampler and number of samples, and their split.

    Args:
        trained: The model.
        samples: Samples of each image.

    Returns:
        Intervals and split, or ``None`` and an empty text if there are none.

    Raises:
        UserError: If the file is damaged.
    """
    path = intervals_file(trained.path)
    if not path.is_file():
        return None, ""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = [content[name] for name in ("checkpoint_sha256", "preset", "samples")]
        conformal = Conformal(**{name: content[name] for name in ("factor", "level", "epsilon", "images")})
        split = content["split"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(path, "is damaged", remedy="remove it, or calibrate again") from error
    return (conformal, split) if found == [trained.sha256, trained.sampling, samples] else (None, "")


def required_intervals(trained: Trained, settings: ModelSettings) -> Conformal:
    """Returns the stored intervals for this checkpoint, sampler and number of samples, which must exist.

    Args:
        trained: The model.
        settings: How it makes samples.

    Raises:
        UserError: If there are none; it names the command that calibrates them.
    """
    samples = settings.samples or trained.samples
    intervals, _ = stored_intervals(trained, samples)
    if intervals is not None:
        return intervals
    root = trained.card["data"].get("root")
    moved = {"data": "folder", "data.root": "DIR"} if root and not expanded(str(root)).is_dir() else {}
    keys = {"checkpoint": trained.path, "split": "val", "calibrate": "true", "samples": samples, **moved}
    pairs = " with pairs of your own in DIR: the images of the training are not here" if moved else ""
    raise UserError(
        "intervals=true",
        f"this model was not calibrated for {samples} samples by {trained.sampling}",
        remedy=f"{command_of('evaluate', **_sampling(settings), **keys)}{pairs}",
    )


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
