"""Files on which the checks of a restoration are chosen and tested: real pairs, and clean images with added noise.

Each case belongs to one of two halves with different images: thresholds are chosen on ``choice`` and reported on
``report``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage, optimize, spatial

from ddpm_lightning.datasets.simulated_denoising import RandomMicroscopePairs
from ddpm_lightning.io.stacks import open_stack
from experiments import common

__all__ = ["CORRELATIONS", "HALVES", "MECHANISMS", "STRENGTHS", "Case", "clean_images", "noisy", "real_cases"]

HALVES = ("choice", "report")
SIDE = 256
MECHANISMS = ("gaussian", "shift", "zoom", "mosaic")
#: Correlation of the noise of neighbouring pixels.
CORRELATIONS = (0.0, 0.2, 0.4, 0.6)
#: Standard deviation of the noise at the mean intensity, relative to the range of the clean image.
STRENGTHS = (0.05, 0.12, 0.3)
#: Correlation of neighbours in one colour of a mosaic of 2 x 2 filters, one of which has this colour, after bilinear
#: interpolation: the variance is 9/16 of the raw one on average, the covariance of neighbours 3/8.
MOSAIC = 2 / 3
SPECIMENS = ("microtubules", "mitochondria", "synapses", "zebrafish")


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        set: Where it comes from.
        half: ``choice`` or ``report``.
        image: Its name.
        low: Noisy image with shape (H, W), in intensities.
        high: Clean image with shape (H, W).
    """

    set: str
    half: str
    image: str
    low: np.ndarray
    high: np.ndarray


def real_cases(name: str, folder: Path, images: int) -> Iterator[Case]:
    """Yields crops of the real pairs of a folder: those of ``train`` to choose, the others to report."""
    for split in ("train", "val", "test"):
        if not (folder / split).is_dir():
            continue
        for pair in common.evenly_spaced(common.real(folder, split), images):
            half = "choice" if split == "train" else "report"
            for number, low, high in crops(pair.low, pair.high):
                yield Case(name, half, f"{split}/{pair.name}/{number}", low, high)


def simulated_cases(images: int) -> Iterator[Case]:
    """Yields validation and test pairs of ``simulated_denoising``."""
    for half, split in zip(HALVES, ("val", "test"), strict=True):
        source = RandomMicroscopePairs(SPECIMENS, split, images, SIDE)
        for pair in (source[index] for index in range(images)):
            yield Case("simulated_denoising", half, pair.name, pair.low, pair.high)


def crops(*images: np.ndarray) -> Iterator[tuple[int, ...]]:
    """Yields a number and a crop of each image: two on the diagonal of large images, the middle of others."""
    height, width = images[0].shape
    corners = [((height - SIDE) // 2, (width - SIDE) // 2)]
    if min(height, width) >= 2 * SIDE:
        corners = [(0, 0), (height - SIDE, width - SIDE)]
    for number, (top, left) in enumerate(corners):
        top, left = max(top, 0), max(left, 0)
        yield number, *(image[top : top + SIDE, left : left + SIDE] for image in images)


def clean_images(folder: Path | None) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields half, name and pixels of clean images: crops of real ones, and simulated ones of untrained kinds."""
    for half, seed in zip(HALVES, (0, 1), strict=True):
        for path in sorted(folder.glob("high/*.tif"))[seed::2] if folder else ():
            with open_stack(path) as stack:
                plane = np.asarray(stack.plane(0), float)
            for number, crop in crops(plane):
                yield half, f"{path.stem}/{number}", crop
        for kind in (puncta, membranes, discs, fibres):
            yield half, kind.__name__, 200 * kind(np.random.default_rng([seed, 7]))


def noisy(clean: np.ndarray, mechanism: str, correlation: float, strength: float, seed: int) -> np.ndarray:
    """Returns a clean image with noise that grows with intensity, of one mechanism, correlation and strength."""
    rng = np.random.default_rng(seed)
    dark, bright = np.percentile(clean, (0.2, 99.8))
    level = np.clip((clean - dark) / (bright - dark), 0, None)
    std = strength * (bright - dark) * np.sqrt(0.25 + 0.75 * level / level.mean())
    return np.round(100 + 10 * (clean + std * correlated(rng, clean.shape, mechanism, correlation)))


def correlated(
    rng: np.random.Generator, shape: tuple[int, int], mechanism: str, correlation: float
) -> np.ndarray:
    """Returns noise of variance 1 whose neighbours correlate by so much on average."""
    height, width = shape
    white = rng.normal(size=(height + 32, width + 32))
    if correlation == 0:
        noise = white
    elif mechanism == "gaussian":
        noise = ndimage.gaussian_filter(white, _sigma(correlation), mode="wrap")
    elif mechanism == "shift":  # by a drift correction; beyond 0.5 it takes two
        times = 1 if correlation <= 0.5 else 2
        kernel = _shift(correlation, times)
        noise = ndimage.convolve1d(ndimage.convolve1d(white, kernel, 0, mode="wrap"), kernel, 1, mode="wrap")
    elif mechanism == "zoom":
        step = optimize.brentq(lambda s: _spline(s) / _spline(0) - correlation, 0.1, 1.9)
        grid = np.meshgrid(*(step * np.arange(n) for n in shape), indexing="ij")
        source = rng.normal(size=[int(step * n) + 3 for n in shape])
        return _unit(ndimage.map_coordinates(source, grid, order=1))
    else:
        red = np.zeros_like(white)
        red[::2, ::2] = white[::2, ::2]
        tent = np.array([0.5, 1, 0.5])
        red = ndimage.convolve1d(ndimage.convolve1d(red, tent, 0, mode="wrap"), tent, 1, mode="wrap")
        share = correlation / MOSAIC
        noise = np.sqrt(1 - share) * rng.normal(size=white.shape) + np.sqrt(share) * _unit(red)
    return _unit(noise[16 : 16 + height, 16 : 16 + width])


def _unit(noise: np.ndarray) -> np.ndarray:
    return noise / noise.std()


def _sigma(correlation: float) -> float:
    """Returns the blur of white noise after which neighbours correlate by so much."""

    def found(sigma: float) -> float:
        kernel = ndimage.gaussian_filter1d(np.eye(1, 65, 32)[0], sigma)
        return kernel[1:] @ kernel[:-1] / (kernel @ kernel)

    return float(optimize.brentq(lambda sigma: found(sigma) - correlation, 0.2, 4))


def _shift(correlation: float, times: int) -> np.ndarray:
    """Returns the kernel of bilinear shifts after which the noise of neighbours correlates by so much."""

    def kernel(part: float) -> np.ndarray:
        return np.array([1 - part, part]) if times == 1 else np.convolve([1 - part, part], [1 - part, part])

    def found(part: float) -> float:
        return kernel(part)[1:] @ kernel(part)[:-1] / (kernel(part) @ kernel(part)) - correlation

    return kernel(float(optimize.brentq(found, 0, 0.5)))


def _spline(step: float) -> float:
    """Returns the mean covariance of linearly interpolated white noise at a distance: the cubic B-spline."""
    return 2 / 3 - step**2 + step**3 / 2 if step < 1 else (2 - step) ** 3 / 6


def puncta(rng: np.random.Generator) -> np.ndarray:
    """Returns blurred points of random brightness."""
    image = np.zeros((SIDE, SIDE))
    np.add.at(image, tuple(rng.integers(0, SIDE, (2, 500))), rng.lognormal(0, 0.7, 500))
    return _scaled(ndimage.gaussian_filter(image, 1.4))


def membranes(rng: np.random.Generator) -> np.ndarray:
    """Returns the borders of random cells."""
    points = np.stack(np.mgrid[:SIDE, :SIDE], axis=-1).reshape(-1, 2)
    distance, _ = spatial.cKDTree(rng.uniform(-20, SIDE + 20, (150, 2))).query(points, k=2)
    edge = np.exp(-np.square((distance[:, 1] - distance[:, 0]).reshape(SIDE, SIDE) / 2))
    return _scaled(ndimage.gaussian_filter(edge, 1.2))


def discs(rng: np.random.Generator) -> np.ndarray:
    """Returns bright discs with clouds inside, as nuclei have."""
    points = np.stack(np.mgrid[:SIDE, :SIDE], axis=-1)
    image = sum(
        np.hypot(*np.moveaxis(points - rng.uniform(0, SIDE, 2), -1, 0)) < rng.uniform(8, 20)
        for _ in range(40)
    )
    clouds = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 3)
    return _scaled(ndimage.gaussian_filter(np.minimum(image, 2) * (1 + 2 * clouds), 1.2))


def fibres(rng: np.random.Generator) -> np.ndarray:
    """Returns straight fibres."""
    grid = np.stack(np.mgrid[:SIDE, :SIDE], axis=-1) - SIDE / 2
    image = np.zeros((SIDE, SIDE))
    for angle, place in zip(rng.uniform(0, np.pi, 40), rng.uniform(-SIDE / 2, SIDE / 2, 40), strict=True):
        image += rng.lognormal(0, 0.5) * np.exp(
            -np.square((grid @ [np.sin(angle), np.cos(angle)] - place) / 1.6) / 2
        )
    return _scaled(image)


def _scaled(image: np.ndarray) -> np.ndarray:
    return np.clip(image / np.percentile(image, 99.8), 0, None)
