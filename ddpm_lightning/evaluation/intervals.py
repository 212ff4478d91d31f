"""Calibrates the intervals of a checkpoint on a validation split, and stores them beside it."""

from collections.abc import Sequence
from math import ceil

from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.evaluation.image_scores import ImageScores
from ddpm_lightning.evaluation.summary import conformal_of
from ddpm_lightning.inference.intervals import write_intervals
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.utils.errors import UserError

__all__ = ["calibrate_intervals", "check_calibration"]


def check_calibration(trained: Trained, split: str, samples: int, level: float, images: int) -> None:
    """Checks before the work begins whether intervals can be calibrated.

    Args:
        trained: The model.
        split: The split to calibrate on.
        samples: Samples of each image.
        level: Share of the pixels that intervals should contain.
        images: Number of images.

    Raises:
        UserError: If they cannot.
    """
    if split != "val":
        raise UserError(
            "calibrate=true",
            f"split is {split}",
            allowed="split=val: intervals are valid for images that were used neither for training nor calibration",
            remedy="add split=val",
        )
    if trained.method.deterministic or samples < 2:
        allowed = "a model with random samples, and samples=2 or more"
        raise UserError("calibrate=true", "there are no samples that differ", allowed)
    least = ceil(1 / (1 - level) - 1 - 1e-9)
    if images < least:
        raise UserError(
            "calibrate=true",
            f"there are {images} images to calibrate on",
            allowed=f"at least {least} for level={level:g}",
            remedy="use a lower level, or more validation images",
        )


def calibrate_intervals(
    scores: Sequence[ImageScores], trained: Trained, level: float, samples: int, data: str, split: str
) -> Conformal:
    """Calibrates intervals and stores them beside the checkpoint.

    Args:
        scores: Scores of the images of the calibration split.
        trained: The model.
        level: Share of the pixels that intervals should contain.
        samples: Samples of each image.
        data: Name of the data set.
        split: Name of the split.

    Raises:
        UserError: If too many images could not be scored, or the file cannot be written.
    """
    try:
        conformal = conformal_of(scores, level)
    except ValueError as error:
        raise UserError("calibrate=true", str(error)) from error
    write_intervals(conformal, trained, samples, data, split)
    return conformal
