r"""Statistics over images: confidence intervals, and tests of differences.

Images of one field of view are not independent: they share specimen, focus and brightness. The unit of all statistics
is therefore the field. The bootstrap resamples *fields* with replacement, each with all of its images; Wilcoxon's test
takes one number for each field. An image of unknown field is a field of its own.

A difference between two methods is *significant* if both paired tests reject equality after Holm's correction for the
number of comparisons: with the ordered p-values :math:`p_{(1)} \le \dots \le p_{(m)}`,

.. math:: \tilde p_{(i)} = \max_{j \le i} \min\{(m - j + 1)\, p_{(j)},\, 1\}

The two tests complement each other: Wilcoxon's is exact for few fields, for which the bootstrap is overconfident; the
bootstrap tests the mean difference, which a reader of the table sees. With fewer than six fields no difference can be
significant: even without a true difference, five paired differences all have the same sign in 6 % of cases.

References:
    Efron. *Bootstrap methods: another look at the jackknife* (1979). Wilcoxon. *Individual comparisons by ranking
    methods* (1945). Holm. *A simple sequentially rejective multiple test procedure* (1979). Mood. *Introduction to the
    theory of statistics* (1950), the median test that arXiv 2409.12078 uses; it ignores the pairing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

__all__ = [
    "ALPHA",
    "Difference",
    "Estimate",
    "bootstrap",
    "describe",
    "difference",
    "fields_of",
    "holm",
    "interval",
]

RESAMPLES = 4999
#: Significance level of a difference, and one minus the level of intervals.
ALPHA = 0.05

Statistic = Literal["median", "mean"]


@dataclass(frozen=True)
class Estimate:
    """A metric summarised over images.

    Attributes:
        median: Median over the images.
        mean: Mean over the images.
        images: Number of images.
        fields: Number of fields of view.
        median_interval: 95 % interval of the median, or ``None``.
        mean_interval: 95 % interval of the mean, or ``None``.
        no_interval: Why there is no interval; empty where there is one.
    """

    median: float
    mean: float
    images: int
    fields: int
    median_interval: tuple[float, float] | None
    mean_interval: tuple[float, float] | None
    no_interval: str = ""


@dataclass(frozen=True)
class Difference:
    """A paired comparison of two methods in one metric, first minus second.

    Attributes:
        mean: Mean of the differences over the images.
        median: Median of the differences over the images.
        interval: 95 % interval of the mean, or ``None``.
        bootstrap: Two-sided p-value of the bootstrap of the mean, or ``None``.
        wilcoxon: p-value of Wilcoxon's signed-rank test over fields, or ``None``.
        mood: p-value of Mood's median test over images, unpaired as in the paper, or ``None``.
        images: Number of images for which both methods have a number.
        fields: Number of their fields of view.
    """

    mean: float
    median: float
    interval: tuple[float, float] | None
    bootstrap: float | None
    wilcoxon: float | None
    mood: float | None
    images: int
    fields: int


def fields_of(images: Sequence[str], fields: Sequence[str]) -> list[str]:
    """Returns the field of view of each image; an image without one is a field of its own."""
    return [field or f"image {image}" for image, field in zip(images, fields, strict=True)]


def describe(values: Sequence[float], fields: Sequence[str]) -> Estimate:
    """Returns median and mean with their intervals.

    Args:
        values: A number for each image, at least one.
        fields: Field of view of each image.
    """
    number = len(set(fields))
    found: dict[Statistic, tuple[float, float] | None] = {"median": None, "mean": None}
    reason = (
        "" if number > 1 else "one image only" if len(values) == 1 else "all images are of one field of view"
    )
    if not reason:
        for statistic in found:
            found[statistic] = interval(bootstrap(values, fields, statistic))
    middle, mean = float(np.median(values)), float(np.mean(values))
    return Estimate(middle, mean, len(values), number, found["median"], found["mean"], reason)


def bootstrap(
    values: Sequence[float] | np.ndarray,
    fields: Sequence[str],
    statistic: Statistic,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Returns a statistic of resampled data, with shape (resamples,).

    Args:
        values: A number for each image.
        fields: Field of view of each image: fields are sampled with replacement, with all of their images.
        statistic: ``median`` or ``mean``.
        resamples: How often.
        seed: Seed of the resampling.
    """
    order = np.argsort(values, kind="stable")
    ordered = np.asarray(values, dtype=np.float64)[order]
    # Fields are numbered as they first come, so that the result depends on no names.
    numbers = {name: number for number, name in enumerate(dict.fromkeys(fields))}
    index = np.array([numbers[field] for field in fields])[order]
    counts = np.random.default_rng(seed).multinomial(
        len(numbers), np.full(len(numbers), 1 / len(numbers)), resamples
    )
    copies = counts[:, index]
    total = copies.sum(axis=1)
    if statistic == "mean":
        return copies @ ordered / total
    # The median of a multiset: the mean of its two middle elements, found by counting copies.
    reached = copies.cumsum(axis=1)
    lower = (reached >= ((total + 1) // 2)[:, None]).argmax(axis=1)
    upper = (reached >= (total // 2 + 1)[:, None]).argmax(axis=1)
    return (ordered[lower] + ordered[upper]) / 2


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """Returns the central 95 % of resampled statistics."""
    low, high = np.quantile(resampled, (ALPHA / 2, 1 - ALPHA / 2))
    return float(low), float(high)


def difference(first: Sequence[float], second: Sequence[float], fields: Sequence[str]) -> Difference:
    """Compares two methods on the same images.

    Args:
        first: The number of the first method for each image.
        second: The number of the second method for the same images.
        fields: Field of view of each image.
    """
    pairs = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    differences = pairs[0] - pairs[1]
    names = list(dict.fromkeys(fields))
    middle, mean = float(np.median(differences)), float(np.mean(differences))
    if len(names) < 2:
        return Difference(mean, middle, None, None, None, None, len(differences), len(names))
    resampled = bootstrap(differences, fields, "mean")
    grouped = np.array(fields)
    of_fields = np.array([differences[grouped == name].mean() for name in names])
    return Difference(
        mean,
        middle,
        interval(resampled),
        _two_sided(resampled),
        _wilcoxon(of_fields),
        _mood(*pairs),
        len(differences),
        len(names),
    )


def _two_sided(resampled: np.ndarray) -> float:
    """Returns the p-value of no difference; 1 is added to the count, so that it is never 0."""
    tail = min((resampled <= 0).sum(), (resampled >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(resampled) + 1)))


def _wilcoxon(differences: np.ndarray) -> float:
    if not differences.any():
        return 1.0
    test: Any = stats.wilcoxon(differences)
    return float(test.pvalue)


def _mood(first: np.ndarray, second: np.ndarray) -> float | None:
    try:
        test: Any = stats.median_test(first, second)
    except ValueError:  # all numbers are on one side of the common median
        return None
    return float(test.pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p-values corrected for their number; ``None`` remains ``None`` and is not counted."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[place] = largest
    return corrected
