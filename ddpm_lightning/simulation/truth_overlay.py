"""Plots the ground truth of a simulated image: lines, points and outlines."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

__all__ = ["plot_truth"]

LINES, FAINT, FILL = "#8fd3ff", "#35607a", "#6f5a9e"
FIRST, SECOND, LONELY = "#ff8c42", "#5ee27a", "#b0b0b0"


def plot_truth(axis: Axes, truth: dict[str, Any], shape: tuple[int, int]) -> None:
    """Plots the ground truth of any of the four specimens.

    Lines are blue, and dark where they are out of focus; tubes have an outline, nuclei are filled, junctions are orange
    dots. Of a synapse, the presynaptic side is orange and the postsynaptic one green; grey ones have no partner.

    Args:
        axis: Axes of the plot.
        truth: ``Pair.extra["truth"]`` of a simulated pair, in pixels.
        shape: Height and width of the image.
    """
    axis.set(facecolor="black", xlim=(-0.5, shape[1] - 0.5), ylim=(shape[0] - 0.5, -0.5), aspect="equal")
    if "nuclei" in truth:
        inside = (truth["nuclei"] > 0).astype(float)
        axis.imshow(inside, cmap=ListedColormap(["black", FILL]), interpolation="nearest")
    if "radii" in truth:
        axis.contour(truth["mask"].astype(float), levels=[0.5], colors=FAINT, linewidths=0.8)
    lines = [*truth.get("centre_lines", ()), *truth.get("walls", ()), *truth.get("dendrites", ())]
    for line, sharp in zip(lines, truth.get("focus", [1] * len(lines)), strict=True):
        axis.plot(line[:, 1], line[:, 0], color=LINES if sharp else FAINT, linewidth=0.8)
    for name, colour, size in (("junctions", FIRST, 8), ("orphans", LONELY, 3)):
        if len(places := truth.get(name, ())):
            axis.scatter(places[:, 1], places[:, 0], size, colour, linewidths=0, zorder=3)
    for side, colour in enumerate((FIRST, SECOND)):
        if len(places := truth.get("pairs", ())):
            axis.scatter(places[:, side, 1], places[:, side, 0], 3, colour, linewidths=0, zorder=3)
