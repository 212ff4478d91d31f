"""Tables of an evaluation: a row for each image and estimator as CSV, written and read, and Markdown."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddpm_lightning.evaluation.image_scores import ESTIMATORS, ImageScores, Row
from ddpm_lightning.metrics.collection import (
    EXTRA_METRICS,
    METRICS,
    REFERENCE_METRICS,
    RESOLUTION_METRICS,
    SAMPLE_METRICS,
)
from ddpm_lightning.utils.atomic import atomic_write
from ddpm_lightning.utils.errors import UserError

__all__ = [
    "ARROWS",
    "SAMPLE_MEANINGS",
    "UNITS",
    "absent_in_words",
    "cell",
    "sampled_by",
    "estimator_table",
    "further_table",
    "heading",
    "read_rows",
    "summary_markdown",
    "write_rows",
    "write_tables",
    "write_uncertainty",
]

#: Whether less or more is better; empty if that depends.
ARROWS = {
    "mae": "↓",
    "psnr": "↑",
    "ms_ssim": "↑",
    "lpips": "↓",
    "nrmse": "↓",
    "pearson": "↑",
    "resolution": "",
    "si_psnr": "↑",
    "ssim": "↑",
    "resolution_frc": "↓",
    "rsp": "↑",
    "rse": "↓",
    "crps": "↓",
    "energy_score": "↓",
    "rank_divergence": "↓",
}
UNITS = {"psnr": "dB", "si_psnr": "dB"}
#: Metrics in the unit of the resolution.
LENGTHS = ("resolution", "resolution_target", "resolution_frc")
MEANINGS = {
    "si_psnr": "PSNR after the best gain and offset",
    "ssim": "structural similarity on one scale",
    "slope": "gain against the target; ideal 1",
    "intercept": "offset against the target, in intensities; ideal 0",
    "total_intensity_ratio": "sum of the intensities over that of the target; ideal 1",
    "high_frequency_ratio": "power at periods up to 8 px over that of the target; ideal 1",
    "resolution_target": "resolution of the target, by decorrelation",
    "resolution_ratio": "resolution over that of the target; ideal 1",
    "resolution_frc": "finest period at which image and target agree (Fourier ring correlation of 1/7)",
    "rsp": "correlation with the low image after blurring back to it; its noise sets the limit",
    "rse": "error of that fit, in intensities of the low image; its noise sets the limit",
}
#: What the metrics of samples mean, for the pages that show them.
SAMPLE_MEANINGS = {
    "crps": "continuous ranked probability score of pixels, in units of the target's range; that of an image without "
    "samples is its mean absolute error",
    "energy_score": "the same for windows of 8 x 8 pixels, as a root mean square",
    "spread_skill": "spread–skill ratio √(mean of (1 + 1/N) s²) / RMSE of the mean, for N samples with standard "
    "deviation s; ideal 1",
    "coverage": "share of pixels in their interval mean ± t s √(1 + 1/N), t from Student's distribution; ideal the "
    "nominal level",
    "rank_divergence": "Kullback–Leibler divergence of the rank histogram from a flat one, in nats; ideal 0",
}
NUMBERS = {*METRICS, *SAMPLE_METRICS, *RESOLUTION_METRICS, *EXTRA_METRICS, *REFERENCE_METRICS}
FIRST = ("image", "field", "estimator", "protocol")


def write_rows(rows: list[Row], path: Path) -> None:
    """Writes ``metrics.csv``: image, field, estimator, protocol, metrics, range; absent numbers are empty."""
    facts = sorted({fact for row in rows for fact in row.facts} - {"protocol"})
    further = {name for row in rows for name in row.values}.difference(METRICS, SAMPLE_METRICS)
    metrics = [*METRICS, *SAMPLE_METRICS, *sorted(further)]
    lines: list[list[Any]] = [[*FIRST, *metrics, *facts, "absent"]]
    for row in rows:
        numbers = [row.values.get(metric, "") for metric in metrics]
        absent = "; ".join(
            f"{', '.join(names)}: {reason}" for reason, names in _by_reason(row.absent).items()
        )
        beside = [row.facts.get(fact, "") for fact in facts]
        lines.append([row.image, row.field, row.estimator, row.facts["protocol"], *numbers, *beside, absent])
    _write(path, lines)


def write_uncertainty(scores: Sequence[ImageScores], path: Path) -> None:
    """Writes ``uncertainty.csv``: measures of the samples' uncertainty by image, in units of the target's range."""
    names = list(
        next(found.uncertainty.measures.values() for found in scores if found.uncertainty is not None)
    )
    lines: list[list[Any]] = [["image", "field", "samples", *names, "absent"]]
    for found in scores:
        row = found.rows[0]
        if found.uncertainty is None:
            lines.append([row.image, row.field, "", *[""] * len(names), found.no_uncertainty])
        else:
            values = found.uncertainty.measures.values()
            numbers = [values[name] if values[name] == values[name] else "" for name in names]
            lines.append([row.image, row.field, found.uncertainty.measures.samples, *numbers, ""])
    _write(path, lines)


def write_tables(scores: Sequence[ImageScores], folder: Path) -> None:
    """Writes ``metrics.csv``, ``metrics_PROTOCOL.csv`` for each further protocol, and ``uncertainty.csv``."""
    write_rows([row for found in scores for row in found.rows], folder / "metrics.csv")
    for protocol in scores[0].also:
        write_rows(
            [row for found in scores for row in found.also[protocol]], folder / f"metrics_{protocol}.csv"
        )
    if any(found.uncertainty is not None for found in scores):
        write_uncertainty(scores, folder / "uncertainty.csv")


def _write(path: Path, lines: list[list[Any]]) -> None:
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)


def read_rows(path: Path) -> list[Row]:
    """Reads ``metrics.csv`` back.

    Raises:
        UserError: If the file is missing, was cut off, or is something else.
    """
    remedy = "evaluate again, or copy the file again"
    if not path.is_file():
        raise UserError(path, "no such file", allowed="a metrics.csv that `ddpm-lightning evaluate` left")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(path, "is not a table, but a binary file", remedy="pass a metrics.csv") from error
    lines = list(csv.reader(io.StringIO(text, newline="")))
    header = lines[0] if lines else []
    if tuple(header[: len(FIRST)]) != FIRST or header[-1] != "absent":
        raise UserError(
            path,
            f"has columns {', '.join(header[:4]) or 'none'}",
            allowed="a metrics.csv that `ddpm-lightning evaluate` left: image, field, estimator, protocol, …",
        )
    if not text.endswith("\n") or any(len(line) != len(header) for line in lines):
        raise UserError(path, f"was cut off in line {len(lines)}", remedy=remedy)
    cells = (dict(zip(header, line, strict=True)) for line in lines[1:])
    rows = [_row(line, path, f"line {number}", remedy) for number, line in enumerate(cells, start=2)]
    _check_complete(rows, path, remedy)
    return rows


def _row(cells: dict[str, str], path: Path, place: str, remedy: str) -> Row:
    values = {}
    for name in NUMBERS & cells.keys():
        try:
            values |= {name: float(cells[name])} if cells[name] else {}
        except ValueError as error:
            found = f"has {cells[name]!r} as {name} in {place}"
            raise UserError(path, found, allowed="a number, or nothing", remedy=remedy) from error
    name = f"(?:{'|'.join(NUMBERS)})"
    absent = re.split(rf"; (?={name}(?:, {name})*: )", cells["absent"]) if cells["absent"] else []
    facts = {name: cells[name] for name in cells.keys() - NUMBERS - {*FIRST[:3], "absent"} if cells[name]}
    parts = [part.split(": ", 1) for part in absent]
    reasons = {metric: reason for names, reason in parts for metric in names.split(", ")}
    return Row(cells["image"], cells["field"], cells["estimator"], values, reasons, facts)


def _check_complete(rows: list[Row], path: Path, remedy: str) -> None:
    if not rows:
        raise UserError(path, "contains no images", remedy=remedy)
    seen: dict[str, list[str]] = {}
    for row in rows:
        seen.setdefault(row.image, []).append(row.estimator)
    for image, estimators in seen.items():
        if sorted(estimators) != sorted(ESTIMATORS):
            raise UserError(
                path,
                f"has for image {image} the estimators {', '.join(estimators)}: it was cut off, or changed",
                allowed=", ".join(ESTIMATORS) + ", once each",
                remedy=remedy,
            )
    if len(protocols := {row.facts["protocol"] for row in rows}) > 1:
        raise UserError(path, f"mixes the protocols {', '.join(sorted(protocols))}", remedy=remedy)


def heading(metric: str, length: str = "") -> str:
    """Returns the name of a metric with its unit, and an arrow that says whether less or more is better.

    Args:
        metric: Name of the metric.
        length: Unit of the resolution.
    """
    unit = length if metric in LENGTHS else UNITS.get(metric, "")
    return f"{metric}{f' ({unit})' if unit else ''} {ARROWS.get(metric, '')}".strip()


def estimator_table(
    estimators: dict[str, Any], length: str = "", metrics: Sequence[str] = METRICS
) -> list[str]:
    """Returns metrics in Markdown: median over images and its 95 % interval, if any estimator has them.

    Args:
        estimators: Result of :func:`ddpm_lightning.evaluation.summary.summarise`.
        length: Unit of the resolution.
        metrics: Metrics to show.
    """
    shown = [metric for metric in metrics if any(estimators[name].get(metric) for name in estimators)]
    lines = [
        "| estimator | " + " | ".join(heading(metric, length) for metric in shown) + " |",
        "| --- |" + " --- |" * len(shown),
    ]
    for name, numbers in estimators.items():
        lines.append(f"| {name} | " + " | ".join(cell(numbers.get(metric)) for metric in shown) + " |")
    return lines


def further_table(
    estimators: dict[str, Any], length: str = "", meanings: Mapping[str, str] = MEANINGS
) -> list[str]:
    """Returns further metrics in Markdown, a row for each with its meaning; empty if there are none.

    Args:
        estimators: Result of :func:`ddpm_lightning.evaluation.summary.summarise`.
        length: Unit of the resolution.
        meanings: Meanings of the metrics to show.
    """
    shown = [metric for metric in meanings if any(estimators[name].get(metric) for name in estimators)]
    if not shown:
        return []
    lines = [
        "| metric | " + " | ".join(estimators) + " | meaning |",
        "| --- |" + " --- |" * (len(estimators) + 1),
    ]
    for metric in shown:
        cells = " | ".join(cell(numbers.get(metric)) for numbers in estimators.values())
        lines.append(f"| {heading(metric, length)} | {cells} | {meanings[metric]} |")
    return lines


def cell(numbers: dict[str, Any] | None) -> str:
    """Returns a median with its interval, or with the mean if it has none."""
    if not numbers:
        return "absent"
    if not numbers["median_interval"]:
        return f"{numbers['median']:.4g} (mean {numbers['mean']:.4g})"
    low, high = numbers["median_interval"]
    return f"{numbers['median']:.4g} [{low:.4g}, {high:.4g}]"


def absent_in_words(summary: dict[str, Any]) -> dict[str, str]:
    """Returns why numbers are absent, each reason once; with the estimators where not all of them lack a metric."""
    estimators = summary["estimators"]
    lacking: dict[tuple[str, str], list[str]] = {}
    for table in (estimators, summary["sample_metrics"]["estimators"]):
        for name, numbers in table.items():
            for metric, text in numbers["absent"].items():
                lacking.setdefault((metric, text), []).append(name)
    named = {
        metric if len(names) == len(estimators) else f"{metric} ({', '.join(names)})": text
        for (metric, text), names in lacking.items()
    }
    metrics = {", ".join(names): text for text, names in _by_reason(named).items()}
    return metrics | {f"image {image}": text for image, text in summary.get("failed", {}).items()}


def _by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Returns names by reason, in the order of their first appearance."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return names


def sampled_by(summary: dict[str, Any]) -> str:
    """Returns the name of the preset and its sampler."""
    return ": ".join(part for part in (summary["preset"], summary.get("sampler", "")) if part)


def summary_markdown(summary: dict[str, Any]) -> str:
    """Returns the short form of a summary for the terminal: what was measured, how, and the table of medians."""
    lines = [
        f"# {summary['data']}, split {summary['split']}",
        "",
        f"{summary['images']} images, {summary['samples']} samples each ({sampled_by(summary)}), protocol "
        f"`{summary['protocol']}`, truth: {summary['truth']}. Median over images and its 95 % interval.",
        "",
        *estimator_table(summary["estimators"], summary.get("resolution_unit", "")),
        "",
        "As predictions of a distribution, in units of the target's range:",
        "",
        *estimator_table(summary["sample_metrics"]["estimators"], metrics=SAMPLE_METRICS),
    ]
    if reasons := absent_in_words(summary):
        lines += ["", "Absent:", "", *(f"- {metric}: {text}" for metric, text in reasons.items())]
    if sentences := summary.get("in_words"):
        lines += ["", *(f"- {sentence}" for sentence in sentences)]
    return "\n".join(lines) + "\n"
