"""A readout: an analysis of images, its parameters, and how its findings are compared with a truth.

The parameters of an analysis are fitted once, on recorded targets of other specimens, whose truth is known. The
same analysis with the same parameters is then applied to raw images and to those of all methods. Thresholds are
relative to the contrast of an image, so that gain and offset of a method do not matter.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

__all__ = ["Agreement", "Measure", "Readout", "agreement", "fit", "matched"]


@dataclass(frozen=True)
class Measure:
    """A number that a biologist measures in an image, and its true value; NaN if not defined.

    Attributes:
        value: What was found.
        truth: The true value.
    """

    value: float
    truth: float


@dataclass(frozen=True)
class Agreement:
    """How far findings agree with the truth.

    Attributes:
        precision: Fraction of the findings that are true; NaN if nothing was found.
        recall: Fraction of the true objects that were found; NaN if there are none.
    """

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; for areas, this is Dice's coefficient. 0 if nothing was found."""
        if np.isnan(self.recall):
            return float("nan")
        both = np.nan_to_num(self.precision) + self.recall
        return 2 * np.nan_to_num(self.precision) * self.recall / both if both > 0 else 0.0

    @property
    def invented(self) -> float:
        """Fraction of the findings without a true object nearby."""
        return 1 - self.precision


@dataclass(frozen=True)
class Readout:
    """An analysis.

    Attributes:
        find: Finds structure in an image with shape (H, W), given parameters.
        compare: Returns the agreement of what was found with the truth of a simulation, and the measures by name, from
            the structure, the truth, and the size of a pixel in µm.
        grid: Values of the parameters that are tried, by name.
        sampled: Name of the measure whose standard deviation over samples is compared with its error.
        what: The agreement in words.
    """

    find: Callable[..., Any]
    compare: Callable[[Any, Mapping[str, Any], float], tuple[Agreement, dict[str, Measure]]]
    grid: Mapping[str, Sequence[float]]
    sampled: str
    what: str


def fit(
    readout: Readout, images: Sequence[np.ndarray], truths: Sequence[Mapping[str, Any]], pixel: float
) -> dict[str, float]:
    """Returns the parameters with the highest F1, mean over images.

    Args:
        readout: The analysis.
        images: Recorded targets, each with shape (H, W).
        truths: The truth behind each.
        pixel: Size of a pixel in µm.
    """

    def quality(parameters: dict[str, float]) -> float:
        found = [
            readout.compare(readout.find(image, **parameters), truth, pixel)[0].f1
            for image, truth in zip(images, truths, strict=True)
        ]
        return float(np.nanmean(found))

    tried = [dict(zip(readout.grid, values, strict=True)) for values in product(*readout.grid.values())]
    return max(tried, key=quality)


def matched(found: np.ndarray, there: np.ndarray, tolerance: float) -> int:
    """Returns how many places can be paired one to one within a distance: as many as possible.

    Args:
        found: Places with shape (N, 2).
        there: Places with shape (M, 2).
        tolerance: Largest distance of a pair.
    """
    if not len(found) or not len(there):
        return 0
    distance = np.hypot(*(found[:, None] - there[None]).transpose(2, 0, 1))
    far = distance > tolerance
    # A pair that is too far apart costs more than all others together, so that the number of close pairs is maximal.
    cost = np.where(far, (min(distance.shape) + 1) * tolerance + 1, distance)
    return int((~far[linear_sum_assignment(cost)]).sum())


def agreement(
    found: np.ndarray, there: np.ndarray, tolerance: float, allowed: np.ndarray | None = None
) -> Agreement:
    """Returns the agreement of places, each paired with one other at most.

    Args:
        found: Places with shape (N, 2).
        there: Places with shape (M, 2) that should be found.
        tolerance: Largest distance of a pair.
        allowed: Places with shape (K, 2) that exist but need not be found; finding them is not counted.
    """
    pairs = matched(found, there, tolerance)
    counted = len(found)
    if allowed is not None and len(allowed) and len(found):
        counted = max(pairs, counted - matched(found, allowed, tolerance))
    return Agreement(
        pairs / counted if counted else float("nan"), pairs / len(there) if len(there) else float("nan")
    )
