"""``CKPT.intervals.json``: the factor that turns standard deviations of samples into intervals, beside its checkpoint.

With the mean m and the standard deviation s over the samples, as ``restore`` writes them, the interval of a pixel is
m ± factor (s + epsilon · gain), where the gain is the number of intensities for each unit of the normalised scale. The
factor is valid for one checkpoint, sampler and number of samples; intervals of others are not used.
"""

import json
import sys
from pathlib import Path

from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.utils.atomic import write_json
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import command_of, expanded

__all__ = ["intervals_file", "needed_intervals", "stored_intervals", "write_intervals"]

#: Settings that decide how samples are made, or whether the file may be read: a calibration needs the same.
SAME = ("preset", "sampler", "tta", "trust")


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
        "preset": trained.way,
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
    """Returns the intervals that are stored for this checkpoint, sampler and number of samples, and their split."""
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
    return (conformal, split) if found == [trained.sha256, trained.way, samples] else (None, "")


def needed_intervals(trained: Trained, samples: int) -> Conformal:
    """Returns the intervals that are stored for this checkpoint, sampler and number of samples.

    Raises:
        UserError: If there are none; it names the command that calibrates them.
    """
    intervals, _ = stored_intervals(trained, samples)
    if intervals is not None:
        return intervals
    typed = [text for text in sys.argv[1:] if text.partition("=")[0].lstrip("+").split(".")[0] in SAME]
    root = trained.card["data"].get("root")
    moved = {"data": "folder", "data.root": "DIR"} if root and not expanded(str(root)).is_dir() else {}
    settings = {"checkpoint": trained.path, "split": "val", "calibrate": "true", "samples": samples, **moved}
    pairs = " with pairs of your own in DIR: the images of the training are not here" if moved else ""
    raise UserError(
        "intervals=true",
        f"this model was not calibrated for {samples} samples by {trained.way}",
        remedy=f"{command_of('evaluate', *typed, **settings)}{pairs}",
    )
