"""Plots selected images as soon as they are scored, so that none has to be kept or restored again."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ddpm_lightning.evaluation.image_scores import ImageScores, granted
from ddpm_lightning.evaluation.restored_pair import Restored
from ddpm_lightning.inference.panels import panel
from ddpm_lightning.reporting.viewer_images import ViewerImages, write_viewer_images
from ddpm_lightning.reporting.zoom import Zoom, zoom_in

__all__ = ["SelectedPanels"]


@dataclass
class SelectedPanels:
    """Plots images at regular intervals of the split, and keeps the place where samples disagree most.

    Attributes:
        folder: Folder of the figures.
        title: Name of the data set.
        wanted: Number of images to plot; nothing is plotted or kept for 0.
        count: Number of images of the split.
        panels: Index and file of each plotted image.
        zoom: The place where samples disagree most, among the images so far.
        viewer_images: Index and viewer images of each plotted image.
    """

    folder: Path
    title: str
    wanted: int
    count: int
    panels: list[tuple[int, str]] = field(default_factory=list)
    zoom: Zoom | None = None
    viewer_images: list[tuple[int, ViewerImages]] = field(default_factory=list)

    def add(self, restored: Restored, scores: ImageScores) -> None:
        """Plots an image if it is selected, and compares its largest disagreement with that of the images so far."""
        if not self.wanted:
            return
        pair = restored.pair
        if restored.samples > 1:
            zoom = zoom_in(
                pair.name,
                pair.low,
                restored.shown,
                restored.average,
                restored.std,
                restored.high,
                pair.pixel_size,
            )
            self.zoom = _larger([self.zoom, zoom])
        places = np.linspace(0, self.count - 1, min(self.wanted, self.count)).round().astype(int)
        if scores.index not in places:
            return
        # Shown as scored, with the gain and offset that the protocol fits. All images have the same fit, since maps on
        # different scales could not be compared.
        gain, offset = granted(scores.rows)
        average = gain * restored.average + offset
        images = {
            "low": pair.low,
            "single": gain * restored.single + offset,
            "average": average,
            "target": restored.high,
            "error": np.abs(average - restored.high),
            "std": abs(gain) * restored.std,
        }
        psnr = {row.estimator: row.values["psnr"] for row in scores.rows if "psnr" in row.values}
        captions = {name: f"PSNR {value:.2f} dB" for name, value in psnr.items()}
        captions["low"] = captions.pop("raw", "")
        shown = dict(images)
        if restored.samples == 1:
            # A single sample has no standard deviation, and a map of zeros would look like certainty.
            del shown["single"], shown["average"], shown["std"]
            shown = {"low": shown["low"], "restored": average, **shown}
            captions["restored"] = captions.pop("average", "")
        name = f"image_{pair.name}.png"
        title = f"{self.title} {pair.name}, protocol {scores.rows[0].facts['protocol']}"
        panel([shown], self.folder / name, [captions], pair.pixel_size, title)
        self.panels.append((scores.index, name))
        del images["error"]
        self.viewer_images.append(
            (scores.index, write_viewer_images(images, pair.name, pair.pixel_size, self.folder.parent))
        )

    def merge(self, others: Iterable["SelectedPanels"]) -> None:
        """Adds the panels of other processes."""
        for other in others:
            self.panels = sorted({*self.panels, *other.panels})
            # Indices are unique, and this process is among the others.
            self.viewer_images = sorted(dict([*self.viewer_images, *other.viewer_images]).items())
            self.zoom = _larger([self.zoom, other.zoom])


def _larger(zooms: Iterable[Zoom | None]) -> Zoom | None:
    known = [zoom for zoom in zooms if zoom is not None]
    # Ties are broken by name, so that the result does not depend on the order of the images.
    return max(known, key=lambda zoom: (zoom.mean_std, zoom.image), default=None)
