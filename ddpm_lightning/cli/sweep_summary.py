"""What came of a sweep: ``summary.csv`` with a row for each job, and ``summary.png``.

Hydra calls :class:`WriteSummary` when the last job has ended (``conf/common.yaml``). It reads what the jobs left in
their folders, so it knows as much of those that were finished before, or ran on other machines.
"""

import csv
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ddpm_lightning.cli.sweep import RECORD
from ddpm_lightning.utils.atomic import atomic_write, read_json

__all__ = ["WriteSummary", "rows_of", "write_summary"]

#: What of an evaluation is shown: (estimator, metric).
SCORES = tuple(
    (estimator, metric) for estimator in ("single", "average") for metric in ("psnr", "ms_ssim", "nrmse")
)


class WriteSummary(Callback):
    """Writes the summary at the end of a sweep.

    Attributes:
        failed: Names of the jobs that failed, of the last sweep of this process.
    """

    failed: ClassVar[list[str]] = []

    def on_multirun_end(self, config: DictConfig, **keywords: Any) -> None:
        """Writes table and picture, and says where they are."""
        folder = Path(config.hydra.sweep.dir)
        rows = write_summary(folder)
        failed = [f"{row['job']} ({row['state']})" for row in rows if row["state"] != "finished"]
        type(self).failed[:] = failed
        if rows:
            print(
                f"\n{len(rows) - len(failed)} of {len(rows)} jobs finished\nsummary  {folder / 'summary.csv'}"
            )


def write_summary(folder: Path) -> list[dict[str, Any]]:
    """Writes ``summary.csv`` and ``summary.png`` of a sweep and returns the rows."""
    rows, swept = rows_of(folder)
    if not rows:
        return rows
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (
        atomic_write(folder / "summary.csv") as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    _draw(rows, swept, folder / "summary.png")
    return rows


def rows_of(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns a row for each job (what sets it apart, how it ended, its numbers), and the settings that differ."""
    records = {path.parent: read_json(path) for path in folder.glob(f"*/{RECORD}")}
    settings = {place: _settings(record.get("overrides", [])) for place, record in records.items()}
    names = dict.fromkeys(name for values in settings.values() for name in values)
    swept = [name for name in names if len({values.get(name) for values in settings.values()}) > 1]
    rows = []
    for place in sorted(records, key=_by_number):
        status = read_json(place / "status.json")
        scores = read_json(place / "summary.json").get("estimators", {})
        row = {"job": place.name, "state": records[place].get("state")}
        row |= {name: settings[place].get(name, "") for name in swept}
        row |= {name: status.get(name, "") for name in ("objective", "step", "seconds")}
        row |= status.get("metrics", {})
        for estimator, metric in SCORES:
            if median := ((scores.get(estimator) or {}).get(metric) or {}).get("median"):
                row[f"{estimator}/{metric}"] = median
        rows.append(row | {"error": status.get("error", "")})
    return rows, swept


def _settings(overrides: Sequence[str]) -> dict[str, str]:
    parts = (override.lstrip("+").partition("=") for override in overrides)
    return {name: value for name, _, value in parts}


def _by_number(place: Path) -> tuple[float, str]:
    return (int(place.name) if place.name.isdigit() else math.inf), place.name


def _draw(rows: Sequence[dict[str, Any]], swept: Sequence[str], path: Path) -> None:
    """Draws the objective, or the score of the average, over the setting with the most values; a line for each rest."""
    from matplotlib.figure import Figure  # takes a second, and is needed once

    finished = [row for row in rows if row["state"] == "finished"]
    wanted = next(
        (name for name in ("objective", "average/psnr") if any(row.get(name) for row in finished)), None
    )
    if wanted is None or not swept:
        return
    heights = [(row, _number(row.get(wanted))) for row in finished]
    measured = [(row, y) for row, y in heights if y is not None]
    points = [row for row, _ in measured]
    # A seed is no quantity: runs that differ in it alone repeat each other, and are points of one colour.
    seeds = [name for name in swept if name.split(".")[-1] == "seed"]
    candidates = [name for name in swept if name not in seeds] or seeds
    x_name = max(candidates, key=lambda name: (_numeric(points, name), len({row[name] for row in points})))
    lines: dict[str, list[tuple[Any, float]]] = {}
    for row, y in measured:
        label = " ".join(f"{name}={row[name]}" for name in swept if name not in (x_name, *seeds))
        x = _number(row[x_name]) if _numeric(points, x_name) else row[x_name]
        lines.setdefault(label, []).append((x, y))
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, line in list(lines.items())[:10]:
        (dots,) = axes.plot(*zip(*sorted(line), strict=True), "o", label=label or None)
        if x_name not in seeds:
            at = {x: statistics.fmean(y for other, y in line if other == x) for x, _ in sorted(line)}
            axes.plot(list(at), list(at.values()), "-", color=dots.get_color())
    positions = [x for line in lines.values() for x, _ in line]
    if _numeric(points, x_name) and min(positions) > 0 and max(positions) > 30 * min(positions):
        axes.set_xscale("log")
    axes.set(xlabel=x_name, ylabel="best validation loss" if wanted == "objective" else f"{wanted} (median)")
    axes.set_title(f"{len(finished)} of {len(rows)} jobs finished", fontsize="medium")
    if any(lines):
        axes.legend(fontsize="small")
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=120, format="png")


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _numeric(rows: Sequence[dict[str, Any]], name: str) -> bool:
    return bool(rows) and all(_number(row[name]) is not None for row in rows)
