"""The scene that the optics image: a map of emitters, and the ground truth.

Geometry is in continuous pixel coordinates (row, column); the centre of pixel (i, j) is at (i, j). The field of view is
``[0, size)`` along both axes. Emitters outside it still contribute light, so the map has a margin on every side, which
is cropped after the optics.
"""

from dataclasses import dataclass, field
from functools import reduce
from typing import Any, cast, overload

import numpy as np
from scipy import ndimage

# Standard deviation of a plane interpolated from normal numbers by cubic B-splines B, averaged over the plane:
# the mean of sum_k B(x - k)^2 over x is 151 / 315 along each axis.
SPLINE_DEVIATION = 151 / 315


@dataclass(frozen=True)
class Canvas:
    """The square grid of a scene.

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

    @overload
    def pixels(self, micrometres: np.ndarray) -> np.ndarray: ...
    @overload
    def pixels(self, micrometres: float) -> float: ...
    def pixels(self, micrometres: np.ndarray | float) -> np.ndarray | float:
        """Converts lengths in µm to pixels."""
        return np.multiply(micrometres, 1000 / self.pixel)

    def splat(self, points: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
        """Accumulates points on the grid, each distributed over four pixels with bilinear weights.

        Args:
            points: Positions in pixels of the field of view with shape (N, 2), as (row, column).
            weights: Light of each point with shape (N,) or ().

        Returns:
            Map with shape (S, S), S = size + 2 margin; its sum is that of the weights inside it.
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
        """Crops a map with margins to the field of view."""
        inner = slice(self.margin, self.margin + self.size)
        return image[inner, inner]


@dataclass(frozen=True)
class Scene:
    """Emitters and the ground truth.

    Attributes:
        emitters: Light emitted per pixel in arbitrary units with shape (S, S), margins included.
        haze: Smooth light that the optics do not change, relative to the peak of the image, with shape (S, S) or ().
        truth: Geometry in pixels of the field of view: arrays, or lists of arrays of different lengths.
        parameters: Random parameters, by name.
    """

    emitters: np.ndarray
    haze: np.ndarray | float
    truth: dict[str, np.ndarray | list[np.ndarray]]
    parameters: dict[str, Any] = field(default_factory=dict)


def log_uniform(rng: np.random.Generator, low: float, high: float, size: int | None = None) -> Any:
    """Samples numbers with a uniformly distributed logarithm."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def smooth_field(rng: np.random.Generator, side: int, correlation: float) -> np.ndarray:
    """Samples a smooth Gaussian random field of mean about 0 and variance about 1.

    Normal numbers on a grid as coarse as the correlation length are interpolated by cubic splines, which is much faster
    than filtering the full grid.

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
    rows = reduce(np.add, (weights[:, k, None] * grid[knots + k] for k in range(4)))
    return reduce(np.add, (weights[:, k] * rows[:, knots + k] for k in range(4))) / SPLINE_DEVIATION


def _spline_weights(fraction: np.ndarray) -> np.ndarray:
    """Returns cubic B-spline weights of the knots at -1, 0, 1 and 2 for positions in [0, 1), with shape (P, 4)."""
    distance = np.abs(fraction[:, None] - np.array([-1, 0, 1, 2]))
    return np.where(distance < 1, 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6)


def disc_mask(points: np.ndarray, size: int, radius: float) -> np.ndarray:
    """Returns a mask (size, size) of the pixels within ``radius`` pixels of any of the points (N, 2)."""
    hit = np.zeros((size, size), bool)
    rows, columns = np.clip(np.rint(points).astype(int), 0, size - 1).T
    hit[rows, columns] = True
    return cast("np.ndarray", ndimage.distance_transform_edt(~hit)) <= radius if len(points) else hit
