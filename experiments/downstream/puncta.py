"""Finding synapses: maxima of the negative Laplacian of a Gaussian, each a punctum.

The two sides of a synapse lie 1.6 pixels apart in the simulated Airyscan images, which is less than their resolution:
what can be found is the synapse, and what can be measured is the distance from one to the next.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max

from experiments.downstream.readout import Agreement, Measure, Readout, agreement, nearest_neighbour

__all__ = ["PUNCTA", "judge_spots", "spots"]

#: Distance within which a found and a true synapse are the same, in pixels (190 nm).
TOLERANCE = 2.0
#: Strength of spots against which thresholds are measured: a percentile of all pixels.
STRONG = 99.5


def spots(image: np.ndarray, width: float, threshold: float) -> np.ndarray:
    """Finds spots.

    Args:
        image: Image with shape (H, W).
        width: Scale of the Gaussian in pixels.
        threshold: Least strength of a spot, as a fraction of the 99.5th percentile of the strengths of all pixels.

    Returns:
        Places with shape (N, 2), as (row, column).
    """
    strength = -ndimage.gaussian_laplace(image.astype(np.float64), width)
    least = threshold * np.percentile(strength, STRONG)
    return peak_local_max(strength, min_distance=1, threshold_abs=least, exclude_border=False).astype(float)


def judge_spots(
    found: np.ndarray, truth: Mapping[str, Any], pixel: float
) -> tuple[Agreement, dict[str, Measure]]:
    """Compares found with true synapses.

    Args:
        found: Places with shape (N, 2).
        truth: ``pairs`` with shape (M, 2, 2), both sides of each synapse, and ``orphans`` with shape (K, 2).
        pixel: Size of a pixel in µm.
    """
    there = np.concatenate([truth["pairs"].mean(axis=1).reshape(-1, 2), truth["orphans"].reshape(-1, 2)])
    return agreement(found, there, TOLERANCE), {
        "synapses": Measure(len(found), len(there)),
        "to the next (nm)": Measure(*(1000 * pixel * nearest_neighbour(p) for p in (found, there))),
    }


PUNCTA = Readout(
    spots,
    judge_spots,
    {"width": (0.8, 1.2, 1.6, 2.0), "threshold": (0.05, 0.1, 0.2, 0.3)},
    "synapses",
    f"F1 of synapses, within {TOLERANCE:g} pixels",
)
