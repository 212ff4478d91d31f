"""What test-time augmentation changes in each row of a benchmark, paired by image within the same training."""

from collections.abc import Sequence
from dataclasses import dataclass

from ddpm_lightning.benchmark.rows import Entry
from ddpm_lightning.evaluation.comparison import read_methods
from ddpm_lightning.evaluation.statistics import Difference, difference, fields_of
from ddpm_lightning.evaluation.tables import ARROWS

__all__ = ["GAINS_HEAD", "Gain", "gains", "gains_section"]

#: Columns of ``tta.csv`` after those of set and protocol.
GAINS_HEAD = ["row", "metric", "difference", "low", "high", "nfe_without", "nfe_with"]


@dataclass(frozen=True)
class Gain:
    """A row in one metric, with test-time augmentation minus without.

    Attributes:
        row: Name of the row.
        metric: Name of the metric.
        difference: The difference.
        without: Network evaluations for an image without it.
        augmented: Network evaluations for an image with it.
    """

    row: str
    metric: str
    difference: Difference
    without: int
    augmented: int

    @property
    def line(self) -> list[object]:
        """The line of ``tta.csv``, in the columns of :data:`GAINS_HEAD`."""
        ends = self.difference.interval or ("", "")
        return [self.row, self.metric, self.difference.mean, *ends, self.without, self.augmented]


def gains(
    without: Sequence[Entry], augmented: Sequence[Entry], file: str, metrics: Sequence[str]
) -> list[Gain]:
    """Returns the difference of each row that was evaluated in both ways; the raw image has none.

    Args:
        without: The rows without test-time augmentation.
        augmented: The same rows with it.
        file: File of the numbers in the folder of an evaluation.
        metrics: Metrics; those that a row lacks are left out for that row.
    """
    plain, found = {row.name: row for row in without}, []
    for row in augmented:
        if row.estimator == "raw" or row.name not in plain:
            continue
        other = plain[row.name]
        files = [f"{one.folder / file}:{one.estimator}" for one in (row, other)]
        first, second = read_methods(files, "average", ["with", "without"])
        for metric in metrics:
            images = [
                name
                for name, scored in first.rows.items()
                if metric in scored.values and metric in second.rows[name].values
            ]
            if not images:
                continue
            fields = fields_of(images, [first.rows[name].field for name in images])
            values = [[method.rows[name].values[metric] for name in images] for method in (first, second)]
            found.append(Gain(row.name, metric, difference(values[0], values[1], fields), other.nfe, row.nfe))
    return found


def gains_section(found: Sequence[Gain]) -> list[str]:
    """Returns the table of one set in Markdown."""
    known = {(gain.row, gain.metric): gain for gain in found}
    rows = {gain.row: gain for gain in found}
    metrics = list(dict.fromkeys(gain.metric for gain in found))
    lines = [
        "With test-time augmentation minus without, mean over images [95 % interval, by field of view]:",
        "",
        f"| | {' | '.join(f'{metric} {ARROWS[metric]}' for metric in metrics)} | NFE without | NFE with |",
        "| --- |" + " --- |" * (len(metrics) + 2),
    ]
    for name, gain in rows.items():
        cells = [_cell(known.get((name, metric))) for metric in metrics]
        lines.append(f"| {name} | {' | '.join(cells)} | {gain.without} | {gain.augmented} |")
    return [*lines, ""]


def _cell(gain: Gain | None) -> str:
    if gain is None:
        return "absent"
    ends = gain.difference.interval
    return f"{gain.difference.mean:+.3g}" + (f" [{ends[0]:+.3g}, {ends[1]:+.3g}]" if ends else "")
