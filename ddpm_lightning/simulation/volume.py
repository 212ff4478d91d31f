r"""Volumes: filaments, hollow bodies and spots in three dimensions, imaged plane by plane.

The point-spread function is a sum of two three-dimensional Gaussians: the focus, with widths across and along the
optical axis, and the light from out of focus, which is spread much wider and makes up a fraction of the light. Each has
an energy of its own, and both together an energy of 1: no light is lost between the planes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft

from ddpm_lightning.simulation.chains import at, scatter_along, worm_like_chains
from ddpm_lightning.simulation.optics import FWHM_PER_SIGMA
from ddpm_lightning.simulation.scene import log_uniform

__all__ = ["Psf3d", "Volume", "splat"]

#: Pixels across, and planes on each side, in which emitters contribute light to the field of view.
MARGIN = 8


@dataclass(frozen=True)
class Psf3d:
    """The point-spread function of a microscope with optical sectioning.

    Attributes:
        lateral: Full width at half maximum across the optical axis, in pixels.
        axial: The same along the axis, in planes.
        haze: Fraction of the light that is out of focus.
        haze_lateral: Width of that light across the axis, in pixels.
        haze_axial: Width of that light along the axis, in planes.
    """

    lateral: float = 3.0
    axial: float = 3.0
    haze: float = 0.3
    haze_lateral: float = 24.0
    haze_axial: float = 16.0

    def __call__(self, emitters: np.ndarray) -> np.ndarray:
        """Images emitters with shape (D, H, W) as :func:`splat` makes them; borders wrap around."""
        shape = emitters.shape
        depth, rows = fft.fftfreq(shape[0])[:, None, None], fft.fftfreq(shape[1])[:, None]
        columns = fft.rfftfreq(shape[2])
        # As for two dimensions (simulation.optics), the blur by the shares of points among voxels is divided out.
        shared = (np.sinc(depth) * np.sinc(rows) * np.sinc(columns)) ** 2

        def gaussian(lateral: float, axial: float) -> np.ndarray:
            across, along = lateral / FWHM_PER_SIGMA, axial / FWHM_PER_SIGMA
            return np.exp(-2 * np.pi**2 * (across**2 * (rows**2 + columns**2) + along**2 * depth**2))

        transfer = (1 - self.haze) * gaussian(self.lateral, self.axial)
        transfer += self.haze * gaussian(self.haze_lateral, self.haze_axial)
        spectrum = np.asarray(fft.rfftn(emitters)) * (transfer / shared)
        image = np.asarray(fft.irfftn(spectrum, shape))
        return np.maximum(image, 0, out=image)


def splat(points: np.ndarray, weights: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Accumulates points on a grid, each distributed over eight voxels with trilinear weights.

    Args:
        points: Positions with shape (N, 3), as (plane, row, column).
        weights: Light of each point with shape (N,).
        shape: Shape of the grid.
    """
    corner = np.floor(points)
    inside = np.all((corner >= 0) & (corner < np.array(shape) - 1), axis=1)
    fraction, corner, weights = (points - corner)[inside], corner[inside].astype(np.intp), weights[inside]
    grid = np.zeros(int(np.prod(shape)))
    for step in np.ndindex(2, 2, 2):
        share = np.prod(np.where(step, fraction, 1 - fraction), axis=1)
        index = np.ravel_multi_index(tuple((corner + step).T), shape)
        grid += np.bincount(index, weights * share, minlength=grid.size)
    return grid.reshape(shape)


@dataclass(frozen=True)
class Volume:
    """Ranges of the properties of random volumes; pixels and planes are the units of length.

    Attributes:
        planes: Number of planes.
        axial: Width of the focus along the optical axis, in planes: how many planes resemble each other.
        lateral: Width of the focus across the axis, in pixels.
        haze: Fraction of the light that is out of focus.
    """

    planes: int = 16
    axial: tuple[float, float] = (1.5, 8.0)
    lateral: tuple[float, float] = (2.5, 4.0)
    haze: tuple[float, float] = (0.1, 0.5)

    def __call__(
        self, rng: np.random.Generator, size: int, number: int = 0
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Generates a volume.

        Args:
            rng: Source of randomness.
            size: Side of the planes in pixels.
            number: Number of the volume; of no importance, because all are of the same kind.

        Returns:
            Light with shape (planes, size, size), about 1 at the brightest structures, and the truth: ``psf``, the
            settings of its point-spread function.
        """
        axial, lateral = float(log_uniform(rng, *self.axial)), float(rng.uniform(*self.lateral))
        psf = Psf3d(lateral, axial, float(rng.uniform(*self.haze)))
        margin = np.array([int(np.ceil(axial)) + 2, MARGIN, MARGIN])
        extent = np.array([self.planes, size, size]) + 2 * margin
        found = [_filaments(rng, extent), _hollow_bodies(rng, extent, axial / lateral), _spots(rng, extent)]
        points, weights = (np.concatenate(each) for each in zip(*found, strict=True))
        image = psf(splat(points, weights, tuple(extent.tolist())))
        inside = tuple(
            slice(edge, edge + side) for edge, side in zip(margin, (self.planes, size, size), strict=True)
        )
        light = image[inside]
        return light / max(float(np.percentile(light, 99.8)), 1e-9), {"psf": vars(psf)}


def _filaments(rng: np.random.Generator, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns points on filaments that rise and sink through the planes, and their light."""
    depth, side = int(extent[0]), float(extent[1])
    count = int(rng.integers(10, 40) * depth / 16) + 1
    starts, headings = rng.uniform(0, side, (count, 2)), rng.uniform(0, 2 * np.pi, count)
    chains = worm_like_chains(rng, starts, headings, 1.2 * side, 1.0, float(log_uniform(rng, 40, 400)))
    owner, along = scatter_along(rng, np.full((count, chains.shape[1] - 1), 3.0))
    level = rng.uniform(0, depth, count)
    height = level[owner] + rng.normal(0, 0.06, count)[owner] * along
    points = np.column_stack([height, at(chains, owner, along)])
    return points, rng.lognormal(0, 0.4, count)[owner] * rng.standard_gamma(3.0, len(owner)) / 3


def _hollow_bodies(
    rng: np.random.Generator, extent: np.ndarray, planes_per_pixel: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns points on the surfaces of ellipsoids, such as nuclei and vesicles, and their light."""
    points, weights = [np.empty((0, 3))], [np.empty(0)]
    for _ in range(int(rng.integers(0, 9))):
        radius = float(log_uniform(rng, 4, 20))
        number = int(8 * radius**2)
        normal = rng.normal(size=(number, 3))
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        axes = radius * np.array([min(planes_per_pixel, 1.0), 1, 1]) * rng.uniform(0.7, 1.3, 3)
        points.append(rng.uniform(0, extent) + normal * axes)
        weights.append(np.full(number, rng.lognormal(0, 0.5) * 0.5))
    return np.concatenate(points), np.concatenate(weights)


def _spots(rng: np.random.Generator, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns small spots and their light."""
    count = rng.poisson(float(log_uniform(rng, 1e-4, 1.5e-3)) * float(np.prod(extent)))
    return rng.uniform(0, extent, (count, 3)), 15 * rng.lognormal(0, 0.6, count)
