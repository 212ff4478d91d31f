"""Pictures that people look at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)

__all__ = ["panel"]

TITLES = {
    "low": "low",
    "single": "one draw",
    "average": "average",
    "std": "std over draws",
    "target": "target",
}


def panel(
    rows: Sequence[dict[str, np.ndarray]],
    path: Path,
    captions: Sequence[dict[str, str]] = (),
    pixel_size: float | None = None,
    title: str = "",
) -> None:
    """Draws images side by side: a row for each image, a column for each of its versions.

    ``single`` and ``average`` share the grey scale of the target, so that brightness can be compared; ``low`` has its
    own; ``std`` is shown in a perceptually even colour map that colour-blind people can read.

    Args:
        rows: For each image its versions with shape (H, W), by the names in ``TITLES``.
        path: File to write (PNG).
        captions: For each image, texts below its versions.
        pixel_size: Size of a pixel in µm; draws a scale bar.
        title: Text above all.
    """
    names = list(rows[0])
    figure, axes = pyplot.subplots(
        len(rows),
        len(names),
        figsize=(2.6 * len(names), 2.75 * len(rows) + 0.3),
        squeeze=False,
        layout="constrained",
    )
    for row, (images, line) in enumerate(zip(rows, axes, strict=True)):
        reference = images.get("target", images.get("average"))
        shared = np.percentile(reference, (0.5, 99.8))
        for name, axis in zip(names, line, strict=True):
            style: dict[str, Any] = {
                "cmap": "gray",
                "vmin": shared[0],
                "vmax": max(shared[1], shared[0] + 1e-6),
            }
            if name == "low":
                low, high = np.percentile(images[name], (0.5, 99.8))
                style.update(vmin=low, vmax=max(high, low + 1e-6))
            if name == "std":
                style = {"cmap": "cividis", "vmin": 0, "vmax": max(np.percentile(images[name], 99.8), 1e-6)}
            shown = axis.imshow(images[name], interpolation="nearest", **style)
            axis.set_xticks([])
            axis.set_yticks([])
            if name == "std":
                figure.colorbar(shown, ax=axis, fraction=0.046, pad=0.02).ax.tick_params(labelsize=6)
            if row == 0:
                axis.set_title(TITLES.get(name, name), fontsize=10)
            if captions:
                axis.set_xlabel(captions[row].get(name, ""), fontsize=8)
        if pixel_size:
            _scale_bar(line[0], pixel_size)
    if title:
        figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _scale_bar(axis: matplotlib.axes.Axes, pixel_size: float) -> None:
    """Draws a bar of a round length, about a quarter of the image wide."""
    width = abs(axis.get_xlim()[1] - axis.get_xlim()[0])
    height = abs(axis.get_ylim()[0] - axis.get_ylim()[1])
    wanted = width * pixel_size / 4
    power = 10 ** np.floor(np.log10(wanted))
    length = power * max(step for step in (1, 2, 5) if step * power <= wanted)
    right, bottom = 0.95 * width, 0.93 * height
    axis.plot([right - length / pixel_size, right], [bottom, bottom], color="white", linewidth=2.5)
    label = f"{length:g} µm" if length >= 1 else f"{length * 1000:g} nm"
    axis.text(
        right - length / pixel_size / 2, bottom - 0.03 * height, label, color="white", ha="center", fontsize=7
    )
