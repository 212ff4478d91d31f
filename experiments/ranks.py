r"""Do two numbers rank regions alike? And would a third number have done the same?

*AUROC*: the probability that a failure has a higher score than what is no failure, ties counted by half. 0.5 is chance.

*Partial rank correlation*: bright structure has both more spread and more error. What is left of the rank correlation
of x and y beyond what a third number z explains is

.. math:: \frac{r_{xy} - r_{xz} r_{yz}}{\sqrt{(1 - r_{xz}^2)(1 - r_{yz}^2)}}

Regions of one image depend on each other: intervals come from drawing *images* with replacement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

__all__ = ["Interval", "auroc", "over_images", "partial_spearman", "spearman", "worst"]

RESAMPLES = 499


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.value):
            return ""
        return f"{self.value:.2f}" + (f" ({self.low:.2f} to {self.high:.2f})" if self.low < self.high else "")


def worst(error: np.ndarray, share: float = 0.25) -> np.ndarray:
    """Says which entries are the worst: those above the quantile of an error, with shape (N,)."""
    return error > np.quantile(error, 1 - share)


def auroc(score: np.ndarray, failed: np.ndarray) -> float:
    """Returns how well a score finds failures, in [0, 1]; NaN where all or none fail.

    Args:
        score: Score with shape (N,), higher for what is expected to fail.
        failed: What failed, with shape (N,).
    """
    failures, others = int(failed.sum()), int((~failed).sum())
    if not failures or not others:
        return float("nan")
    above = rankdata(score)[failed].sum() - failures * (failures + 1) / 2
    return float(above / (failures * others))


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the rank correlation of two numbers with shape (N,); NaN where one is constant."""
    ranks = rankdata(first), rankdata(second)
    if len(first) < 3 or np.ptp(ranks[0]) == 0 or np.ptp(ranks[1]) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def partial_spearman(first: np.ndarray, second: np.ndarray, given: np.ndarray) -> float:
    """Returns the rank correlation of two numbers beyond what a third explains; NaN where it explains all."""
    both, one, other = spearman(first, second), spearman(first, given), spearman(second, given)
    rest = (1 - one**2) * (1 - other**2)
    return (both - one * other) / rest**0.5 if rest > 1e-12 else float("nan")


def over_images(
    statistic: Callable[..., float], columns: Sequence[np.ndarray], images: Sequence[str], seed: int = 0
) -> Interval:
    """Returns a statistic of regions with the interval that drawing images with replacement gives.

    Args:
        statistic: Function of the columns.
        columns: Numbers of the regions, each with shape (N,).
        images: Image, or field of view, of each region.
        seed: Seed of the drawing.
    """
    value = statistic(*columns)
    names = np.array(images)
    members = [np.flatnonzero(names == name) for name in dict.fromkeys(images)]
    if len(members) < 2 or not np.isfinite(value):
        return Interval(value, value, value)
    rng, found = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        found.append(statistic(*(column[drawn] for column in columns)))
    known = np.array(found)[np.isfinite(found)]
    low, high = np.quantile(known, (0.025, 0.975)) if len(known) else (value, value)
    return Interval(value, float(low), float(high))
