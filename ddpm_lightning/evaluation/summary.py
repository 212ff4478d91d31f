"""Summarises the scores of the images of a split: medians, intervals, effect of averaging, calibration."""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, log10
from typing import Any

import numpy as np
import torch

from ddpm_lightning.checkpoints.calibration import Calibration
from ddpm_lightning.evaluation.image_scores import ESTIMATORS, ImageScores, Row, with_uncertainty
from ddpm_lightning.evaluation.statistics import bootstrap, describe, fields_of, interval
from ddpm_lightning.evaluation.uncertainty import EPSILON
from ddpm_lightning.metrics.averaging_law import AveragingLaw
from ddpm_lightning.metrics.calibration import LEVELS
from ddpm_lightning.metrics.collection import METRICS, SAMPLE_METRICS
from ddpm_lightning.metrics.conformal import Conformal, calibrate
from ddpm_lightning.metrics.sparsification import association
from ddpm_lightning.metrics.std_factor import std_coverage, std_factor

__all__ = [
    "averaging",
    "by_place",
    "calibration",
    "conformal_coverage",
    "conformal_of",
    "finite",
    "std_map",
    "summarise",
]

#: Largest remaining gain from further samples, in dB, for which a number of samples suffices.
TOLERANCE = 0.1
#: Fewest images that a correlation between images is computed from.
FEWEST = 5


def finite(content: Any) -> Any:
    """Returns plain containers for JSON: numbers that are NaN or infinite become ``None``."""
    if isinstance(content, dict):
        return {str(key): finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    if isinstance(content, float):
        return content if isfinite(content) else None
    return content


def by_place(scores: Sequence[ImageScores]) -> list[ImageScores]:
    """Returns the images with one field of view for those whose clean images are equal.

    Several noisy images of one place are not independent, whatever their files are called.
    """
    fields: dict[str, str] = {}
    for image in scores:
        fields.setdefault(image.target, image.rows[0].field)

    def placed(image: ImageScores, rows: list[Row]) -> list[Row]:
        return [replace(row, field=fields[image.target]) if image.target else row for row in rows]

    return [
        replace(
            image,
            rows=placed(image, image.rows),
            also={protocol: placed(image, rows) for protocol, rows in image.also.items()},
        )
        for image in scores
    ]


def summarise(rows: list[Row], metrics: Sequence[str] | None = None) -> dict[str, Any]:
    """Returns median, mean and their 95 % intervals by estimator and metric, over the images that have the number.

    A metric that no image has is ``None``, with the reasons beside it under ``absent``; so is an interval, with the
    reason under ``no_interval``.

    Args:
        rows: A row for each image and estimator.
        metrics: Metrics to summarise; by default all but those of ``SAMPLE_METRICS``.
    """
    estimators: dict[str, Any] = {}
    if metrics is None:
        further = {name for row in rows for name in row.values}.difference(METRICS, SAMPLE_METRICS)
        metrics = (*METRICS, *sorted(further))
    for estimator in ESTIMATORS:
        chosen = [row for row in rows if row.estimator == estimator]
        # An image that could not be restored lacks all metrics; that is reported for the image itself.
        scored = [row for row in chosen if row.values] or chosen
        numbers: dict[str, Any] = {}
        reasons: dict[str, str] = {}
        for metric in metrics:
            having = [row for row in chosen if metric in row.values]
            numbers[metric] = _described(having, [row.values[metric] for row in having]) if having else None
            if missing := sorted({row.absent[metric] for row in scored if metric in row.absent}):
                reasons[metric] = "; ".join(missing)
        estimators[estimator] = {**numbers, "absent": reasons}
    return estimators


def _described(rows: Sequence[Row], values: list[float]) -> dict[str, Any]:
    found = describe(values, fields_of([row.image for row in rows], [row.field for row in rows]))
    content = {
        "median": found.median,
        "mean": found.mean,
        "images": found.images,
        "fields": found.fields,
        "median_interval": found.median_interval,
        "mean_interval": found.mean_interval,
    }
    return content | ({"no_interval": found.no_interval} if found.no_interval else {})


def averaging(scores: Sequence[ImageScores]) -> dict[str, Any] | None:
    """Returns the effect of averaging samples: the law of the split, and the metrics of the mean of N samples.

    The law MSE(K) = a + b / K holds for the means of a and b over the images, in squared units of the target's range;
    K counts samples, or pairs of antithetic noise.
    """
    pairs = with_uncertainty(scores)
    if not pairs:
        return None
    having, uncertainties = [image for image, _ in pairs], [uncertainty for _, uncertainty in pairs]
    laws, together = [found.measures.law for found in uncertainties], uncertainties[0].together
    samples = min(len(found.error) for found in uncertainties)
    law = AveragingLaw(float(np.mean([law.a for law in laws])), float(np.mean([law.b for law in laws])))
    number = samples // together
    numbers = sorted(set.intersection(*(set(found.against_number) for found in having)))
    # The resolution is estimated for one sample and for the average alone.
    known = {name for found in having for name in found.against_number[numbers[0]]} - {"resolution"}
    metrics = [name for name in METRICS if name in known]
    against = {
        metric: {
            number: float(np.mean(values))
            for number in numbers
            if (
                values := [
                    f.against_number[number][metric] for f in having if metric in f.against_number[number]
                ]
            )
        }
        for metric in metrics
    }
    needed = law.needed(TOLERANCE)
    return {
        "counts": "pairs of antithetic noise" if together == 2 else "samples",
        "together": together,
        "samples": samples,
        "a": law.a,
        "b": law.b,
        "ratio": law.ratio,
        "ratio_interval": _ratio_interval(having, laws),
        "psnr_single": _decibel(law.error(1)),
        "psnr_average": _decibel(law.error(number)),
        "psnr_limit": _decibel(law.a),
        "gain_db": law.gain(number),
        "remaining_db": law.remaining(number),
        "tolerance_db": TOLERANCE,
        "samples_needed": int(needed) * together if isfinite(needed) else None,
        "suffices": law.suffices(number, TOLERANCE),
        "mse": {
            n: float(np.mean([found.error[n] for found in uncertainties])) for n in range(1, samples + 1)
        },
        "metrics": against,
    }


def _ratio_interval(
    scores: Sequence[ImageScores], laws: Sequence[AveragingLaw]
) -> tuple[float, float] | None:
    fields = fields_of([found.rows[0].image for found in scores], [found.rows[0].field for found in scores])
    if len(set(fields)) < 2:
        return None
    # With the same seed, both means are over the same resampled fields.
    b, a = (bootstrap([getattr(law, name) for law in laws], fields, "mean") for name in ("b", "a"))
    return interval(b / a) if (a > 0).all() else None


def _decibel(error: float) -> float | None:
    return -10 * log10(error) if error > 0 else None


def calibration(scores: Sequence[ImageScores]) -> dict[str, Any] | None:
    """Returns the calibration of the samples' standard deviation: numbers with intervals, and mean curves."""
    having = with_uncertainty(scores)
    if not having:
        return None
    measures = [found.measures for _, found in having]
    single = [measure.values() for measure in measures]
    numbers = {}
    for name in single[0]:
        if name.startswith("law_"):
            continue
        pairs = [(image.rows[0], value[name]) for (image, _), value in zip(having, single, strict=True)]
        pairs = [(row, value) for row, value in pairs if isfinite(value)]
        numbers[name] = (
            _described([row for row, _ in pairs], [value for _, value in pairs]) if pairs else None
        )

    def mean(curves: list[torch.Tensor]) -> list[float]:
        return torch.stack(curves).nanmean(dim=0).tolist()

    between = None
    if len(having) >= FEWEST:
        skills, spreads = (torch.tensor([value[name] for value in single]) for name in ("skill", "spread"))
        between = association(error=skills, uncertainty=spreads).spearman
    return {
        "unit": "range of the target",
        "samples": min(measure.samples for measure in measures),
        "level": measures[0].level,
        "numbers": numbers,
        "spearman_between_images": between,
        "concentration": float(np.median([found.concentration for _, found in having])),
        "curves": {
            "levels": list(LEVELS),
            "coverage": mean([measure.coverage for measure in measures]),
            "bin_spread": mean([measure.binned.spread for measure in measures]),
            "bin_error": mean([measure.binned.error for measure in measures]),
            "ranks": mean([measure.ranks for measure in measures]),
            "removed": measures[0].sparsification.fraction.tolist(),
            "error_by_uncertainty": mean([measure.sparsification.by_uncertainty for measure in measures]),
            "error_by_error": mean([measure.sparsification.by_error for measure in measures]),
        },
    }


def conformal_of(scores: Sequence[ImageScores], level: float) -> Conformal:
    """Returns the factor that gives intervals of a stated coverage, from the images of a calibration split.

    Raises:
        ValueError: If there are too few images.
    """
    return calibrate([found.scores for _, found in with_uncertainty(scores)], level=level, epsilon=EPSILON)


def conformal_coverage(scores: Sequence[ImageScores], conformal: Conformal) -> list[float]:
    """Returns the coverage of conformal intervals in each image."""
    return [
        (found.scores <= conformal.factor).double().mean().item() for _, found in with_uncertainty(scores)
    ]


def std_map(scores: Sequence[ImageScores], stored: Calibration | None) -> dict[str, Any] | None:
    """Returns how large the standard deviation that ``restore`` writes is, compared with the error of its image.

    Args:
        scores: Scores of the images.
        stored: Calibration of the model for these samples, or ``None``: ``restore`` then writes the standard deviation
            of the samples as it is.

    Returns:
        The stored factor and its origin (``None`` if there is no factor), the root mean square of the map divided by
        that of the error (``ratio``), and the share of the pixels in the Gaussian 90 % interval (``coverage``); or
        ``None`` if it cannot be said.
    """
    moments = [image.std_moments for image in scores if image.std_moments is not None]
    try:
        wanted = std_factor(moments)
    except ValueError:
        return None
    factor = stored.std_factor if stored else 1.0
    return {
        "factor": stored.std_factor if stored else None,
        "from": stored.origin if stored else None,
        "ratio": factor / wanted,
        "coverage": std_coverage(moments, factor),
    }
