"""Readouts of the images of a split, compared with those of their clean partners; calibration of their intervals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.checkpoints.store_calibration import store_readouts
from ddpm_lightning.evaluation.restored_pair import Restored, clean_like_restored
from ddpm_lightning.inference.readouts import MeasuredPlane, PlaneReadouts
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.readouts.calibration import ReadoutCalibration, group_of
from ddpm_lightning.readouts.intervals import FEWEST, calibrate_number
from ddpm_lightning.readouts.readout import Readout, measure
from ddpm_lightning.utils.errors import UserError

if TYPE_CHECKING:
    from ddpm_lightning.evaluation.image_scores import ImageScores

__all__ = ["ImageReadouts", "calibrate_readouts", "image_readouts", "readout_rows", "readout_summary"]


@dataclass(frozen=True)
class ImageReadouts:
    """What was measured in an image.

    Attributes:
        plane: In the image, its restoration and the samples.
        truths: In the clean image, for each readout.
        pixel_size: Size of a pixel in µm, or ``None``.
        warnings: Warnings of the comparison of the image with its restoration, as ``restore`` gives them.
    """

    plane: MeasuredPlane
    truths: list[dict[str, float]]
    pixel_size: float | None
    warnings: list[str]


def image_readouts(restorer: Restorer, restored: Restored, readouts: PlaneReadouts) -> ImageReadouts:
    """Measures an image and its clean partner.

    Args:
        restorer: The model.
        restored: All versions of the image.
        readouts: What was measured in the samples.
    """
    size, average = restored.pair.pixel_size, restored.average + np.float64(restored.offset)
    readouts.add(restored.low, average)
    truths = measure(readouts.readouts, clean_like_restored(restorer, restored), size)
    tested = restorer.residual_check.test(restored.low, average)
    warnings = restorer.residual_check.warnings([tested] if tested else [])
    return ImageReadouts(readouts.planes[0], truths, size, warnings)


def having_readouts(scores: "Sequence[ImageScores]") -> "Iterator[tuple[ImageScores, ImageReadouts]]":
    """Yields the images that were measured."""
    for image in scores:
        if image.readouts is not None:
            yield image, image.readouts


def calibrate_readouts(
    scores: "Sequence[ImageScores]",
    trained: Trained,
    readouts: Sequence[Readout],
    samples: int,
    level: float,
    data: str,
    split: str,
    groups: str = "",
) -> None:
    """Calibrates the intervals of readouts, and stores them in the card of a model.

    Images with warnings are left out: ``restore`` gives no interval for such images either.

    Args:
        scores: Scores of the images of the calibration split.
        trained: The model.
        readouts: What was measured.
        samples: Samples of each image.
        level: Probability with which an interval contains the number of the clean image.
        data: Name of the data set.
        split: Name of the split.
        groups: Pattern whose first group is the group of an image in its name.

    Raises:
        UserError: If too few images are left, or the file cannot be written.
    """
    used = [(image, found) for image, found in having_readouts(scores) if not found.warnings]
    if len(used) < FEWEST:
        raise UserError(
            "calibrate=true readout",
            f"has {len(used)} images without warnings to calibrate on",
            allowed=f"at least {FEWEST}",
            remedy="add validation images, or see readouts.csv of an evaluation for the warnings",
        )
    sizes = [found.pixel_size for _, found in used if found.pixel_size]
    labels = [group_of(image.rows[0].image, groups) for image, _ in used]
    calibrations = []
    for at, readout in enumerate(readouts):
        names = dict.fromkeys(name for _, found in used for name in found.plane.numbers[at])
        numbers = []
        for name in names:
            having = [
                (found.plane.numbers[at][name], found.truths[at].get(name, nan), label)
                for (_, found), label in zip(used, labels, strict=True)
                if name in found.plane.numbers[at]
            ]
            measured, truths, of_group = zip(*having, strict=True)
            quantity = readout.quantity(name)
            unit = quantity.unit(bool(sizes))
            numbers.append(calibrate_number(name, unit, quantity, measured, truths, of_group, level))
        features = [found.plane.features for _, found in used]
        calibrations.append(
            ReadoutCalibration(
                readout=readout.key,
                sampling=trained.sampling,
                sampler=trained.sampler,
                samples=samples,
                level=level,
                images=len(used),
                fields=len({image.rows[0].field for image, _ in used}),
                data=data,
                split=split,
                inputs={key: [float(f"{one[key]:.6g}") for one in features] for key in features[0]},
                pixel_size=float(np.median(sizes)) if sizes else None,
                groups=groups,
                numbers=numbers,
            )
        )
    store_readouts(trained, calibrations)


def readout_rows(
    scores: "Sequence[ImageScores]", trained: Trained, readouts: Sequence[Readout], samples: int
) -> list[dict[str, Any]]:
    """Returns a row for each image and number: the table of ``restore``, the clean image, and whether it is inside.

    Args:
        scores: Scores of the images.
        trained: The model with its calibrations.
        readouts: What was measured.
        samples: Samples of each image.
    """
    rows = []
    for image, found in having_readouts(scores):
        name = image.rows[0].image
        plane = PlaneReadouts(readouts, trained, samples, found.pixel_size, planes=[found.plane])
        truths = {
            (readout.name, number): value
            for readout, numbers in zip(readouts, found.truths, strict=True)
            for number, value in numbers.items()
        }
        for one in plane.rows(name, found.warnings):
            row, truth = one.record(), truths.get((one.readout, one.number), nan)
            del row["plane"]
            inside = None
            if not one.bounds.reason and isfinite(truth):
                inside = one.bounds.low <= truth <= one.bounds.high
            truth = truth if isfinite(truth) else None
            rows.append(
                {"image": name, "field": image.rows[0].field, **row, "clean": truth, "inside": inside}
            )
    return rows


def readout_summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Returns, for each readout and number, how far it is from the clean image, and how well its intervals hold."""
    if not rows:
        return None
    summary: dict[str, Any] = {}
    for readout, number in dict.fromkeys((row["readout"], row["number"]) for row in rows):
        chosen = [row for row in rows if (row["readout"], row["number"]) == (readout, number)]
        known = [row for row in chosen if row["value"] is not None and row["clean"] is not None]
        judged = [row for row in known if row["inside"] is not None]
        summary.setdefault(readout, {})[number] = {
            "unit": chosen[0]["unit"],
            "images": len(known),
            "clean": _mean([row["clean"] for row in known]),
            "bias": _mean([row["value"] - row["clean"] for row in known]),
            "mean_absolute_error": _mean([abs(row["value"] - row["clean"]) for row in known]),
            "input_bias": _mean([row["input"] - row["clean"] for row in known if row["input"] is not None]),
            "std": _mean([row["std"] for row in known if row["std"] is not None]),
            "level": next((row["level"] for row in judged), None),
            "with_interval": len(judged),
            "coverage": _mean([float(row["inside"]) for row in judged]),
            "median_width": float(np.median([r["high"] - r["low"] for r in judged])) if judged else None,
            "no_interval": next((row["no_interval"] for row in chosen if row["no_interval"]), ""),
        }
    return summary


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
