"""The part of an image where its samples disagree most."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter

from ddpm_lightning.inference.panels import panel

__all__ = ["Zoom", "plot_zoom", "zoom_in"]

#: Side in pixels of the part of an image that a zoom shows, and of the window whose mean standard deviation finds it.
ZOOM, WINDOW = 64, 15


@dataclass(frozen=True)
class Zoom:
    """The part of an image where its samples disagree most.

    Attributes:
        image: Name of the image.
        mean_std: Mean standard deviation in the window that was found, relative to the range of the target.
        corner: First row and column of the part.
        versions: Parts with shape (h, w) by title, in order.
        pixel_size: Size of a pixel in µm, or ``None``.
    """

    image: str
    mean_std: float
    corner: tuple[int, int]
    versions: dict[str, np.ndarray]
    pixel_size: float | None


def zoom_in(
    image: str,
    low: np.ndarray,
    samples: Sequence[np.ndarray],
    average: np.ndarray,
    std: np.ndarray,
    target: np.ndarray,
    pixel_size: float | None = None,
) -> Zoom:
    """Finds the part of an image where its samples disagree most.

    Args:
        image: Name of the image.
        low: Low image with shape (H, W), as all that follow.
        samples: Some of the samples.
        average: Mean of all samples.
        std: Standard deviation over all samples.
        target: Clean image.
        pixel_size: Size of a pixel in µm.
    """
    local = uniform_filter(std.astype(np.float64), WINDOW, mode="nearest")
    center = np.unravel_index(local.argmax(), local.shape)
    top, left = (
        int(np.clip(c - ZOOM // 2, 0, max(s - ZOOM, 0))) for c, s in zip(center, std.shape, strict=True)
    )
    part = np.s_[top : top + ZOOM, left : left + ZOOM]
    named = {"low": low, **{f"sample {k + 1}": sample for k, sample in enumerate(samples)}}
    named |= {"average": average, "target": target, "error": np.abs(average - target), "std": std}
    mean_std = float(local.max()) / max(float(np.ptp(target)), 1e-12)
    return Zoom(
        image, mean_std, (top, left), {name: version[part] for name, version in named.items()}, pixel_size
    )


def plot_zoom(zoom: Zoom, path: Path) -> None:
    """Plots the part of an image where its samples disagree most."""
    title = f"image {zoom.image}, from row {zoom.corner[0]}, column {zoom.corner[1]}: where the samples disagree most"
    panel([zoom.versions], path, pixel_size=zoom.pixel_size, title=title)
