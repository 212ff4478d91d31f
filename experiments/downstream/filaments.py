"""Traced filaments and their directions, compared with true ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.feature import structure_tensor

from ddpm_lightning.readouts.filaments import length_of, trace
from experiments.downstream.readout import Agreement, Measure, Readout

__all__ = ["FILAMENTS", "Traced", "find", "judge_traced"]

#: Distance within which found and true lines are the same, in pixels: about the resolution of the microscope.
TOLERANCE = 3.0
#: Scale in pixels on which directions are measured.
DIRECTION_SCALE = 3.0


@dataclass(frozen=True)
class Traced:
    """Filaments that were found.

    Attributes:
        skeleton: Their pixels with shape (H, W).
        direction: Direction of the line at each of these pixels in radians from the axis of rows, modulo π, with shape
            (N,).
    """

    skeleton: np.ndarray
    direction: np.ndarray


def find(image: np.ndarray, width: float, threshold: float) -> Traced:
    """Traces filaments; for the arguments see :func:`ddpm_lightning.readouts.filaments.trace`."""
    skeleton = trace(image, width, threshold)
    rows, mixed, columns = structure_tensor(image.astype(np.float64), sigma=DIRECTION_SCALE, order="rc")
    # The gradient is perpendicular to the line.
    across = 0.5 * np.arctan2(2 * mixed, rows - columns)
    return Traced(skeleton, (across[skeleton] + np.pi / 2) % np.pi)


def judge_traced(
    found: Traced, truth: Mapping[str, Any], pixel: float
) -> tuple[Agreement, dict[str, Measure]]:
    """Compares traced with true filaments.

    Filaments out of focus need not be found, and do not count as invented if they are.

    Args:
        found: The filaments.
        truth: ``centre_lines``, each with shape (N, 2) in pixels, and their ``focus``.
        pixel: Size of a pixel in µm.
    """
    lines = truth["centre_lines"]
    sharp = [line for line, focus in zip(lines, truth["focus"], strict=True) if focus]
    shape = found.skeleton.shape
    to_any, direction = _near(lines, shape)
    to_found = _distance(found.skeleton)
    places = _rasterised(sharp, shape)
    near = to_any[found.skeleton] <= TOLERANCE
    tta = np.abs((found.direction - direction[found.skeleton] + np.pi / 2) % np.pi - np.pi / 2)[near]
    contour = sum(float(np.hypot(*np.diff(line, axis=0).T).sum()) for line in sharp)
    measures = {
        "length (µm)": Measure(length_of(found.skeleton) * pixel, contour * pixel),
        "angle to the true filament (°)": Measure(
            float(np.degrees(tta.mean())) if near.any() else np.nan, 0.0
        ),
    }
    return Agreement(
        float(near.mean()) if len(near) else float("nan"),
        float((to_found[places] <= TOLERANCE).mean()) if places.any() else float("nan"),
    ), measures


def _dense(line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns points of a line four times per pixel, with shape (N, 2), and the direction at each, with shape (N,)."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    along = np.concatenate([[0], np.cumsum(steps)])
    fine = np.linspace(0, along[-1], max(2, int(4 * along[-1])))
    points = np.stack([np.interp(fine, along, line[:, axis]) for axis in (0, 1)], axis=1)
    moves = np.diff(line, axis=0)[np.clip(np.searchsorted(along, fine, side="right") - 1, 0, len(steps) - 1)]
    return points, np.arctan2(moves[:, 1], moves[:, 0]) % np.pi


def _rasterised(lines: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    hit = np.zeros(shape, bool)
    for line in lines:
        hit[tuple(_pixels(_dense(line)[0], shape))] = True
    return hit


def _pixels(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.clip(np.rint(points).astype(int), 0, np.subtract(shape, 1)).T


def _near(lines: Sequence[np.ndarray], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns distance and direction of the nearest line at every pixel, both with shape (H, W)."""
    hit, direction = np.zeros(shape, bool), np.zeros(shape)
    for line in lines:
        points, angles = _dense(line)
        place = tuple(_pixels(points, shape))
        hit[place], direction[place] = True, angles
    if not hit.any():
        return np.full(shape, np.inf), direction
    distance, nearest = ndimage.distance_transform_edt(~hit, return_indices=True)
    return distance, direction[tuple(nearest)]


def _distance(mask: np.ndarray) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)


FILAMENTS = Readout(
    find,
    judge_traced,
    {"width": (1.0, 1.5, 2.0, 2.5), "threshold": (0.4, 0.7, 1.0)},
    "length (µm)",
    f"F1 of the traced lines, within {TOLERANCE:g} pixels",
)
