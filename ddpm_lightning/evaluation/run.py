"""Scores a trained method on every image of a split, once each.

Three estimators stand side by side: ``raw`` (the low image itself, on the target's scale), ``single`` (the first
draw) and ``average`` (the mean of all draws). Everything is computed for each image by itself, on whole images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ddpm_lightning.data.normalise import PairNormalisation
from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.diffusion.ensemble import Ensemble
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.collection import METRICS, score
from ddpm_lightning.metrics.lpips import Lpips

__all__ = ["ESTIMATORS", "Row", "Scoring", "evaluate"]

ESTIMATORS = ("raw", "single", "average")


@dataclass(frozen=True)
class Scoring:
    """How images are scored.

    Attributes:
        protocol: ``paper``, ``range`` or ``affine``.
        draws: Draws of each image.
        lpips: The loaded perceptual metric, or ``None``.
        resolution: Whether the resolution is estimated.
    """

    protocol: str = "range"
    draws: int = 15
    lpips: Lpips | None = None
    resolution: bool = False


@dataclass(frozen=True)
class Row:
    """The numbers of one image and estimator.

    Attributes:
        image: Name of the pair.
        field: Field of view.
        estimator: ``raw``, ``single`` or ``average``.
        values: Numbers by metric.
        absent: Reasons by metric, where there is no number.
        facts: Protocol, range, denominator, and what else belongs to the numbers.
    """

    image: str
    field: str
    estimator: str
    values: dict[str, float]
    absent: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Restored:
    """All versions of one image with shape (H, W), float32, on the scale of the target."""

    pair: Pair
    raw: np.ndarray
    single: np.ndarray
    average: np.ndarray
    std: np.ndarray
    draws: int


def restore_pair(restorer: Restorer, pair: Pair, draws: int) -> Restored:
    """Makes all versions of one image."""
    ensemble, single = Ensemble(), None
    for draw in restorer.draws(pair.low, draws, pair.name):
        single = draw if single is None else single
        ensemble.update(torch.from_numpy(draw))
    raw = raw_on_target_scale(restorer.normalisation, pair)
    average, std = ensemble.mean.float().numpy(), ensemble.std.float().numpy()
    return Restored(pair, raw, single, average, std, ensemble.count)


def raw_on_target_scale(normalisation: PairNormalisation, pair: Pair) -> np.ndarray:
    """Returns the low image in units of the high one, by the same maps that a restored image passes through."""
    scale = normalisation.input.scale(pair.low)
    return normalisation.output_scale(scale).restore(scale.normalise(pair.low)).astype(np.float32)


def full_scale(normalisation: PairNormalisation, pair: Pair) -> tuple[float, float]:
    """Returns black and white of the paper's protocol: 0 to 255 for 8-bit targets, else the target's stored scale."""
    if pair.high.dtype == np.uint8:
        return 0.0, 255.0
    scale = normalisation.target.scale(pair.high)
    return scale.low, scale.high


def evaluate(
    restorer: Restorer,
    source: PairSource,
    scoring: Scoring,
    indices: range,
    on_image: Callable[[Restored, list[Row]], None] = lambda restored, rows: None,
) -> Iterator[Row]:
    """Yields a row for each image and estimator.

    Args:
        restorer: A loaded model.
        source: The pairs of a split.
        scoring: How images are scored.
        indices: Which pairs.
        on_image: Called with all versions of each image and their rows.
    """
    for index in indices:
        pair = source[index]
        restored = restore_pair(restorer, pair, scoring.draws)
        target = torch.from_numpy(pair.high.astype(np.float32))[None, None]
        rows = []
        for estimator in ESTIMATORS:
            scored = score(
                torch.from_numpy(getattr(restored, estimator))[None, None],
                target,
                scoring.protocol,
                full_scale=full_scale(restorer.normalisation, pair),
                pixel_size=pair.pixel_size,
                lpips=scoring.lpips,
                resolution=scoring.resolution,
            )
            rows.append(Row(pair.name, pair.field, estimator, scored.values, scored.absent, scored.facts))
        on_image(restored, rows)
        yield from rows


def summarise(rows: list[Row]) -> dict[str, Any]:
    """Returns median and mean of each metric and estimator over the images that have the number.

    A metric that no image has is ``None``, with the reasons beside it under ``absent``.
    """
    estimators: dict[str, Any] = {}
    for estimator in ESTIMATORS:
        chosen = [row for row in rows if row.estimator == estimator]
        numbers: dict[str, Any] = {}
        reasons: dict[str, str] = {}
        for metric in METRICS:
            values = [row.values[metric] for row in chosen if metric in row.values]
            if values:
                median, mean = float(np.median(values)), float(np.mean(values))
                numbers[metric] = {"median": median, "mean": mean, "images": len(values)}
            else:
                numbers[metric] = None
            if missing := sorted({row.absent[metric] for row in chosen if metric in row.absent}):
                reasons[metric] = "; ".join(missing)
        estimators[estimator] = {**numbers, "absent": reasons}
    return estimators
