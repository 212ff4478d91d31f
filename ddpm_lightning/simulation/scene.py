"""What a structure hands on to the optics: a map of emitters, and the truth that it was made from.

Geometry lives in continuous pixel coordinates (row, column) in which pixel (i, j) is centred at (i, j). The
field of view is ``[0, size)`` in both axes. Emitters outside of it still throw light into it, so the map
carries a margin on every side that the optics crop away again.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

# Standard deviation of a plane that cubic B-splines B make of normal numbers, averaged over the place:
# the mean of sum_k B(x - k)^2 over x is 151 / 315 on each axis.
SPLINE_DEVIATION = 151 / 315


@dataclass(frozen=True)
class Canvas:
    """The square grid that a structure is drawn on.

    Attributes:
        size: Side of the field of view in pixels.
        pixel: Size of a pixel in nm.
        margin: Pixels added on every side.
    """

    size: int
    pixel: float
    margin: int

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the emitter map, margins included."""
        side = self.size + 2 * self.margin
        return side, side

    @property
    def extent(self) -> float:
        """Side of the field of view in µm."""
        return self.size * self.pixel / 1000

    def pixels(self, micrometres: np.ndarray | float) -> np.ndarray | float:
        """Turns lengths in µm into pixels."""
        return np.multiply(micrometres, 1000 / self.pixel)

    def splat(self, points: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
        """Accumulates points on the grid, each shared by its four neighbours with bilinear weights.

        Args:
            points: Positions in pixels of the field of view with shape (N, 2), as (row, column).
            weights: Light of each point with shape (N,) or ().

        Returns:
            Map with shape (S, S), S = size + 2 margin; its sum is that of the weights that fell on it.
        """
        side = self.size + 2 * self.margin
        points = np.asarray(points) + self.margin
        corner = np.floor(points)
        inside = np.all((corner >= 0) & (corner < side - 1), axis=1)
        points, corner = points[inside], corner[inside]
        weights = np.broadcast_to(weights, inside.shape)[inside]
        fraction = points - corner
        index = corner[:, 0].astype(np.intp) * side + corner[:, 1].astype(np.intp)
        down, right = fraction[:, 0], fraction[:, 1]
        lower, upper = weights * down, weights * (1 - down)
        index = np.concatenate([index, index + 1, index + side, index + side + 1])
        shares = np.concatenate([upper * (1 - right), upper * right, lower * (1 - right), lower * right])
        return np.bincount(index, shares, minlength=side * side).reshape(side, side)

    def crop(self, image: np.ndarray) -> np.ndarray:
        """Cuts the field of view out of a map with margins."""
        inner = slice(self.margin, self.margin + self.size)
        return image[inner, inner]


@dataclass(frozen=True)
class Scene:
    """Emitters and the truth behind them.

    Attributes:
        emitters: Light emitted per pixel in arbitrary units with shape (S, S), margins included.
        haze: Smooth light that the optics leave as it is, relative to the peak of the image, with shape (S,
            S) or ().
        truth: Geometry in pixels of the field of view: arrays, or lists of arrays of different lengths.
        parameters: Drawn numbers, by name.
    """

    emitters: np.ndarray
    haze: np.ndarray | float
    truth: dict[str, np.ndarray | list[np.ndarray]]
    parameters: dict[str, Any] = field(default_factory=dict)


def log_uniform(rng: np.random.Generator, low: float, high: float, size: int | None = None) -> Any:
    """Samples numbers whose logarithm is uniform between those of ``low`` and ``high``."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def smooth_field(rng: np.random.Generator, side: int, correlation: float) -> np.ndarray:
    """Draws a smooth Gaussian random field of mean about 0 and variance about 1.

    Normal numbers on a grid as coarse as the correlation length are interpolated by cubic splines, which
    costs a fraction of filtering the full grid.

    Args:
        rng: Source of randomness.
        side: Side of the square field in pixels.
        correlation: Correlation length in pixels.
    """
    coarse = int(np.ceil(side / correlation)) + 3
    grid = rng.standard_normal((coarse, coarse))
    positions = np.arange(side) / correlation
    knots = positions.astype(np.intp)
    weights = _spline_weights(positions - knots)
    rows = sum(weights[:, k, None] * grid[knots + k] for k in range(4))
    return sum(weights[:, k] * rows[:, knots + k] for k in range(4)) / SPLINE_DEVIATION


def _spline_weights(fraction: np.ndarray) -> np.ndarray:
    """Cubic B-spline weights, with shape (P, 4), of the knots at -1, 0, 1 and 2 for places in [0, 1)."""
    distance = np.abs(fraction[:, None] - np.array([-1, 0, 1, 2]))
    return np.where(distance < 1, 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6)


def disc_mask(points: np.ndarray, size: int, radius: float) -> np.ndarray:
    """Marks the pixels within ``radius`` pixels of any of some points (N, 2), with shape (size, size)."""
    hit = np.zeros((size, size), bool)
    rows, columns = np.clip(np.rint(points).astype(int), 0, size - 1).T
    hit[rows, columns] = True
    return ndimage.distance_transform_edt(~hit) <= radius if len(points) else hit
