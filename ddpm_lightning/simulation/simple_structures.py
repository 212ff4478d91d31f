"""Simple structures for training on many kinds of images: nuclei, cells, puncta, neurites and membranes.

Unlike the four specimens they imitate no data set and have no ground truth or optics of their own: each function
returns light (side, side), not negative and slightly blurred, whose scale has no meaning. Sizes are in pixels; random
microscopes magnify and blur them.
"""

from collections.abc import Callable, Mapping
from functools import reduce

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from ddpm_lightning.simulation.chains import at, scatter_along, worm_like_chains
from ddpm_lightning.simulation.scene import Canvas, log_uniform, smooth_field

__all__ = ["SIMPLE_STRUCTURES"]

SimpleStructure = Callable[[np.random.Generator, int], np.ndarray]


def nuclei(rng: np.random.Generator, side: int) -> np.ndarray:
    """Crowded elliptic nuclei with the texture of chromatin; neighbours touch and overlap."""
    radius = float(log_uniform(rng, 7, 28))
    places = _scattered(rng, side, float(rng.uniform(1.6, 3.5)) * radius)
    light = np.zeros((side, side))
    softness = float(rng.uniform(0.05, 0.3))
    for place in list(places):
        axes = radius * rng.uniform(0.65, 1.2, 2)
        window = _window(place, 1.4 * float(axes.max()), side)
        if window is None:
            continue
        distance = _elliptic(place, axes, float(rng.uniform(0, np.pi)), window)
        rim = 1 + rng.uniform(-0.3, 0.6) * np.minimum(distance, 1) ** 2
        light[window] += rng.lognormal(0, 0.35) * rim / (1 + np.exp((distance - 1) / (0.2 * softness + 0.02)))
    chromatin = smooth_field(rng, side, radius / rng.uniform(3, 8))
    nucleoli = 1 / (1 + np.exp((smooth_field(rng, side, radius / 2.5) - 1.6) / 0.15))
    return light * np.exp(rng.uniform(0.1, 0.5) * chromatin) * (1 - rng.uniform(0, 0.8) * (1 - nucleoli))


def cells(rng: np.random.Generator, side: int) -> np.ndarray:
    """A layer of cells: cytoplasm with granules, dark nuclei, and gaps between some of the cells."""
    radius = float(log_uniform(rng, 15, 60))
    centres = _scattered(rng, side, 2 * radius)
    grid = np.indices((side, side), float) + radius * 0.35 * np.stack(
        [smooth_field(rng, side, max(radius, 4)) for _ in range(2)]
    )
    distances, nearest = KDTree(centres).query(grid.reshape(2, -1).T, k=2)
    border = ((distances[:, 1] - distances[:, 0]) / radius).reshape(side, side)
    brightness = rng.lognormal(0, 0.5, len(centres)) * (rng.random(len(centres)) > rng.uniform(0, 0.5))
    light = brightness[np.asarray(nearest)[:, 0]].reshape(side, side)
    light = light / (1 + np.exp((rng.uniform(0, 0.4) - border) / 0.06))
    inside = (distances[:, 0] / (radius * rng.uniform(0.25, 0.45))).reshape(side, side)
    light = light * (1 - rng.uniform(0.2, 0.9) / (1 + np.exp((inside - 1) / 0.1)))
    granules = smooth_field(rng, side, float(log_uniform(rng, 1.5, 6)))
    return light * np.exp(rng.uniform(0.2, 0.8) * granules)


def puncta(rng: np.random.Generator, side: int) -> np.ndarray:
    """Few or many spots, each as small as the optics allow or a little larger, over dim cytoplasm or nothing."""
    canvas, density = Canvas(side, 1000, 0), float(log_uniform(rng, 3e-4, 2e-2))
    log_sd, light = float(rng.uniform(0.2, 1.0)), np.zeros((side, side))
    for sigma, share in ((0.8, 0.7), (1.4, 0.2), (2.5, 0.1)):
        places = rng.uniform(0, side, (rng.poisson(share * density * side**2) + 1, 2))
        spots = canvas.splat(places, rng.lognormal(0, log_sd, len(places)))
        light += sigma * ndimage.gaussian_filter(spots, sigma)
    cytoplasm = np.clip(smooth_field(rng, side, side / rng.uniform(2, 8)), 0, None)
    if rng.random() < 0.6:  # spots are in cells
        light *= 0.05 + np.clip(3 * cytoplasm, 0, 1)
    return light + float(rng.uniform(0, 0.02)) * cytoplasm


def neurites(rng: np.random.Generator, side: int) -> np.ndarray:
    """Branched processes of neurons, thin and thick, with varicosities; some with a soma."""
    canvas, light = Canvas(side, 1000, 0), np.zeros((side, side))
    trunks = int(rng.integers(2, 9))
    starts, persistence = rng.uniform(0, side, (trunks, 2)), float(log_uniform(rng, 30, 300))
    level = int(rng.integers(2, 4))
    for thickness in np.geomspace(rng.uniform(1.2, 4), 0.7, level):
        headings = rng.uniform(0, 2 * np.pi, len(starts))
        chains = worm_like_chains(rng, starts, headings, 0.6 * side, 1.0, persistence)
        owner, along = scatter_along(rng, np.full((len(chains), chains.shape[1] - 1), 6.0 * thickness))
        swelling = np.exp(rng.uniform(0, 0.6) * np.sin(along / rng.uniform(4, 12) + 6 * owner))
        points = at(chains, owner, along)
        points = points + 0.5 * thickness * (swelling * rng.normal(size=(2, len(owner)))).T
        light += canvas.splat(points, swelling * rng.lognormal(0, 0.3, len(chains))[owner])
        branches = rng.integers(0, chains.shape[1], (len(chains), 3))
        starts = np.take_along_axis(chains, branches[..., None], 1).reshape(-1, 2)
    light = ndimage.gaussian_filter(light, 0.7)
    for place in rng.uniform(0, side, (int(rng.integers(0, 3)), 2)):
        axes = rng.uniform(5, 15, 2)
        if (window := _window(place, 1.6 * float(axes.max()), side)) is not None:
            distance = _elliptic(place, axes, float(rng.uniform(0, np.pi)), window)
            light[window] += (
                np.percentile(light, 99) * rng.uniform(0.5, 3) / (1 + np.exp((distance - 1) / 0.1))
            )
    return light


def membranes(rng: np.random.Generator, side: int) -> np.ndarray:
    """Folded membranes seen from the side as lines, and sheets seen from above as areas with holes."""
    light = np.zeros((side, side))
    scale = float(log_uniform(rng, 8, 50))
    for _ in range(int(rng.integers(1, 4))):
        field = smooth_field(rng, side, scale) + 0.2 * smooth_field(rng, side, scale / 4)
        down, right = np.gradient(field)
        slope = np.maximum(np.hypot(down, right), 0.02 / scale)
        distance = np.abs(field - rng.uniform(-0.7, 0.7)) / slope
        labelled = np.exp(rng.uniform(0.1, 0.6) * smooth_field(rng, side, float(rng.uniform(2, 8))))
        light += rng.uniform(0.3, 1) * labelled * np.exp(-((distance / rng.uniform(0.8, 2.0)) ** 2) / 2)
    if rng.random() < 0.6:
        field = smooth_field(rng, side, scale * 2)
        holes = smooth_field(rng, side, float(log_uniform(rng, 2, 8)))
        sheet = 1 / (1 + np.exp((rng.uniform(-0.5, 0.8) - field) / 0.1))
        light += rng.uniform(0.05, 0.5) * sheet / (1 + np.exp((holes - rng.uniform(0, 1.2)) / 0.3))
    return light


#: Simple structures by name.
SIMPLE_STRUCTURES: Mapping[str, SimpleStructure] = {
    "nuclei": nuclei,
    "cells": cells,
    "puncta": puncta,
    "neurites": neurites,
    "membranes": membranes,
}


def _scattered(rng: np.random.Generator, side: int, spacing: float) -> np.ndarray:
    """Returns points of a jittered lattice that covers the field and its surroundings, (N, 2)."""
    count = int(np.ceil(side / spacing)) + 3
    lattice = np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1).reshape(-1, 2) - 1.0
    return spacing * (lattice + rng.uniform(-0.4, 0.4, lattice.shape) + 0.5 * (lattice[:, :1] % 2) * [0, 1])


def _window(place: np.ndarray, reach: float, side: int) -> tuple[slice, slice] | None:
    """Returns the part of the field within ``reach`` of a place, or ``None`` if there is none."""
    top, left = np.clip(np.floor(place - reach), 0, side).astype(int).tolist()
    bottom, right = np.clip(np.ceil(place + reach) + 1, 0, side).astype(int).tolist()
    return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None


def _elliptic(place: np.ndarray, axes: np.ndarray, angle: float, window: tuple[slice, slice]) -> np.ndarray:
    """Returns the distance from a place in a window, 1 on an ellipse with the given half-axes."""
    down = np.arange(window[0].start, window[0].stop)[:, None] - place[0]
    right = np.arange(window[1].start, window[1].stop)[None] - place[1]
    turns = (angle, angle + np.pi / 2)
    squares = [((np.cos(t) * right + np.sin(t) * down) / a) ** 2 for t, a in zip(turns, axes, strict=True)]
    return np.sqrt(reduce(np.add, squares))
