"""Counting nuclei beside brighter membranes: thin structures are removed, and blobs are searched for in the rest.

Nuclei that are hardly brighter than the cell around them, and the thin plates of mitotic cells, are missed in the best
of images: the row of the clean image says how many.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ddpm_lightning.readouts.puncta import blobs
from experiments.downstream.readout import Agreement, Measure, Readout, agreement

__all__ = ["NUCLEI", "judge_blobs"]

#: Distance within which a found and a true nucleus are the same, in pixels (2 µm, less than a radius).
TOLERANCE = 10.0


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
