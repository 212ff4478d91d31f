"""Draws the learning curve of a run: ``python experiments/w2s_widefield/plot.py RUN_FOLDER/metrics.csv curve.png``."""

import csv
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)


def column(rows: list[dict[str, str]], name: str) -> tuple[list[int], list[float]]:
    """Returns the steps at which a metric was logged, and its values."""
    chosen = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
    return [step for step, _ in chosen], [value for _, value in chosen]


def main(table: str, picture: str) -> None:
    """Draws validation loss, and PSNR of a draw and of the average, against optimiser steps."""
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(*column(rows, "val/loss"), marker="o", markersize=3)
    left.set(xlabel="optimiser steps", ylabel="validation loss (v)", yscale="log")
    for name, label in (("val/psnr_average", "average of 4 draws"), ("val/psnr_single", "one draw")):
        right.plot(*column(rows, name), marker="o", markersize=3, label=label)
    right.set(xlabel="optimiser steps", ylabel="PSNR of 2 validation images (dB)")
    right.legend()
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
