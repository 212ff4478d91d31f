"""The results of a sweep: ``summary.csv`` with a row for each job, and ``summary.png``.

They are read from the files that the jobs left in their folders, so jobs that finished earlier or on other machines are
included.
"""

import csv
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm_lightning.utils.atomic import atomic_write, read_json

__all__ = ["RECORD", "SweepJob", "plot_sweep", "read_sweep", "write_sweep"]

#: Name of the record of a job, in its folder.
RECORD = "job.json"
#: Scores of an evaluation that are shown: (estimator, metric).
SCORES = tuple(
    (estimator, metric) for estimator in ("single", "average") for metric in ("psnr", "ms_ssim", "nrmse")
)
#: Most lines in a plot.
MOST_LINES = 10


@dataclass(frozen=True)
class SweepJob:
    """The result of one job.

    Attributes:
        name: Name of its folder.
        state: ``running``, ``failed`` or ``finished``.
        settings: The settings that differ between the jobs, by name; the same names for all jobs.
        numbers: Objective, steps, seconds, and the metrics of the training or evaluation, by name.
        error: Why it failed, if it did.
    """

    name: str
    state: str
    settings: dict[str, str]
    numbers: dict[str, Any]
    error: str = ""

    @property
    def row(self) -> dict[str, Any]:
        """Its row of the table, by column."""
        return {
            "job": self.name,
            "state": self.state,
            **self.settings,
            **self.numbers,
            "error": self.error,
        }


def write_sweep(folder: Path) -> list[SweepJob]:
    """Writes ``summary.csv`` and ``summary.png`` of a sweep, and returns its jobs.

    Args:
        folder: Folder of the sweep, with a folder for each job.
    """
    jobs = read_sweep(folder)
    if not jobs:
        return jobs
    rows = [job.row for job in jobs]
    with (
        atomic_write(folder / "summary.csv") as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    plot_sweep(jobs, folder / "summary.png")
    return jobs


def read_sweep(folder: Path) -> list[SweepJob]:
    """Returns the jobs of a sweep by number."""
    records = {path.parent: read_json(path) for path in folder.glob(f"*/{RECORD}")}
    settings = {place: _settings(record.get("overrides", [])) for place, record in records.items()}
    names = dict.fromkeys(name for values in settings.values() for name in values)
    swept = [name for name in names if len({values.get(name) for values in settings.values()}) > 1]
    return [
        _job(place, str(records[place].get("state")), {name: settings[place].get(name, "") for name in swept})
        for place in sorted(records, key=_by_number)
    ]


def _job(place: Path, state: str, settings: dict[str, str]) -> SweepJob:
    status = read_json(place / "status.json")
    scores = read_json(place / "summary.json").get("estimators", {})
    numbers = {name: status.get(name, "") for name in ("objective", "step", "seconds")}
    numbers |= status.get("metrics", {})
    for estimator, metric in SCORES:
        if median := ((scores.get(estimator) or {}).get(metric) or {}).get("median"):
            numbers[f"{estimator}/{metric}"] = median
    return SweepJob(place.name, state, settings, numbers, status.get("error", ""))


def _settings(overrides: Sequence[str]) -> dict[str, str]:
    parts = (override.lstrip("+").partition("=") for override in overrides)
    return {name: value for name, _, value in parts}


def _by_number(place: Path) -> tuple[float, str]:
    return (int(place.name) if place.name.isdigit() else math.inf), place.name


def plot_sweep(jobs: Sequence[SweepJob], path: Path) -> None:
    """Plots the objective, or the PSNR of the average, against the setting with the most values.

    Jobs with the same other settings are joined by a line. Seeds are not quantities: jobs that differ in their seed
    only are points of one colour, and the line passes through their mean.

    Args:
        jobs: Jobs of a sweep.
        path: File to write; none is written if there is nothing to plot.
    """
    finished = [job for job in jobs if job.state == "finished"]
    names = [name for name in ("objective", "average/psnr") if any(job.numbers.get(name) for job in finished)]
    values = [(job, _number(job.numbers[names[0]])) for job in finished if names and names[0] in job.numbers]
    points = [(job, y) for job, y in values if y is not None]
    if not points or not points[0][0].settings:
        return
    seeds = [name for name in points[0][0].settings if name.split(".")[-1] == "seed"]
    x_name, is_numeric = _x_setting([job.settings for job, _ in points], seeds)
    lines: dict[str, list[tuple[Any, float]]] = {}
    for job, y in points:
        x = job.settings[x_name]
        label = " ".join(f"{n}={value}" for n, value in job.settings.items() if n not in (x_name, *seeds))
        lines.setdefault(label, []).append((float(x) if is_numeric else x, y))
    from matplotlib.figure import Figure  # only here, because it takes a second to import

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, line in list(lines.items())[:MOST_LINES]:
        (dots,) = axes.plot(*zip(*sorted(line), strict=True), "o", label=label or None)
        if x_name not in seeds:
            means = {x: statistics.fmean(y for other, y in line if other == x) for x, _ in sorted(line)}
            axes.plot(list(means), list(means.values()), "-", color=dots.get_color())
    positions = [x for line in lines.values() for x, _ in line]
    if is_numeric and min(positions) > 0 and max(positions) > 30 * min(positions):
        axes.set_xscale("log")
    y_name = "best validation loss" if names[0] == "objective" else f"{names[0]} (median)"
    axes.set(xlabel=x_name, ylabel=y_name)
    axes.set_title(f"{len(finished)} of {len(jobs)} jobs finished", fontsize="medium")
    if any(lines):
        axes.legend(fontsize="small")
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=120, format="png")


def _x_setting(settings: Sequence[dict[str, str]], seeds: Sequence[str]) -> tuple[str, bool]:
    """Returns the setting to plot against, and whether its values are numbers."""

    def rank(name: str) -> tuple[bool, int]:
        values = {chosen[name] for chosen in settings}
        return all(_number(value) is not None for value in values), len(values)

    chosen = max([name for name in settings[0] if name not in seeds] or seeds, key=rank)
    return chosen, rank(chosen)[0]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
