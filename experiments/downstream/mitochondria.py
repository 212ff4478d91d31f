"""Segmenting mitochondria: what is brighter than a threshold once it is smoothed, holes filled.

Their number, and the lengths of the branches of their network, are taken from found and from true areas by the same
functions.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from ddpm_lightning.readouts.connected import without_specks
from ddpm_lightning.readouts.filaments import branches_of, length_of
from ddpm_lightning.readouts.objects import segment
from experiments.downstream.readout import Agreement, Measure, Readout

__all__ = ["MITOCHONDRIA", "branches", "find", "judge_areas"]

#: Objects and holes of fewer pixels are specks (0.06 µm²), objects at most as wide as a tube is thick.
SMALLEST = 150
#: Branches of fewer pixels are spurs of the thinning.
SHORTEST = 10
EVERYWHERE = np.ones((3, 3), bool)


def find(image: np.ndarray, smoothing: float, threshold: float) -> np.ndarray:
    """Segments mitochondria; for the arguments see :func:`ddpm_lightning.readouts.objects.segment`.

    Tubes are hollow, and smoothing closes them.
    """
    return segment(image, smoothing, threshold, smallest=SMALLEST)


def branches(mask: np.ndarray) -> np.ndarray:
    """Returns the lengths in pixels of the stretches between ends and junctions of the skeleton of a mask."""
    skeleton = skeletonize(mask)
    labels, count = ndimage.label(branches_of(skeleton)[1], EVERYWHERE)
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
    there = without_specks(truth["mask"], SMALLEST)
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
    find,
    judge_areas,
    {"smoothing": (1.0, 1.5, 2.0, 3.0), "threshold": (0.7, 1.0, 1.2, 1.4)},
    "area (µm²)",
    "Dice's coefficient of the area",
)
