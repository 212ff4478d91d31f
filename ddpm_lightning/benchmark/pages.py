"""The pages of a benchmark in Markdown: medians with intervals, marks of significant differences, ranks and costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm_lightning.benchmark.jobs import AUGMENTED, PLAIN
from ddpm_lightning.benchmark.rows import Entry, summary_of
from ddpm_lightning.evaluation.comparison import Comparison
from ddpm_lightning.evaluation.tables import ARROWS

__all__ = [
    "REFERENCE",
    "UNCERTAINTY",
    "Page",
    "head",
    "methods_table",
    "perceptual_sentence",
    "section",
    "uncertainty_numbers",
    "uncertainty_table",
    "yes",
]

#: Method whose average all other rows are compared with.
REFERENCE = "pmrf"
#: Measures of the standard deviation of the samples: title, and the value of perfect samples.
UNCERTAINTY = {
    "ratio": ("sqrt(b/a): standard deviation over its ideal", "1"),
    "coverage": ("coverage of 90 % intervals", "0.9"),
    "ece": ("expected calibration error", "0"),
    "ence": ("ENCE", "0"),
    "spread_skill": ("spread–skill ratio", "1"),
    "rank_divergence": ("divergence of the rank histogram", "0"),
    "crps": ("CRPS, share of the range", "least"),
    "energy_score": ("energy score, share of the range", "least"),
    "ause": ("AUSE", "0"),
    "spearman": ("rank correlation of standard deviation and error", "most"),
}


@dataclass(frozen=True)
class Page:
    """A page of tables.

    Attributes:
        name: Name of the page, after ``table``.
        protocol: Protocol of its numbers.
        file: File of its numbers in the folder of an evaluation.
        evaluation: Folder of the evaluation in that of a job.
        main: Whether it is the main page, which has the figures.
    """

    name: str
    protocol: str
    file: str
    evaluation: str = PLAIN
    main: bool = False

    @property
    def about(self) -> list[str]:
        """Protocol and test-time augmentation, as columns of the tables."""
        return [self.protocol, yes(self.evaluation == AUGMENTED)]


def head(page: Page, about: Sequence[str]) -> list[str]:
    """Returns title, legend and remarks of a page."""
    tta = (
        "All methods with test-time augmentation in eight orientations: networks without samples are applied in each "
        "of them, which counts as eight evaluations; each sample is computed in another one, so that one sample alone "
        "has none beyond that of its posterior mean."
    )
    augmented = page.evaluation == AUGMENTED
    return [
        f"# Benchmark, protocol `{page.protocol}`" + (", with test-time augmentation" if augmented else ""),
        "",
        tta if augmented else "No method uses test-time augmentation; with it: `table_tta.md`.",
        "",
        "Written by `ddpm-lightning benchmark`. Median over images [95 % interval, by field of view]. ▲ and ▼: "
        f"significantly better and worse than the average of `{REFERENCE}` (studentised mean and Wilcoxon, paired, "
        "Holm's correction for all rows in a metric, 5 %). Rank: mean place over images and PSNR, MS-SSIM, LPIPS and "
        "CRPS. CRPS and energy score are shares of the target's range: of an average, those of its samples; of a "
        "single image, its mean absolute error and that of its windows. NFE: network evaluations for an image.",
        "",
        *(f"- {sentence}" for sentence in about),
        "",
    ]


def methods_table(records: Sequence[dict[str, Any]]) -> list[str]:
    """Returns parameters, training and speed of each method."""
    lines = [
        "| method | parameters | steps | training, share of the budget | seconds a sample, 256 x 256 | samples |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(record["method"] for record in records):
        chosen = [record for record in records if record["method"] == name]
        record = chosen[0]
        seconds = np.median([c["seconds_per_sample"] for c in chosen])
        steps = " + ".join(map(str, record["steps"])) or "fitted"
        numbers = f"{record['parameters']:,} | {steps} | {record['training']:g} | {seconds:.2g}"
        lines.append(f"| {name} | {numbers} | {record['preset']} |")
    return [*lines, ""]


def section(
    name: str, rows: Sequence[Entry], comparison: Comparison, ranked: dict[str, float], reference: str
) -> list[str]:
    """Returns the table of a set."""
    marks = _marks(comparison, reference)
    heads = [f"{metric} {ARROWS[metric]}" for metric in comparison.metrics]
    lines = [
        f"## {name}",
        "",
        f"{comparison.images} images of {comparison.fields} fields of view.",
        "",
        f"| | {' | '.join(heads)} | rank | NFE |",
        "| --- |" + " --- |" * (len(heads) + 2),
    ]
    for row in rows:
        numbers = []
        for metric in comparison.metrics:
            found = comparison.estimates[row.name, metric]
            if found is None:
                numbers.append("absent")
                continue
            ends = found.median_interval
            between = f" [{ends[0]:.4g}, {ends[1]:.4g}]" if ends else ""
            numbers.append(f"{found.median:.4g}{between}{marks.get((row.name, metric), '')}")
        lines.append(f"| {row.name} | {' | '.join(numbers)} | {ranked[row.name]:.1f} | {row.nfe} |")
    return [*lines, ""]


def perceptual_sentence(comparison: Comparison, reference: str) -> str:
    """Returns which rows are better than the reference in LPIPS, and which cannot be distinguished from it."""
    marks = _marks(comparison, reference)
    others = [method.name for method in comparison.methods if method.name != reference]
    better = [name for name in others if "▲" in marks.get((name, "lpips"), "")]
    tied = [name for name in others if (name, "lpips") not in marks]
    return (
        f"In LPIPS, significantly better than `{reference}`: {', '.join(better) or 'none'}; not told apart from it: "
        f"{', '.join(tied) or 'none'}; worse: all others."
    )


def _marks(comparison: Comparison, reference: str) -> dict[tuple[str, str], str]:
    """Returns the mark of each row and metric whose difference from the reference is significant."""
    marks = {}
    for found in comparison.pairings:
        if found.significant:
            first = found.first == reference
            larger = (found.difference.mean < 0) == first
            other = found.second if first else found.first
            marks[other, found.metric] = " ▲" if larger == (ARROWS[found.metric] == "↑") else " ▼"
    return marks


def uncertainty_numbers(rows: Sequence[Entry]) -> dict[str, dict[str, float]]:
    """Returns the calibration of the samples' standard deviation by method, for those with enough samples."""
    found = {}
    for row in rows:
        if row.estimator != "average":
            continue
        summary = summary_of(row.folder)
        if summary["calibration"] and summary["averaging"]:
            numbers = {name: n["median"] for name, n in summary["calibration"]["numbers"].items() if n}
            found[row.method] = numbers | {"ratio": max(summary["averaging"]["ratio"], 0.0) ** 0.5}
    return found


def uncertainty_table(found: dict[str, dict[str, float]]) -> list[str]:
    """Returns the table of what :func:`uncertainty_numbers` found."""
    if not found:
        return []
    lines = [
        "Standard deviation of the samples, median over images; ideal values in brackets:",
        "",
        f"| | {' | '.join(f'{title} ({ideal})' for title, ideal in UNCERTAINTY.values())} |",
        "| --- |" + " --- |" * len(UNCERTAINTY),
    ]
    for method, values in found.items():
        numbers = (
            f"{values[name]:.3g}" if values.get(name) is not None else "absent" for name in UNCERTAINTY
        )
        lines.append(f"| {method} | {' | '.join(numbers)} |")
    return [*lines, ""]


def yes(value: bool) -> str:
    """Returns a truth value in words."""
    return "yes" if value else "no"
