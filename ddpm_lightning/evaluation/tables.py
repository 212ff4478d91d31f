"""Numbers as files: a row for each image and estimator, a summary, and the summary in words."""

import csv
from pathlib import Path
from typing import Any

from ddpm_lightning.evaluation.run import Row
from ddpm_lightning.metrics.collection import METRICS

__all__ = ["summary_markdown", "write_rows"]

ARROWS = {
    "mae": "↓",
    "psnr": "↑",
    "ms_ssim": "↑",
    "lpips": "↓",
    "nrmse": "↓",
    "pearson": "↑",
    "resolution": "",
}


def write_rows(rows: list[Row], path: Path) -> None:
    """Writes ``metrics.csv``: image, field, estimator, protocol, metrics, range; numbers that are absent are empty."""
    facts = sorted({fact for row in rows for fact in row.facts} - {"protocol"})
    metrics = [*METRICS, *sorted({name for row in rows for name in row.values} - set(METRICS))]
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "field", "estimator", "protocol", *metrics, *facts, "absent"])
        for row in rows:
            numbers = [row.values.get(metric, "") for metric in metrics]
            absent = "; ".join(f"{metric}: {reason}" for metric, reason in row.absent.items())
            beside = [row.facts.get(fact, "") for fact in facts]
            writer.writerow(
                [row.image, row.field, row.estimator, row.facts["protocol"], *numbers, *beside, absent]
            )
    temporary.replace(path)


def summary_markdown(summary: dict[str, Any]) -> str:
    """Returns the summary as a page: what was measured, how, and the table of medians."""
    estimators = summary["estimators"]
    shown = [metric for metric in METRICS if any(estimators[name][metric] for name in estimators)]
    lines = [
        f"# {summary['data']}, split {summary['split']}",
        "",
        f"{summary['images']} images, {summary['draws']} draws each ({summary['preset']}), protocol "
        f"`{summary['protocol']}`. Median over images, mean in brackets.",
        "",
        "| estimator | " + " | ".join(f"{metric} {ARROWS[metric]}".strip() for metric in shown) + " |",
        "| --- |" + " --- |" * len(shown),
    ]
    for name, numbers in estimators.items():
        cells = [
            f"{numbers[metric]['median']:.4g} ({numbers[metric]['mean']:.4g})"
            if numbers[metric]
            else "absent"
            for metric in shown
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    reasons = {metric: text for numbers in estimators.values() for metric, text in numbers["absent"].items()}
    if reasons:
        lines += ["", "Absent:", "", *(f"- {metric}: {text}" for metric, text in reasons.items())]
    return "\n".join(lines) + "\n"
