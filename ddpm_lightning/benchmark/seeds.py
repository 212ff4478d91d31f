"""The benchmark over seeds: rows of methods that were trained several times, with intervals over seeds and fields.

Means, standard errors and tests are those of :func:`ddpm_lightning.evaluation.statistics.of_seeds`. Holm's correction
covers the rows that are compared with the reference in a metric of a set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ddpm_lightning.benchmark.pages import yes
from ddpm_lightning.evaluation.comparison import MARGINS, Decided, Method
from ddpm_lightning.evaluation.statistics import ALPHA, fields_of, holm, of_seeds
from ddpm_lightning.evaluation.tables import ARROWS

__all__ = ["HEAD", "SeedRow", "lines_of", "over_seeds", "seeds_section"]

#: Columns of ``seeds.csv`` after those of set and protocol.
HEAD = ["metric", "row", "seeds", "mean", "low", "high", "reference", "difference", "difference_low"]
HEAD += ["difference_high", "p", "significant", "p_equivalence", "equivalent"]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, and the p-values of no effect and of an effect beyond a margin."""

    mean: float
    low: float
    high: float
    p: float
    p_beyond: float | None

    @classmethod
    def of(
        cls, first: np.ndarray, second: np.ndarray | None, fields: Sequence[str], margin: float | None
    ) -> "Interval":
        """Returns that of a mean, or of a difference; arguments are those of :func:`of_seeds`, and the margin."""
        mean, error, freedom = of_seeds(first, second, fields)
        if not error > 0:
            equal = float(mean == 0)
            return cls(mean, mean, mean, equal, None if margin is None else float(abs(mean) >= margin))
        reach = float(stats.t.ppf(1 - ALPHA / 2, freedom)) * error
        p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
        beyond = None if margin is None else float(stats.t.sf((margin - abs(mean)) / error, freedom))
        return cls(mean, mean - reach, mean + reach, p, beyond)


@dataclass(frozen=True)
class SeedRow(Decided):
    """A row in one metric, over all of its seeds.

    Attributes:
        metric: Name of the metric.
        row: Name of the row.
        seeds: Number of trainings.
        score: Its mean.
        difference: Row minus reference; ``None`` for the reference itself.
        p: p-value of no difference after Holm's correction.
        p_equivalence: p-value of a difference beyond the margin after Holm's correction, if the metric has a margin.
    """

    metric: str
    row: str
    seeds: int
    score: Interval
    difference: Interval | None = None
    p: float | None = None
    p_equivalence: float | None = None

    @property
    def mark(self) -> str:
        """Whether the row is significantly better (▲) or worse (▼) than the reference, or equivalent to it (≈)."""
        if self.difference is not None and self.significant:
            return " ▲" if (self.difference.mean > 0) == (ARROWS[self.metric] == "↑") else " ▼"
        return " ≈" if self.equivalent else ""


def over_seeds(
    methods: Mapping[str, Sequence[Method]], metrics: Sequence[str], reference: str
) -> list[SeedRow]:
    """Summarises rows over seeds and fields of view.

    Args:
        methods: The trainings of each row, of the same images.
        metrics: Metrics; those that a row lacks for an image are left out for that row.
        reference: Row that the others are compared with, if it is there.
    """
    images = list(next(iter(methods.values()))[0].rows.values())
    fields = fields_of([row.image for row in images], [row.field for row in images])
    found = []
    for metric in metrics:
        scores = {
            name: np.array([[row.values[metric] for row in one.rows.values()] for one in trainings])
            for name, trainings in methods.items()
            if all(metric in row.values for one in trainings for row in one.rows.values())
        }
        other, margin = scores.get(reference), MARGINS.get(metric)
        compared = {
            name: Interval.of(values, other, fields, margin)
            for name, values in scores.items()
            if other is not None and name != reference
        }
        p = dict(zip(compared, holm([one.p for one in compared.values()]), strict=True))
        equal = dict(zip(compared, holm([one.p_beyond for one in compared.values()]), strict=True))
        found += [
            SeedRow(
                metric,
                name,
                len(values),
                Interval.of(values, None, fields, None),
                compared.get(name),
                p.get(name),
                equal.get(name),
            )
            for name, values in scores.items()
        ]
    return found


def seeds_section(rows: Sequence[SeedRow], reference: str) -> list[str]:
    """Returns the table of one set in Markdown."""
    metrics = list(dict.fromkeys(row.metric for row in rows))
    known = {(row.row, row.metric): row for row in rows}
    lines = [
        "Over seeds: mean over seeds and images [95 % interval over seeds and fields of view]; ▲, ▼ and ≈: "
        f"significantly better than `{reference}`, worse, or equivalent within {MARGINS['psnr']:g} dB, with Holm's "
        "correction for the rows of a metric.",
        "",
        f"| | seeds | {' | '.join(f'{metric} {ARROWS[metric]}' for metric in metrics)} |",
        "| --- | --- |" + " --- |" * len(metrics),
    ]
    for name in dict.fromkeys(row.row for row in rows):
        cells = [_cell(known.get((name, metric))) for metric in metrics]
        seeds = next(row.seeds for row in rows if row.row == name)
        lines.append(f"| {name} | {seeds} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(row: SeedRow | None) -> str:
    if row is None:
        return "absent"
    return f"{row.score.mean:.4g} [{row.score.low:.4g}, {row.score.high:.4g}]{row.mark}"


def lines_of(rows: Sequence[SeedRow], reference: str) -> list[list[object]]:
    """Returns the lines of ``seeds.csv``, in the columns of :data:`HEAD`."""
    lines: list[list[object]] = []
    for row in rows:
        line: list[object] = [row.metric, row.row, row.seeds, row.score.mean, row.score.low, row.score.high]
        if (found := row.difference) is None:
            lines.append(line + [""] * (len(HEAD) - len(line)))
            continue
        line += [reference, found.mean, found.low, found.high, row.p, yes(row.significant)]
        equal = "" if row.p_equivalence is None else row.p_equivalence
        lines.append([*line, equal, yes(row.equivalent)])
    return lines
