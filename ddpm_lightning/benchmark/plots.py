"""Plots and panels of a benchmark: bars with intervals, distortion against perception, and the images themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot

from ddpm_lightning.evaluation.comparison import Comparison
from ddpm_lightning.evaluation.tables import ARROWS
from ddpm_lightning.inference.panels import save
from ddpm_lightning.metrics.protocol import affine_fit

__all__ = ["plot_bars", "write_panel", "plot_perception_distortion"]

#: Colours of Okabe and Ito by the kind of a row.
COLOURS = {"raw": "#999999", "average": "#0072B2", "single": "#D55E00"}


def plot_bars(comparison: Comparison, metrics: Sequence[str], path: Path, title: str) -> None:
    """Plots the median of each row with its 95 % interval, a panel for each metric."""
    names = [method.name for method in comparison.methods]
    shown = [metric for metric in metrics if metric in comparison.metrics]
    figure, axes = pyplot.subplots(
        1,
        len(shown),
        figsize=(1.4 + 2.1 * len(shown), 0.28 * len(names) + 0.9),
        sharey=True,
        layout="constrained",
    )
    places = np.arange(len(names))[::-1]
    for axis, metric in zip(np.atleast_1d(axes), shown, strict=True):
        for place, method in zip(places, comparison.methods, strict=True):
            if (found := comparison.estimates[method.name, metric]) is None:
                continue
            axis.plot(found.median, place, "o", color=COLOURS[method.estimator], markersize=4)
            if found.median_interval:
                axis.plot(
                    found.median_interval, [place, place], color=COLOURS[method.estimator], linewidth=1.5
                )
        axis.set_title(f"{metric} {ARROWS[metric]}", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(axis="y", linewidth=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(axes)[0].set_yticks(places, names, fontsize=8)
    figure.suptitle(f"{title}: median and 95 % interval over images", fontsize=9)
    save(figure, path)


def plot_perception_distortion(comparison: Comparison, path: Path, title: str) -> None:
    """Plots each row by its median distortion (PSNR) and perceptual distance (LPIPS); the best corner is top right."""
    figure, axis = pyplot.subplots(figsize=(5.2, 4.2), layout="constrained")
    points: dict[str, list[tuple[float, float]]] = {}
    for method in comparison.methods:
        psnr, lpips = (comparison.estimates.get((method.name, metric)) for metric in ("psnr", "lpips"))
        if psnr is None or lpips is None:
            continue
        x, y = psnr.median, lpips.median
        axis.plot(x, y, "o", color=COLOURS[method.estimator], markersize=5)
        short = method.name.split(",")[0]
        axis.annotate(short, (x, y), textcoords="offset points", xytext=(5, 3), fontsize=7)
        points.setdefault(short, []).append((x, y))
    for ends in points.values():
        # From one sample to the average of samples: what is paid in perception for fidelity.
        axis.plot(*zip(*ends, strict=True), color="black", linewidth=0.5, zorder=0)
    axis.set_xlabel("PSNR (dB) → more faithful", fontsize=8)
    axis.set_ylabel("LPIPS ← closer to how targets look", fontsize=8)
    axis.invert_yaxis()
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    for kind, name in (
        ("average", "one pass, or average of samples"),
        ("single", "one sample"),
        ("raw", "low image"),
    ):
        axis.plot([], [], "o", color=COLOURS[kind], label=name)
    axis.legend(fontsize=7, frameon=False)
    axis.set_title(title, fontsize=9)
    save(figure, path)


def write_panel(rows: Sequence[Any], path: Path, title: str) -> None:
    """Plots one image restored by each row, on the grey scale of the target.

    Args:
        rows: Entries of the table, each with ``name``, ``estimator`` and ``folder``; images are in ``example.npz``
            beside that folder.
        path: File to write.
        title: Text above all.
    """
    images: dict[str, np.ndarray] = {}
    for row in rows:
        with np.load(row.folder.parent / "example.npz") as example:
            images[row.name] = example["low" if row.estimator == "raw" else row.estimator]
            images["target"] = example["target"]
    target = images["target"] = images.pop("target")  # the last one
    columns = 6
    lines = -(-len(images) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(1.75 * columns, 2.0 * lines), layout="constrained"
    )
    low, high = np.percentile(target, (0.5, 99.7))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, image) in zip(axes.flat, images.items(), strict=False):
        gain, offset = affine_fit(*(torch.from_numpy(one.astype(float)) for one in (image, target)))
        axis.imshow(gain * image + offset, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(name, fontsize=7.5)
    figure.suptitle(f"{title}: each with gain and offset fitted to the target", fontsize=9)
    save(figure, path)
