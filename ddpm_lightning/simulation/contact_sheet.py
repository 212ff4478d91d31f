"""A contact sheet: the first pairs of several data sets in one figure."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.simulation.truth_overlay import plot_truth


def contact_sheet(
    sources: Mapping[str, PairSource | Sequence[Pair]],
    samples: int = 3,
    side: float = 1.8,
    truth: bool = False,
) -> Figure:
    """Plots low and high images of each set in a row, each scaled from its 0.5th to its 99.8th percentile.

    Args:
        sources: Sets by name; the names label the rows.
        samples: Number of pairs of each set.
        side: Side of an image in inches.
        truth: Whether to show the ground truth, which only simulated pairs have.

    Returns:
        Figure, to be saved with ``savefig``.
    """
    titles = ("low", "high", "truth") if truth else ("low", "high")
    columns = len(titles)
    layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    figure = Figure(figsize=(columns * samples * side, len(sources) * side + 0.2), layout=layout)
    axes = figure.subplots(len(sources), columns * samples, squeeze=False)
    for row, (name, source) in zip(axes, sources.items(), strict=True):
        row[0].set_ylabel(name, fontsize=8)
        pairs = [source[index] for index in range(samples)]
        for index, pair in enumerate(pairs):
            panels = row[columns * index : columns * (index + 1)]
            for axis, image in zip(panels, (pair.low, pair.high), strict=False):
                low, high = np.percentile(image, [0.5, 99.8])
                axis.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1), interpolation="nearest")
            if truth:
                plot_truth(panels[2], pair.extra["truth"], pair.low.shape)
        if pixel_size := pairs[-1].pixel_size:
            _scale_bar(row[0], pairs[-1].low.shape, pixel_size)
    for number, axis in enumerate(axes[0]):
        axis.set_title(titles[number % columns], fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


def _scale_bar(axis: Axes, shape: tuple[int, int], pixel_size: float) -> None:
    """Adds a bar of 1, 2, 5 or 10 µm and so on, about a fifth of the width."""
    longest = shape[1] * pixel_size / 4
    decade = 10.0 ** np.floor(np.log10(longest))
    length = decade * max(step for step in (1, 2, 5) if step * decade <= longest)
    end = shape[1] * 0.95
    axis.plot([end - length / pixel_size, end], [shape[0] * 0.95] * 2, color="white", linewidth=2)
    label = f"{length:g} µm"
    axis.text(end, shape[0] * 0.92, label, color="white", fontsize=6, ha="right", va="bottom")
