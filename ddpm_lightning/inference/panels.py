"""Versions of images side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from ddpm_lightning.utils.atomic import atomic_write

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.font_manager import FontProperties  # noqa: E402
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar  # noqa: E402

__all__ = ["limits", "panel", "save"]

TITLES = {
    "low": "low",
    "single": "one sample",
    "average": "average",
    "restored": "restored",
    "target": "target",
    "error": "|restored − target|",
    "std": "std over samples",
    "residual": "removed (−3 to 3 σ of the noise)",
}
#: Versions that are errors: they share a colour map that is even in lightness, so that colour-blind people can read it.
ERRORS = ("error", "std")
#: Range of ``residual``, in standard deviations of the noise.
RESIDUALS = 3.0


def panel(
    rows: Sequence[dict[str, np.ndarray]],
    path: Path,
    captions: Sequence[dict[str, str]] = (),
    pixel_size: float | None = None,
    title: str = "",
    unit: str = "intensity",
) -> None:
    """Plots images side by side: a row for each image, a column for each of its versions.

    ``single``, ``average`` and ``target`` share the grey scale of the target, so that brightness can be compared;
    ``low`` has its own. ``error`` and ``std`` share theirs: where the samples know their error, the two look alike.
    ``residual`` is the low image minus the restored one in units of the noise: structure in it was taken for noise.

    Args:
        rows: For each image its versions with shape (H, W), by the names in ``TITLES``.
        path: File to write (PNG).
        captions: For each image, texts below its versions.
        pixel_size: Size of a pixel in µm; draws a scale bar.
        title: Text above all.
        unit: What the bar of the errors counts.
    """
    names = list(rows[0])
    height, width = rows[0][names[0]].shape
    side = min(2.5, 15 / len(names))
    figure, axes = pyplot.subplots(
        len(rows),
        len(names),
        figsize=(side * len(names), (side * min(max(height / width, 0.4), 2.5) + 0.3) * len(rows) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for row, (images, line) in enumerate(zip(rows, axes, strict=True)):
        styles = _styles(images)
        for name, axis in zip(names, line, strict=True):
            shown = axis.imshow(images[name], interpolation="nearest", **styles[name])
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(TITLES.get(name, name), fontsize=10)
            if captions:
                axis.set_xlabel(captions[row].get(name, ""), fontsize=8)
            if name == names[-1] and name in ERRORS:
                bar = figure.colorbar(shown, ax=axis, fraction=0.046, pad=0.02)
                bar.ax.tick_params(labelsize=7)
                bar.set_label(unit, fontsize=8)
        if pixel_size:
            _scale_bar(line[0], pixel_size)
    if title:
        figure.suptitle(title, fontsize=11)
    save(figure, path)


def _styles(images: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Returns the colour map and its limits for each version of one image."""
    grey = limits(next(images[name] for name in ("target", "average", "restored") if name in images))
    largest = max((np.percentile(images[name], 99.8) for name in ERRORS if name in images), default=0.0)
    styles: dict[str, dict[str, Any]] = {}
    for name, image in images.items():
        low, high = limits(image) if name == "low" else grey
        styles[name] = {"cmap": "gray", "vmin": low, "vmax": high}
        if name in ERRORS:
            styles[name] = {"cmap": "cividis", "vmin": 0, "vmax": max(largest, 1e-6)}
        elif name == "residual":
            styles[name] = {"cmap": "gray", "vmin": -RESIDUALS, "vmax": RESIDUALS}
    return styles


def limits(image: np.ndarray) -> tuple[float, float]:
    """Returns the intensities that are drawn black and white."""
    low, high = np.percentile(image, (0.5, 99.8))
    return low, max(high, low + 1e-6)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure and forgets it."""
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
    pyplot.close(figure)


def _scale_bar(axis: Axes, pixel_size: float) -> None:
    """Plots a bar of a round length, a quarter of the image wide at most, on a dark ground: legible on any image."""
    width, height = (abs(end - start) for start, end in (axis.get_xlim(), axis.get_ylim()))
    wanted = width * pixel_size / 4
    power = 10 ** np.floor(np.log10(wanted))
    length = power * max(step for step in (1, 2, 5) if step * power <= wanted * (1 + 1e-9))
    thickness: Any = height / 50  # any number, although matplotlib's default is a whole one
    label = f"{length:g} µm" if length >= 1 else f"{length * 1000:g} nm"
    bar = AnchoredSizeBar(
        axis.transData,
        length / pixel_size,
        label,
        "lower right",
        pad=0.3,
        borderpad=0.3,
        sep=3,
        label_top=True,
        color="white",
        size_vertical=thickness,
        fontproperties=FontProperties(size=9, weight="bold"),
    )
    bar.patch.set(facecolor="black", edgecolor="none", alpha=0.7)
    axis.add_artist(bar)
