"""Calibrates the standard deviation of a model on images with a clean partner, and stores the result in its card."""

from collections.abc import Sequence
from math import ceil

from ddpm_lightning.checkpoints.calibration import LARGEST, SMALLEST, Calibration
from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.checkpoints.store_calibration import check_writable, store_calibration
from ddpm_lightning.evaluation.image_scores import ImageScores
from ddpm_lightning.evaluation.summary import conformal_of
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.metrics.std_factor import StdMoments, fit_std_factor
from ddpm_lightning.utils.errors import UserError

__all__ = ["calibrate", "calibrate_std", "check_calibration"]


def check_calibration(
    trained: Trained, split: str, samples: int, level: float, images: int, fewest: int = 0
) -> None:
    """Checks before the work begins whether a model can be calibrated.

    Args:
        trained: The model.
        split: The split to calibrate on.
        samples: Samples of each image.
        level: Share of the pixels that intervals should contain.
        images: Number of images.
        fewest: Fewest images that something else needs.

    Raises:
        UserError: If it cannot.
    """
    check_writable(trained.path)
    if split != "val":
        raise UserError(
            "calibrate=true",
            f"split is {split}",
            allowed="split=val: intervals are valid for images that were used neither for training nor calibration",
            remedy="add split=val",
        )
    if trained.method.deterministic or samples < 2:
        allowed = "a model with random samples, and samples=2 or more"
        raise UserError("calibrate=true", "needs several different samples of each image", allowed)
    least = max(fewest, ceil(1 / (1 - level) - 1 - 1e-9))
    if images < least:
        raise UserError(
            "calibrate=true",
            f"there are {images} images to calibrate on",
            allowed=f"at least {least} for level={level:g}",
            remedy="use a lower level, or more validation images",
        )


def calibrate(
    scores: Sequence[ImageScores], trained: Trained, level: float, samples: int, data: str, split: str
) -> Calibration:
    """Calibrates the standard deviation and the intervals of a model, and stores both in its card.

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
    moments = [image.std_moments for image in scores if image.std_moments is not None]
    try:
        return calibrate_std(moments, trained, samples, data, split, conformal_of(scores, level))
    except ValueError as error:
        raise UserError("calibrate=true", str(error)) from error


def calibrate_std(
    moments: Sequence[StdMoments],
    trained: Trained,
    samples: int,
    data: str,
    split: str,
    intervals: Conformal | None = None,
) -> Calibration:
    """Fits the factor of the standard deviation of a model, and stores it in its card.

    Args:
        moments: How large standard deviation and error of each image are.
        trained: The model.
        samples: Samples of each image; of no importance for the standard deviation of a network.
        data: Name of the data set.
        split: Name of the split.
        intervals: Calibrated intervals, which are stored with it.

    Raises:
        ValueError: If there is no factor, or it is too large or too small for a trained model.
        UserError: If the file cannot be written.
    """
    samples = 0 if trained.std_by_network else samples
    fitted = fit_std_factor(moments, samples, trained.method.antithetic, trained.mean == "network")
    if not SMALLEST <= fitted.factor <= LARGEST:
        raise ValueError(
            f"the error is {fitted.factor:.2g} times the standard deviation, which is not that of a "
            "trained model"
        )
    calibration = Calibration(
        sampling=trained.sampling,
        sampler=trained.sampler,
        samples=samples,
        std_factor=fitted.factor,
        ideal_factor=fitted.ideal,
        coverage=fitted.coverage,
        images=fitted.images,
        data=data,
        split=split,
        intervals=intervals,
    )
    store_calibration(trained, calibration)
    return calibration
