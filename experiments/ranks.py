r"""Do two numbers rank regions in the same order? Does a third number explain it?

*AUROC*: the probability that a failure has a higher score than a success; ties count half. 0.5 is chance.

*Partial rank correlation*: bright structure has both a larger standard deviation and a larger error. The rank
correlation of x and y that a third number z does not explain is

.. math:: \frac{r_{xy} - r_{xz} r_{yz}}{\sqrt{(1 - r_{xz}^2)(1 - r_{yz}^2)}}

Regions of one image are not independent: intervals come from resampling *images* with replacement. All resamples are
computed at once: each is a row of ``copies``, which says how often it contains every region.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Interval", "auroc", "over_images", "partial_spearman", "ranks_of", "spearman", "worst"]

RESAMPLES = 999
#: With fewer images there is no interval.
FEWEST = 4


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; NaN if it is not defined."""

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


def ranks_of(values: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Returns the mean rank of each entry among the copies of all, with shape (R, N).

    Args:
        values: Numbers with shape (N,).
        copies: How often each of them is there with shape (R, N).
    """
    order = np.argsort(values, kind="stable")
    counted = np.pad(copies[:, order].cumsum(axis=1), ((0, 0), (1, 0)))
    below, upto = (np.searchsorted(values[order], values, side) for side in ("left", "right"))
    return (counted[:, below] + counted[:, upto] + 1) / 2


def auroc(score: np.ndarray, failed: np.ndarray, copies: np.ndarray | None = None) -> np.ndarray:
    """Returns how well a score finds failures, in [0, 1], with shape (R,); NaN where all or none fail.

    Args:
        score: Score with shape (N,), higher for what is expected to fail.
        failed: What failed, with shape (N,).
        copies: How often each entry is there with shape (R, N); by default once, with R = 1.
    """
    copies = _copies(score, copies)
    failures, others = copies[:, failed].sum(axis=1), copies[:, ~failed].sum(axis=1)
    above = (copies * ranks_of(score, copies))[:, failed].sum(axis=1) - failures * (failures + 1) / 2
    return _ratio(above, failures * others)


def spearman(first: np.ndarray, second: np.ndarray, copies: np.ndarray | None = None) -> np.ndarray:
    """Returns the rank correlation of two numbers, with shape (R,); NaN where one is constant.

    Args:
        first: Numbers with shape (N,).
        second: Numbers with shape (N,).
        copies: How often each entry is there with shape (R, N); by default once, with R = 1.
    """
    copies = _copies(first, copies)
    total = copies.sum(axis=1, keepdims=True)
    x, y = (ranks_of(values, copies) - (total + 1) / 2 for values in (first, second))
    spread = (copies * x**2).sum(axis=1) * (copies * y**2).sum(axis=1)
    return _ratio((copies * x * y).sum(axis=1), np.sqrt(spread))


def partial_spearman(
    first: np.ndarray, second: np.ndarray, given: np.ndarray, copies: np.ndarray | None = None
) -> np.ndarray:
    """Returns the rank correlation of two numbers beyond what a third explains, with shape (R,).

    It is NaN if the third explains one of them completely. Arguments are those of :func:`spearman`.
    """
    both, one, other = (
        spearman(*pair, copies) for pair in ((first, second), (first, given), (second, given))
    )
    rest = (1 - one**2) * (1 - other**2)
    return _ratio(both - one * other, np.sqrt(np.where(rest > 1e-12, rest, 0)))


def _copies(values: np.ndarray, copies: np.ndarray | None) -> np.ndarray:
    return np.ones((1, len(values))) if copies is None else copies


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


def over_images(
    statistic: Callable[..., np.ndarray], columns: Sequence[np.ndarray], images: Sequence[str], seed: int = 0
) -> Interval:
    """Returns a statistic of regions with its interval from resampling images with replacement.

    Args:
        statistic: Function of the columns and of ``copies``, as those above.
        columns: Numbers of the regions, each with shape (N,).
        images: Image, or field of view, of each region; of fewer than 4 there is no interval.
        seed: Seed of the resampling.
    """
    value = float(statistic(*columns)[0])
    numbers = {name: number for number, name in enumerate(dict.fromkeys(images))}
    if len(numbers) < FEWEST or not np.isfinite(value):
        return Interval(value, value, value)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), RESAMPLES)
    found = statistic(*columns, drawn[:, [numbers[image] for image in images]].astype(np.float64))
    low, high = np.nanquantile(found, (0.025, 0.975))
    return Interval(value, float(low), float(high))
