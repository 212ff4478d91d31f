r"""Statistics over images: confidence intervals, and tests of differences.

Images of one field of view are not independent: they share specimen, focus and brightness. The unit of all statistics
is therefore the field. The bootstrap resamples *fields* with replacement, each with all of its images; Wilcoxon's test
takes one number for each field. An image of unknown field is a field of its own.

A difference between two methods is *significant* if both paired tests reject equality after Holm's correction for the
number of comparisons: with the ordered p-values :math:`p_{(1)} \le \dots \le p_{(m)}`,

.. math:: \tilde p_{(i)} = \max_{j \le i} \min\{(m - j + 1)\, p_{(j)},\, 1\}

The two tests are Wilcoxon's and a studentised one: the mean difference over its standard error, with n - 1 degrees of
freedom for n fields. With differences :math:`d_i` of N images, and their mean :math:`\bar d`,

.. math:: \mathrm{se}^2 = \frac{n}{n - 1} \frac{1}{N^2} \sum_{f=1}^n \Big( \sum_{i \in f} (d_i - \bar d) \Big)^2

which is the paired t-test if each field has one image. The tests complement each other: Wilcoxon's is exact for few
fields and indifferent to outliers; the studentised one tests the mean difference, which a reader of the table sees.
Both p-values can be arbitrarily small, so that a correction for many pairs of methods leaves something. With fewer than
six fields no difference can be significant: even without a true difference, five paired differences all have the same
sign in 6 % of cases.

A difference that is not significant does not make two methods equal. They are *equivalent* within a margin if both
one-sided tests reject a difference beyond it (TOST): :func:`equivalence`.

Trainings differ by their seeds as well. With S seeds of each method, the variance of a mean is that over fields, of the
scores averaged over the seeds, plus that of the means of the seeds over S: :func:`of_seeds`.

References:
    Efron. *Bootstrap methods: another look at the jackknife* (1979). Liang, Zeger. *Longitudinal data analysis using
    generalized linear models* (1986), the standard error for clusters. Schuirmann. *A comparison of the two one-sided
    tests procedure and the power approach* (1987). Satterthwaite. *An approximate distribution of estimates of variance
    components* (1946). Wilcoxon. *Individual comparisons by ranking
    methods* (1945). Holm. *A simple sequentially rejective multiple test procedure* (1979). Mood. *Introduction to the
    theory of statistics* (1950), the median test that arXiv 2409.12078 uses; it ignores the pairing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
from scipy import stats

__all__ = [
    "ALPHA",
    "Difference",
    "Estimate",
    "bootstrap",
    "describe",
    "difference",
    "equivalence",
    "fields_of",
    "holm",
    "interval",
    "of_seeds",
]

#: Resamples of a bootstrap; fewer, but at least a thousand, if there are more than a thousand images.
RESAMPLES, LEAST_RESAMPLES, MOST_DRAWN = 4999, 999, 5_000_000
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
        error: Standard error of the mean over fields, or ``None``.
        student: Two-sided p-value of the studentised mean, or ``None``.
        wilcoxon: p-value of Wilcoxon's signed-rank test over fields, or ``None``.
        mood: p-value of Mood's median test over images, unpaired as in the paper, or ``None``.
        images: Number of images for which both methods have a number.
        fields: Number of their fields of view.
    """

    mean: float
    median: float
    interval: tuple[float, float] | None
    error: float | None
    student: float | None
    wilcoxon: float | None
    mood: float | None
    images: int
    fields: int

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Returns a difference from a summary; those of version 0.1 have a p-value of the bootstrap instead."""
        others = {name: value for name, value in record.items() if name != "bootstrap"}
        return cls(**{"error": None, "student": record.get("bootstrap"), **others})


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
    resamples: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Returns a statistic of resampled data, with shape (resamples,).

    Args:
        values: A number for each image.
        fields: Field of view of each image: fields are sampled with replacement, with all of their images.
        statistic: ``median`` or ``mean``.
        resamples: How often; by default 4999 times, less often if there are many images.
        seed: Seed of the resampling.
    """
    resamples = resamples or max(LEAST_RESAMPLES, min(RESAMPLES, MOST_DRAWN // len(values)))
    numbers, number = _numbered(fields)
    counts = _resampled(number, resamples, seed)
    if statistic == "mean":
        sums = np.bincount(numbers, np.asarray(values, dtype=np.float64), number)
        return counts @ sums / (counts @ np.bincount(numbers, minlength=number))
    order = np.argsort(values, kind="stable")
    ordered = np.asarray(values, dtype=np.float64)[order]
    copies = counts[:, numbers[order]]
    total = copies.sum(axis=1)
    # The median of a multiset: the mean of its two middle elements, found by counting copies.
    reached = copies.cumsum(axis=1)
    lower = (reached >= ((total + 1) // 2)[:, None]).argmax(axis=1)
    upper = (reached >= (total // 2 + 1)[:, None]).argmax(axis=1)
    return (ordered[lower] + ordered[upper]) / 2


def _numbered(fields: Sequence[str]) -> tuple[np.ndarray, int]:
    """Returns the number of each image's field, counted as they first come, so that no name matters, and how many."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(fields))}
    return np.array([numbers[field] for field in fields]), len(numbers)


@lru_cache(maxsize=4)
def _resampled(fields: int, resamples: int, seed: int) -> np.ndarray:
    """Returns how often each field is in each resample, with shape (resamples, fields)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(fields, np.full(fields, 1 / fields), resamples).astype(np.int32)


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
    numbers, number = _numbered(fields)
    middle, mean = float(np.median(differences)), float(np.mean(differences))
    if number < 2:
        return Difference(mean, middle, None, None, None, None, None, len(differences), number)
    error = _standard_error(differences, numbers)
    return Difference(
        mean,
        middle,
        interval(bootstrap(differences, fields, "mean")),
        error,
        2 * _beyond(abs(mean), error, number - 1),
        _wilcoxon(np.bincount(numbers, differences) / np.bincount(numbers)),
        _mood(*pairs),
        len(differences),
        number,
    )


def equivalence(found: Difference, margin: float) -> float | None:
    """Returns the p-value of a difference beyond a margin, in either direction; ``None`` without a standard error.

    Args:
        found: The difference.
        margin: Largest difference that does not matter, above 0, in the unit of the metric.
    """
    if found.error is None:
        return None
    return _beyond(margin - abs(found.mean), found.error, found.fields - 1)


def of_seeds(
    first: np.ndarray, second: np.ndarray | None, fields: Sequence[str]
) -> tuple[float, float, float]:
    """Returns a mean, or the mean difference of two methods, over seeds and images, with its standard error.

    The error covers other fields of view and other seeds. It is not too small if scores differ between seeds and images
    at once: that part counts in both terms.

    Args:
        first: Scores of a method with shape (S, N): S trainings with different seeds, N images.
        second: Scores of another method with shape (S', N) for the same images; ``None`` for the mean of the first.
        fields: Field of view of each image.

    Returns:
        Mean, standard error, and degrees of freedom (Satterthwaite).
    """
    methods = [np.asarray(scores, dtype=np.float64) for scores in (first, second) if scores is not None]
    per_image = methods[0].mean(axis=0) - (methods[1].mean(axis=0) if len(methods) > 1 else 0)
    numbers, number = _numbered(fields)
    variances = [(_standard_error(per_image, numbers) ** 2, number - 1)]
    variances += [(scores.mean(axis=1).var(ddof=1) / len(scores), len(scores) - 1) for scores in methods]
    total = sum(variance for variance, _ in variances)
    freedom = total**2 / sum(v**2 / n for v, n in variances) if total else float(number - 1)
    return float(per_image.mean()), float(np.sqrt(total)), float(freedom)


def _standard_error(values: np.ndarray, numbers: np.ndarray) -> float:
    """Returns the standard error of a mean whose images belong to fields of these numbers."""
    sums = np.bincount(numbers, values - values.mean())
    return float(np.sqrt(len(sums) / (len(sums) - 1) * np.square(sums).sum()) / len(values))


def _beyond(distance: float, error: float, freedom: float) -> float:
    """Returns the probability that a studentised mean exceeds a distance that has this standard error."""
    if not error > 0:
        return 0.0 if distance > 0 else 0.5
    return float(stats.t.sf(distance / error, freedom))


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
