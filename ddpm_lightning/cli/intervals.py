"""``CKPT.intervals.json``: the factor that turns the spread of samples into intervals, kept beside its checkpoint.

With the mean m and the standard deviation s over the samples, as ``restore`` writes them, the interval of a pixel is
m ± factor (s + epsilon · gain), where the gain is the number of intensities for each unit of the normalised scale. The
factor belongs to a checkpoint, a sampler and a number of samples; intervals of others are not used.
"""

import json
import sys
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.evaluation.run import ImageScores
from ddpm_lightning.evaluation.summary import conformal_of
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.utils.atomic import write_json
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import command_of, expanded

__all__ = ["check_calibration", "intervals_file", "needed_intervals", "store_intervals", "stored_intervals"]

#: Settings that decide how samples are made, or whether the file may be read: a calibration needs the same.
SAME = ("preset", "sampler", "tta", "trust")


def intervals_file(checkpoint: Path) -> Path:
    """Returns the file of the intervals of a checkpoint."""
    return checkpoint.with_suffix(".intervals.json")


def check_calibration(settings: dict[str, Any], trained: Trained, images: int) -> None:
    """Says before the work begins whether intervals can be calibrated.

    Raises:
        UserError: If they cannot.
    """
    if settings["split"] != "val":
        raise UserError(
            "calibrate=true",
            f"on split {settings['split']}",
            allowed="split=val: intervals hold for images that neither training nor their calibration has seen",
            remedy="add split=val",
        )
    if trained.method.deterministic or settings["samples"] < 2:
        found = "has no samples that differ"
        raise UserError("calibrate=true", found, allowed="a model that draws, and samples=2 or more")
    least = ceil(1 / (1 - settings["level"]) - 1 - 1e-9)
    if images < least:
        raise UserError(
            "calibrate=true",
            f"has {images} images to calibrate on",
            allowed=f"at least {least} for level={settings['level']:g}",
            remedy="take a lower level, or more validation images",
        )


def store_intervals(
    judged: Sequence[ImageScores], about: dict[str, Any], trained: Trained, level: float
) -> tuple[Conformal, str]:
    """Calibrates, writes the file, and returns the factor and the split it came from.

    Raises:
        UserError: If too many images could not be scored, or the file cannot be written.
    """
    try:
        conformal = conformal_of(judged, level)
    except ValueError as error:
        raise UserError("calibrate=true", str(error)) from error
    path = intervals_file(trained.path)
    content = {
        **conformal.to_dict(),
        "samples": about["samples"],
        "preset": about["sampler"],
        "data": about["data"],
        "split": about["split"],
        "checkpoint_sha256": trained.sha256,
        "meaning": "mean ± factor * (std + epsilon * gain), gain = intensities for each unit of the normalised scale",
    }
    try:
        write_json(path, content)
    except OSError as error:
        raise UserError(
            path, f"cannot be written: {error.strerror}", remedy="copy the checkpoint elsewhere"
        ) from error
    return conformal, about["split"]


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
