"""Finding synapses: maxima of the negative Laplacian of a Gaussian, each a punctum.

The two sides of a synapse lie 1.6 pixels apart in the simulated Airyscan images, which is less than their resolution:
what can be found is the synapse, and what can be measured is the distance from one to the next.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ddpm_lightning.readouts.puncta import nearest_neighbour, spots
from experiments.downstream.readout import Agreement, Measure, Readout, agreement

__all__ = ["PUNCTA", "judge_spots"]

#: Distance within which a found and a true synapse are the same, in pixels (190 nm).
TOLERANCE = 2.0


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
