"""The content of ``summary.json``: all numbers of a split."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ddpm_lightning.checkpoints.calibration import Calibration
from ddpm_lightning.evaluation.diagnostics import Diagnosis
from ddpm_lightning.evaluation.image_scores import ImageScores, Row
from ddpm_lightning.evaluation.statistics import difference, fields_of
from ddpm_lightning.evaluation.summary import (
    averaging,
    calibration,
    conformal_coverage,
    std_map,
    summarise,
)
from ddpm_lightning.metrics.collection import SAMPLE_METRICS
from ddpm_lightning.metrics.energy_score import WINDOW

__all__ = ["realism", "split_summary"]

#: Metrics between the posterior mean and a sample.
METRICS = ("psnr", "ms_ssim", "lpips", "nrmse", "pearson")


def split_summary(
    scores: Sequence[ImageScores],
    about: dict[str, Any],
    diagnoses: Sequence[Diagnosis],
    stored: Calibration | None = None,
) -> dict[str, Any]:
    """Returns the content of ``summary.json``.

    Args:
        scores: Scores of each image, by index.
        about: What was evaluated, and how.
        diagnoses: Signs of failure.
        stored: Calibration of the model for these samples, or ``None``.
    """
    rows = [row for found in scores for row in found.rows]
    also = {name: [row for found in scores for row in found.also[name]] for name in scores[0].also}
    calibrated = calibration(scores)
    conformal = None
    if stored is not None and stored.intervals is not None and calibrated is not None:
        covered = conformal_coverage(scores, stored.intervals)
        conformal = {
            **stored.intervals.model_dump(),
            "split": stored.split,
            "coverage": float(np.mean(covered)),
        }
    return {
        **about,
        "images": len(scores),
        "data_range": _range(rows),
        "resolution_unit": next(
            (row.facts["resolution_unit"] for row in rows if "resolution_unit" in row.facts), ""
        ),
        "lpips_backbone": next(
            (row.facts["lpips_backbone"] for row in rows if "lpips_backbone" in row.facts), None
        ),
        "estimators": summarise(rows),
        "also": {name: summarise(chosen) for name, chosen in also.items()},
        "sample_metrics": {
            "unit": "range of the target",
            "window": WINDOW,
            "samples": calibrated["samples"] if calibrated else 1,
            "level": calibrated["level"] if calibrated else None,
            "estimators": summarise(rows, SAMPLE_METRICS),
            "also": {name: summarise(chosen, SAMPLE_METRICS) for name, chosen in also.items()},
        },
        "gain": _gains(rows, "single"),
        "gain_over_raw": _gains(rows, "raw"),
        "averaging": averaging(scores),
        "realism": realism(scores),
        "calibration": calibrated,
        "no_calibration": next((found.no_uncertainty for found in scores if found.no_uncertainty), ""),
        "conformal": conformal,
        "std_map": std_map(scores, stored),
        "diagnostics": [asdict(diagnosis) for diagnosis in diagnoses],
        "out_of_range": {image.rows[0].image: image.out_of_range for image in scores if not image.failed},
        "failed": {image.rows[0].image: image.failed for image in scores if image.failed},
    }


def _range(rows: Sequence[Row]) -> dict[str, float] | None:
    widths = [
        row.facts["data_range"] for row in rows if row.estimator == "average" and "data_range" in row.facts
    ]
    if not widths:
        return None
    return {"median": float(np.median(widths)), "smallest": min(widths), "largest": max(widths)}


def _gains(rows: Sequence[Row], estimator: str) -> dict[str, Any]:
    """Returns the paired differences of the average and another estimator, by metric."""
    single, average = ({r.image: r for r in rows if r.estimator == name} for name in (estimator, "average"))
    gains = {}
    for metric in sorted({name for row in rows for name in row.values}):
        images = [
            image for image in average if metric in average[image].values and metric in single[image].values
        ]
        if images:
            fields = fields_of(images, [average[image].field for image in images])
            one, other = ([table[image].values[metric] for image in images] for table in (average, single))
            gains[metric] = asdict(difference(one, other, fields))
    return gains


def realism(scores: Sequence[ImageScores]) -> dict[str, dict[float, float]] | None:
    """Returns the mean over images of mean + λ (sample - mean), by metric and λ; ``None`` if it was not scored."""
    having = [image.against_realism for image in scores if image.against_realism]
    if not having:
        return None
    means: dict[str, dict[float, float]] = {}
    for metric in METRICS:
        for weight in having[0]:
            if values := [image[weight][metric] for image in having if metric in image[weight]]:
                means.setdefault(metric, {})[weight] = float(np.mean(values))
    return means
