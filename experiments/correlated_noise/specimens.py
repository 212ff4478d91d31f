"""Clean images: crops of real ones, and simulated specimens of kinds that the shipped model was not trained on.

The simulations are simple on purpose, and share nothing with those of the package.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from ddpm_lightning.io.cached_planes import CachedPlanes

__all__ = ["KINDS", "SIDE", "clean_images"]

#: Side of a clean image in pixels; test images are a part of it.
SIDE = 256
#: Blur of the simulated optics in pixels.
OPTICS = 1.3
_OVERSCAN = 16


def clean_images(real: Path | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yields names and images with shape (256, 256), float32, the 99.5th percentile at 1.

    Real and simulated ones alternate; every kind comes once before one comes again, so that a few images at the start
    are already a fair selection. Real ones are the quarters of 512 x 512 pixels.

    Args:
        real: Folder with ``high/*.tif``, or ``None`` for simulated images alone.
    """
    whole = [CachedPlanes(path).plane(0) for path in sorted((real / "high").glob("*.tif"))] if real else []
    for repeat in range(4):
        top, left = SIDE * (repeat // 2), SIDE * (repeat % 2)
        for number, (kind, make) in enumerate(KINDS.items()):
            if number < len(whole):
                quarter = whole[number][top : top + SIDE, left : left + SIDE]
                yield f"real {number} quarter {repeat}", _scaled(quarter.astype(np.float32))
            rng = np.random.default_rng([7, number, repeat])
            yield f"{kind} {repeat}", _recorded(make(rng, SIDE + 2 * _OVERSCAN), rng)


def _recorded(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blurs a specimen as optics do, and adds background light."""
    image = ndimage.gaussian_filter(light, OPTICS)[_OVERSCAN:-_OVERSCAN, _OVERSCAN:-_OVERSCAN]
    return _scaled(_scaled(image) + float(rng.uniform(0.02, 0.2)))


def _scaled(image: np.ndarray) -> np.ndarray:
    return (image / max(float(np.percentile(image, 99.5)), 1e-6)).astype(np.float32)


def _cloud(rng: np.random.Generator, side: int, width: float) -> np.ndarray:
    """Returns a smooth random field with mean 0 and standard deviation 1."""
    field = ndimage.gaussian_filter(rng.normal(size=(side, side)), width, mode="wrap")
    return (field - field.mean()) / field.std()


def _nuclei(rng: np.random.Generator, side: int) -> np.ndarray:
    """Returns ellipses filled with chromatin of uneven density, some with dark nucleoli."""
    y, x = np.mgrid[:side, :side]
    image = np.zeros((side, side))
    for _ in range(int(rng.integers(8, 25))):
        cy, cx, angle = *rng.uniform(0, side, 2), rng.uniform(0, np.pi)
        a, b = rng.uniform(9, 24, 2)
        u, v = (
            np.cos(angle) * (x - cx) + np.sin(angle) * (y - cy),
            np.cos(angle) * (y - cy) - np.sin(angle) * (x - cx),
        )
        inside = np.hypot(u / a, v / b) < 1
        nucleoli = np.zeros_like(inside)
        for _ in range(int(rng.integers(0, 4))):
            ny, nx = cy + rng.uniform(-0.5, 0.5) * b, cx + rng.uniform(-0.5, 0.5) * a
            nucleoli |= np.hypot(y - ny, x - nx) < rng.uniform(1.5, 4)
        image += inside * rng.uniform(0.3, 1) * np.where(nucleoli, 0.3, 1)
    return image * np.exp(0.35 * _cloud(rng, side, 1.5))


def _tissue(rng: np.random.Generator, side: int) -> np.ndarray:
    """Returns the membranes of densely packed cells: borders between the regions nearest to random points."""
    count = int(rng.integers(40, 160))
    points = rng.uniform(0, side, (count, 2))
    y, x = np.mgrid[:side, :side]
    apart = np.sort([np.hypot(y - cy, x - cx) for cy, cx in points], axis=0)
    membrane = np.exp(-((apart[1] - apart[0]) ** 2) / (2 * rng.uniform(0.8, 2) ** 2))
    return membrane * np.exp(0.3 * _cloud(rng, side, 10)) + 0.1 * (1 + 0.3 * _cloud(rng, side, 3)).clip(0)


def _vesicles(rng: np.random.Generator, side: int) -> np.ndarray:
    """Returns hollow spheres seen as rings, with small bright spots between them."""
    y, x = np.mgrid[:side, :side]
    image = np.zeros((side, side))
    for _ in range(int(rng.integers(30, 90))):
        cy, cx = rng.uniform(0, side, 2)
        radius, light = float(rng.uniform(2.5, 9)), float(rng.uniform(0.2, 1))
        image += light * np.exp(-((np.hypot(y - cy, x - cx) - radius) ** 2) / 1.5)
    rows, columns = rng.integers(0, side, (2, int(rng.integers(60, 300))))
    np.add.at(image, (rows, columns), rng.exponential(6, len(rows)))
    return image


def _neurites(rng: np.random.Generator, side: int) -> np.ndarray:
    """Returns branching processes that grow thinner, with swellings along them."""
    image = np.zeros((side, side))
    growing = [(*rng.uniform(0.2 * side, 0.8 * side, 2), rng.uniform(0, 2 * np.pi), 3.0) for _ in range(6)]
    while growing:
        y, x, angle, width = growing.pop()
        for _ in range(int(rng.integers(40, 120))):
            angle += rng.normal(0, 0.12)
            y, x = y + np.sin(angle), x + np.cos(angle)
            if not (0 <= y < side and 0 <= x < side):
                break
            image[int(y), int(x)] += width * (4 if rng.random() < 0.03 else 1)
        else:
            for turn in rng.normal((-0.5, 0.5), 0.2):
                if width > 0.8:
                    growing.append((y, x, angle + turn, 0.7 * width))
    return image


KINDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "nuclei": _nuclei,
    "tissue": _tissue,
    "vesicles": _vesicles,
    "neurites": _neurites,
}
