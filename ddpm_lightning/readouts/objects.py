"""Objects: what is brighter than a threshold in a smoothed image, holes filled, specks removed."""

import numpy as np
from scipy import ndimage

from ddpm_lightning.readouts.connected import label, without_specks
from ddpm_lightning.readouts.thresholds import level_of
from ddpm_lightning.utils.settings import Count, NonNegative

__all__ = ["objects", "segment"]

#: Standard deviation of the Gaussian in pixels, and the fewest pixels of an object.
SMOOTHING, SMALLEST = 1.0, 30


def segment(
    image: np.ndarray,
    smoothing: float = SMOOTHING,
    threshold: float = 1.0,
    level: float | None = None,
    smallest: int = SMALLEST,
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the mask of the objects of an image.

    Args:
        image: Image with shape (H, W).
        smoothing: Standard deviation of the Gaussian in pixels.
        threshold: Height of the threshold between background (5th percentile) and Otsu's threshold, 1 for the latter.
        level: The threshold itself, in units of the image; it takes precedence.
        smallest: Fewest pixels of objects and of holes that are not filled.
        reference: Image that ``threshold`` is taken from; by default the image itself.

    Returns:
        Mask with shape (H, W).
    """
    smooth = np.asarray(ndimage.gaussian_filter(image.astype(np.float64), smoothing))
    if level is None:
        seen = smooth if reference is None else np.asarray(ndimage.gaussian_filter(reference, smoothing))
        level = level_of(seen, threshold)
    return without_specks(~without_specks(smooth <= level, smallest), smallest)


def objects(
    image: np.ndarray,
    pixel_size: float = 1.0,
    *,
    smoothing: NonNegative = SMOOTHING,
    threshold: NonNegative = 1.0,
    level: float | None = None,
    smallest: Count = SMALLEST,
    reference: np.ndarray | None = None,
) -> dict[str, float]:
    """Counts objects and measures their area; for the arguments see :func:`segment`.

    Returns:
        ``objects``, their number; ``area`` of all objects together, and ``object_area``, its mean over objects, NaN
        without any, both in squared units of ``pixel_size``.
    """
    mask = segment(image, smoothing, threshold, level, smallest, reference)
    number, total = label(mask)[1], float(mask.sum()) * pixel_size**2
    return {"objects": number, "area": total, "object_area": total / number if number else float("nan")}
