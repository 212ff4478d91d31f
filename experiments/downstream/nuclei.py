"""Counting nuclei beside brighter membranes: thin structures are removed, and blobs are searched for in the rest.

Nuclei that are hardly brighter than the cell around them, and the thin plates of mitotic cells, are missed in the best
of images: the row of the clean image says how many.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.morphology import disk, opening

from experiments.downstream.readout import Agreement, Measure, Readout, agreement

__all__ = ["NUCLEI", "blobs", "judge_blobs"]

#: Distance within which a found and a true nucleus are the same, in pixels (2 µm, less than a radius).
TOLERANCE = 10.0
#: Radius in pixels of what is thin: a wall of 0.4 µm under a resolution of 0.45 µm.
THIN = 4
#: Scale in pixels on which noise is smoothed first.
SMOOTHING = 1.5
#: Scale of the surroundings of a nucleus, in those of the nucleus.
AROUND = 2.5


def blobs(image: np.ndarray, width: float, walls: float, threshold: float) -> np.ndarray:
    """Finds nuclei.

    Args:
        image: Image with shape (H, W).
        width: Scale of a nucleus in pixels, about half of its radius.
        walls: Height from which what is thin is a wall, in units of Otsu's threshold of these heights.
        threshold: Least brightness of a nucleus above its surroundings, as a fraction of the contrast of the image.

    Returns:
        Places with shape (N, 2), as (row, column).
    """
    smooth = ndimage.gaussian_filter(image.astype(np.float64), SMOOTHING)
    dark, bright = np.percentile(smooth, (2, 98))
    if bright <= dark:
        return np.empty((0, 2))
    thick = opening(smooth, disk(THIN))
    thin = smooth - thick
    kept = ~ndimage.binary_dilation(thin > walls * threshold_otsu(thin), iterations=2)

    def mean(scale: float) -> np.ndarray:
        # Of what is no wall alone: else each wall would darken the cells beside it.
        weight = ndimage.gaussian_filter(kept.astype(np.float64), scale)
        return ndimage.gaussian_filter(thick * kept, scale) / np.maximum(weight, 1e-3)

    above = np.where(kept, mean(width) - mean(AROUND * width), 0.0)
    least = threshold * (bright - dark)
    distance = int(1.2 * width)
    found = peak_local_max(above, min_distance=distance, threshold_abs=least, exclude_border=False)
    return found.astype(float)


def judge_blobs(
    found: np.ndarray, truth: Mapping[str, Any], pixel: float
) -> tuple[Agreement, dict[str, Measure]]:
    """Compares found with true nuclei.

    Args:
        found: Places with shape (N, 2).
        truth: ``centres`` of the labelled cells with shape (M, 2).
        pixel: Size of a pixel in µm.
    """
    return agreement(found, truth["centres"], TOLERANCE), {
        "nuclei": Measure(len(found), len(truth["centres"]))
    }


NUCLEI = Readout(
    blobs,
    judge_blobs,
    {"width": (5.0, 6.0, 8.0), "walls": (0.5, 0.8), "threshold": (0.02, 0.03, 0.05, 0.08)},
    "nuclei",
    f"F1 of nuclei, within {TOLERANCE:g} pixels",
)
