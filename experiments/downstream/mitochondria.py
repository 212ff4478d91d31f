"""Segmenting mitochondria: what is brighter than a threshold once it is smoothed, holes filled.

Their number, and the lengths of the branches of their network, are taken from found and from true areas by the same
functions.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import skeletonize

from experiments.downstream.filaments import length_of
from experiments.downstream.readout import Agreement, Measure, Readout

__all__ = ["MITOCHONDRIA", "branches", "judge_areas", "segment"]

#: Objects and holes of fewer pixels are specks (0.06 µm²), objects at most as wide as a tube is thick.
SMALLEST = 150
#: Branches of fewer pixels are spurs of the thinning.
SHORTEST = 10
EVERYWHERE = np.ones((3, 3), bool)


def segment(image: np.ndarray, smoothing: float, threshold: float) -> np.ndarray:
    """Segments mitochondria.

    Args:
        image: Image with shape (H, W).
        smoothing: Standard deviation of the Gaussian in pixels; tubes are hollow, and it closes them.
        threshold: Height of the threshold between background and Otsu's threshold, 1 for the latter.

    Returns:
        Mask with shape (H, W).
    """
    smooth = ndimage.gaussian_filter(image.astype(np.float64), smoothing)
    if np.ptp(smooth) == 0:
        return np.zeros(image.shape, bool)
    dark = np.percentile(smooth, 5)
    mask = smooth > dark + threshold * (threshold_otsu(smooth) - dark)
    return _without_specks(~_without_specks(~mask))


def _without_specks(mask: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    large = np.bincount(labels.ravel()) >= SMALLEST
    large[0] = False
    return large[labels]


def branches(mask: np.ndarray) -> np.ndarray:
    """Returns the lengths in pixels of the stretches between ends and junctions of the skeleton of a mask."""
    skeleton = skeletonize(mask)
    around = ndimage.convolve(skeleton.astype(int), EVERYWHERE.astype(int), mode="constant") - 1
    junctions = ndimage.binary_dilation(skeleton & (around > 2), EVERYWHERE)
    labels, count = ndimage.label(skeleton & ~junctions, EVERYWHERE)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    kept = [number for number in range(1, count + 1) if sizes[number] >= SHORTEST]
    return np.array([length_of(labels == number) for number in kept])


def judge_areas(
    found: np.ndarray, truth: Mapping[str, Any], pixel: float
) -> tuple[Agreement, dict[str, Measure]]:
    """Compares found with true areas.

    Args:
        found: Mask with shape (H, W).
        truth: ``mask`` with shape (H, W).
        pixel: Size of a pixel in µm.
    """
    there = _without_specks(truth["mask"])
    both = float((found & there).sum())
    numbers, lengths = [], []
    for mask in (found, there):
        of_mask = branches(mask)
        numbers.append(float(ndimage.label(mask)[1]))
        lengths.append(float(of_mask.mean()) * pixel if len(of_mask) else float("nan"))
    areas = (float(mask.mean()) * mask.size * pixel**2 for mask in (found, there))
    return Agreement(
        both / found.sum() if found.any() else float("nan"),
        both / there.sum() if there.any() else float("nan"),
    ), {
        "area (µm²)": Measure(*areas),
        "mitochondria": Measure(*numbers),
        "length of a branch (µm)": Measure(*lengths),
    }


MITOCHONDRIA = Readout(
    segment,
    judge_areas,
    {"smoothing": (1.0, 1.5, 2.0, 3.0), "threshold": (0.7, 1.0, 1.2, 1.4)},
    "area (µm²)",
    "Dice's coefficient of the area",
)
