"""From rows of images, intervals and tiles to tables and figure: is the standard deviation meaningful?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)
from matplotlib.axes import Axes  # noqa: E402

from ddpm_lightning.metrics.calibration import LEVELS, quantile_calibration_error  # noqa: E402
from ddpm_lightning.metrics.conformal import calibrate  # noqa: E402
from experiments import common  # noqa: E402
from experiments.ranks import Interval, auroc, over_images, worst  # noqa: E402

Rows = Sequence[Mapping[str, str]]
#: Numbers that are known without a truth and may indicate failures.
POINTERS = {"std": "std", "entropy": "entropy", "brightness": "brightness alone"}


def tables(images: Rows, intervals: Rows, tiles: Rows, level: float, figure: Path) -> Mapping[str, str]:
    """Returns the tables by name, and draws the figure.

    Args:
        images: Rows of images.
        intervals: Coverage curves and errors in standard deviations of images.
        tiles: Rows of tiles of test images.
        level: Nominal coverage of the table.
        figure: File of the figure.
    """
    cases = list(dict.fromkeys((row["set"], row["truth"]) for row in images))
    test = {case: of(images, case, "test") for case in cases}
    ranking, calibration, failures, curves, found = [], [], [], {}, {}
    for case in cases:
        rows = test[case]
        columns = ("spearman", "ause", "aurg", "spearman_entropy", "ause_entropy", "std_and_entropy")
        ranking.append([*case, *(common.mean(rows, column) for column in columns)])
        before = curve(of(intervals, case, "test"))
        after, factor = calibrated(of(intervals, case, "val"), of(intervals, case, "test"), level)
        curves[case] = before, after
        calibration.append(
            [
                *case,
                common.mean(rows, "spread_skill"),
                *_coverage(before, level),
                factor,
                *_coverage(after, level),
            ]
        )
        regions = of(tiles, case, "test")
        found[case] = {name: pointing(regions, name) for name in POINTERS}
        failures.append(
            [
                *case,
                *found[case].values(),
                *(pointing(rows, name) for name in POINTERS),
                len(regions),
                len(rows),
            ]
        )
    plot(curves, test, found, figure)
    percent = f"{level:.0%}"
    names = list(POINTERS.values())
    return {
        "ranking": common.table(
            ["set", "truth", "std: rank correlation ↑", "AUSE ↓", "AURG ↑"]
            + ["entropy: rank correlation ↑", "AUSE ↓", "std with entropy"],
            ranking,
        ),
        "calibration": common.table(
            ["set", "truth", "std / error", f"coverage of {percent}", "ECE ↓"]
            + ["conformal factor", f"coverage of {percent}, calibrated", "ECE ↓, calibrated"],
            calibration,
        ),
        "failures": common.table(
            [
                "set",
                "truth",
                *(f"tiles by {name}" for name in names),
                *(f"images by {name}" for name in names),
            ]
            + ["tiles", "images"],
            failures,
        ),
    }


def of(rows: Rows, case: tuple[str, str], split: str) -> Rows:
    """Returns the rows of a set against a truth."""
    return [row for row in rows if (row["set"], row["truth"], row["split"]) == (*case, split)]


def curve(rows: Rows) -> np.ndarray:
    """Returns the coverage of the intervals of all levels, mean over images, with shape (19,)."""
    return np.mean([numbers(row["coverage"]) for row in rows], axis=0)


def numbers(text: str) -> np.ndarray:
    """Returns the numbers in a text."""
    return np.array(text.split(), np.float64)


def calibrated(val: Rows, test: Rows, level: float) -> tuple[np.ndarray, str]:
    """Returns the coverage on test images of intervals that val images calibrated, NaN where these are too few.

    Args:
        val: Errors in standard deviations of the calibration images.
        test: Those of the test images.
        level: Level whose factor is returned as well, as text.
    """
    scores = [torch.from_numpy(numbers(row["scores"])) for row in val]
    errors = [numbers(row["scores"]) for row in test]
    covered, factor = [], f"too few images: {len(val)}"
    for nominal in LEVELS:
        try:
            found = calibrate(scores, level=nominal).factor
        except ValueError:
            covered.append(np.nan)
            continue
        covered.append(np.mean([(error <= found).mean() for error in errors]))
        if nominal == level:
            factor = f"{found:.2f}"
    return np.array(covered), factor


def _coverage(covered: np.ndarray, level: float) -> list[str]:
    """Returns coverage at a level and mean distance from the nominal coverage, as text."""
    if np.isnan(covered).any():
        here = covered[LEVELS.index(level)]
        return ["" if np.isnan(here) else f"{here:.3f}", ""]
    return [
        f"{covered[LEVELS.index(level)]:.3f}",
        f"{quantile_calibration_error(torch.from_numpy(covered)):.3f}",
    ]


def pointing(rows: Rows, name: str) -> Interval:
    """Returns how well a number finds the worst quarter of tiles or images by their error."""
    score, error = (np.array([float(row[column]) for row in rows]) for column in (name, "error"))
    fields = [row["field"] or row["image"] for row in rows]
    return over_images(auroc, (score, worst(error)), fields)


def plot(
    curves: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]],
    images: Mapping[tuple[str, str], Rows],
    found: Mapping[tuple[str, str], Mapping[str, Interval]],
    path: Path,
) -> None:
    """Plots coverage, error against standard deviation of images, and what finds the worst tiles."""
    best = {case: case for case in curves if case[1] == "clean" or (case[0], "clean") not in curves}
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for colour, case in enumerate(best):
        before, after = curves[case]
        left.plot(LEVELS, before, "--", color=f"C{colour}", linewidth=1)
        left.plot(LEVELS, after, "-", color=f"C{colour}", linewidth=1.4, label=f"{case[0]} ({case[1]})")
        std, error = (np.array([float(row[name]) for row in images[case]]) for name in ("std", "error"))
        middle.loglog(std, error, "o", markersize=3, color=f"C{colour}")
    left.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, zorder=0)
    left.set(xlabel="nominal coverage", ylabel="coverage", title="dashed: uncalibrated; lines: calibrated")
    left.legend(fontsize=7)
    span = [min(*middle.get_xlim(), *middle.get_ylim()), max(*middle.get_xlim(), *middle.get_ylim())]
    middle.plot(span, span, color="0.7", linewidth=0.8, zorder=0)
    middle.set(
        xlabel="standard deviation of the samples",
        ylabel="error of their mean",
        title="images (normalised scale)",
    )
    _bars(right, {case: found[case] for case in best})
    for axis in (left, middle, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _bars(axis: Axes, found: Mapping[tuple[str, str], Mapping[str, Interval]]) -> None:
    for place, (name, label) in enumerate(POINTERS.items()):
        values = [case[name] for case in found.values()]
        heights = [case.value for case in values]
        errors = [[case.value - case.low for case in values], [case.high - case.value for case in values]]
        positions = np.arange(len(values)) + 0.27 * (place - 1)
        axis.bar(positions, heights, 0.25, label=label, color=("C0", "C1", "0.7")[place])
        axis.errorbar(positions, heights, np.maximum(errors, 0), fmt="none", ecolor="0.3", linewidth=0.8)
    axis.axhline(0.5, color="0.4", linewidth=0.8)
    axis.set(ylim=(0, 1), ylabel="AUROC", title="what finds the worst quarter of the tiles")
    axis.set_xticks(np.arange(len(found)), [case[0] for case in found], rotation=30, ha="right", fontsize=7)
    axis.legend(fontsize=7, loc="lower right")
