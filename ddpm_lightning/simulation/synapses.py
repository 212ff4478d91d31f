"""Synapses: pairs of puncta on either side of a synaptic cleft, along dendrites, over hazy neuropil.

The two sides of a synapse are about 150 nm apart. Each is a narrow disc seen edge-on, made of one to four nanoclusters
that face their partners across the cleft (trans-synaptic columns). Most synapses are on spines of the visible
dendrites, the others belong to dendrites outside the image, and some puncta have no partner. Somata and vessels are
dark holes in the neuropil.
"""

from dataclasses import dataclass

import numpy as np

from ddpm_lightning.simulation.chains import at, pieces_inside, scatter_along, worm_like_chains
from ddpm_lightning.simulation.optics import FWHM_PER_SIGMA
from ddpm_lightning.simulation.scene import Canvas, Scene, disc_mask, log_uniform, smooth_field

STEP = 0.2  # µm between the points of a dendrite
NANOCLUSTER = 0.08 / FWHM_PER_SIGMA  # µm, standard deviation
EMITTERS = 16  # per nanocluster, on average


@dataclass(frozen=True)
class Sites:
    """Synapses in µm.

    Attributes:
        places: Middle of the cleft with shape (N, 2).
        headings: Direction from the postsynaptic to the presynaptic side in radians with shape (N,).
        roots: Where the spine leaves its dendrite with shape (D, 2); the first D synapses have one.
    """

    places: np.ndarray
    headings: np.ndarray
    roots: np.ndarray


def synapses(rng: np.random.Generator, canvas: Canvas, truth: bool = True) -> Scene:
    """Samples synapses in a slice of brain tissue.

    Args:
        rng: Source of randomness.
        canvas: Grid of the scene.
        truth: Whether to return the ground truth as well.

    Returns:
        Scene whose truth contains ``pairs`` with shape (N, 2, 2), the presynaptic and the postsynaptic (row,
        column) of each complete synapse in pixels, ``orphans`` with shape (M, 2), ``dendrites`` (list of (N,
        2) arrays) and ``mask`` (within 200 nm of a punctum, (size, size) bool).
    """
    parameters = {
        "density_per_um2": float(log_uniform(rng, 0.3, 1.0)),
        "distance_nm": float(rng.uniform(130, 170)),
        "orphans": float(rng.uniform(0.1, 0.3)),
        "dendrites": int(rng.integers(1, 5)),
        "brightness_log_sd": float(rng.uniform(0.5, 0.7)),
    }
    extent = canvas.extent
    border = canvas.margin * canvas.pixel / 1000
    chains, widths = _dendrites(rng, parameters["dendrites"], extent, border)
    holes = _holes(rng, extent)
    sites = _sites(rng, chains, widths, holes, parameters["density_per_um2"], extent, border)

    sides, present = _sides(rng, sites, parameters)
    puncta, light = _puncta(rng, sides, present, sites.headings, parameters["brightness_log_sd"])
    shafts, shaft_light = _shafts(rng, chains, widths)
    spines, spine_light = _spines(rng, sites, sides[: len(sites.roots), 1])

    points = canvas.pixels(np.concatenate([puncta, shafts, spines]))
    emitters = canvas.splat(points, np.concatenate([light, shaft_light, spine_light]))
    return Scene(
        emitters,
        _neuropil(rng, canvas, holes),
        _truth(canvas, chains, sides, present) if truth else {},
        {**parameters, "synapses": len(sites.places)},
    )


def _dendrites(
    rng: np.random.Generator, count: int, extent: float, border: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns centre lines (D, P, 2) that cross the field, and their widths (D,), in µm."""
    through = rng.uniform(0.1 * extent, 0.9 * extent, (count, 2))
    headings = rng.uniform(0, 2 * np.pi, count)
    half = 0.75 * extent + border
    there = worm_like_chains(rng, through, headings, half, STEP, 60.0)
    back = worm_like_chains(rng, through, headings + np.pi, half, STEP, 60.0)
    return np.concatenate([back[:, :0:-1], there], axis=1), rng.uniform(0.5, 1.0, count)


def _holes(rng: np.random.Generator, extent: float) -> np.ndarray:
    """Returns somata and vessels: (row, column, radius) in µm with shape (N, 3)."""
    count = rng.choice([0, 1, 2], p=[0.45, 0.4, 0.15])
    return np.column_stack([rng.uniform(0, extent, (count, 2)), rng.uniform(2.5, 6.5, count)])


def _sites(
    rng: np.random.Generator,
    chains: np.ndarray,
    widths: np.ndarray,
    holes: np.ndarray,
    density: float,
    extent: float,
    border: float,
) -> Sites:
    """Places synapses, ``density`` per µm²: on spines of the dendrites, then anywhere except in the holes."""
    owner, along = scatter_along(
        rng, np.full((len(chains), chains.shape[1] - 1), STEP * rng.uniform(0.8, 2.5))
    )
    ahead = at(np.gradient(chains, STEP, axis=1), owner, along)
    normals = ahead[:, ::-1] * [1, -1] * rng.choice([-1.0, 1.0], (len(owner), 1))
    on_axis = at(chains, owner, along)
    spines = on_axis + normals * (widths[owner] / 2 + rng.uniform(0.1, 1.2, len(owner)))[:, None]
    near = np.all((spines > -border) & (spines < extent + border), axis=1)

    rest = rng.poisson(density * (extent + 2 * border) ** 2)
    anywhere = rng.uniform(-border, extent + border, (max(rest - near.sum(), 0), 2))
    apart = np.hypot(*(anywhere[:, None] - holes[None, :, :2]).transpose(2, 0, 1)) > holes[None, :, 2]
    anywhere = anywhere[apart.all(axis=1)]
    return Sites(
        np.concatenate([spines[near], anywhere]),
        np.concatenate(
            [
                np.arctan2(*normals[near].T) + rng.normal(0, 0.5, near.sum()),
                rng.uniform(0, 2 * np.pi, len(anywhere)),
            ]
        ),
        on_axis[near],
    )


def _sides(rng: np.random.Generator, sites: Sites, parameters: dict) -> tuple[np.ndarray, np.ndarray]:
    """Returns the centres of both sides, presynaptic first, (N, 2, 2) in µm, and which of them are labelled, (N, 2)."""
    count = len(sites.places)
    distance = rng.normal(parameters["distance_nm"], 12, count) / 1000
    axis = np.stack([np.sin(sites.headings), np.cos(sites.headings)], -1)
    sides = sites.places[:, None] + 0.5 * np.array([1, -1])[:, None] * (distance[:, None] * axis)[:, None]
    present = np.ones((count, 2), bool)
    lonely = np.flatnonzero(rng.random(count) < parameters["orphans"])
    present[lonely, rng.integers(0, 2, len(lonely))] = False
    return sides, present


def _puncta(
    rng: np.random.Generator, sides: np.ndarray, present: np.ndarray, headings: np.ndarray, log_sd: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the emitters of the puncta (M, 2) in µm and their light (M,)."""
    count = len(sides)
    clusters = rng.integers(1, 5, count)
    synapse = np.repeat(np.arange(count), clusters)
    length = rng.uniform(0.2, 0.5, count) / FWHM_PER_SIGMA
    offset = rng.normal(0, length[synapse]) * (clusters[synapse] > 1)
    offset -= (np.bincount(synapse, offset, count) / clusters)[synapse]
    across = np.stack([np.cos(headings), -np.sin(headings)], -1)[synapse] * offset[:, None]

    centres = (sides[synapse] + across[:, None]).reshape(-1, 2)
    brightness = (
        np.exp(rng.normal(0, log_sd, count))[:, None] * np.exp(rng.normal(0, 0.3, (count, 2))) * present
    )
    shares = (brightness / clusters[:, None])[synapse].reshape(-1)
    which = np.repeat(np.arange(len(centres)), EMITTERS * (shares > 0))
    return centres[which] + rng.normal(0, NANOCLUSTER, (len(which), 2)), shares[which] / EMITTERS


def _shafts(
    rng: np.random.Generator, chains: np.ndarray, widths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the label in the dendrites: emitters evenly over the cross-section, (M, 2) in µm, and their light."""
    owner, along = scatter_along(rng, np.full((len(chains), chains.shape[1] - 1), 150 * STEP))
    tangents = at(np.gradient(chains, STEP, axis=1), owner, along)
    sideways = widths[owner] / 2 * np.sqrt(rng.random(len(owner))) * np.cos(rng.uniform(0, np.pi, len(owner)))
    points = at(chains, owner, along) + sideways[:, None] * tangents[:, ::-1] * [1, -1]
    level = rng.uniform(1.5, 6.0, len(chains)) / 150
    return points, level[owner] * rng.standard_gamma(1.0, len(owner))


def _spines(rng: np.random.Generator, sites: Sites, heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the label in necks and heads of the spines: emitters (M, 2) in µm and their light."""
    which = np.repeat(np.arange(len(heads)), 30)
    place = np.minimum(rng.uniform(0, 1.6, len(which)), 1.0)[:, None]
    points = sites.roots[which] + place * (heads[which] - sites.roots[which])
    width = np.where(place == 1, 0.12, 0.04)
    return points + width * rng.standard_normal(points.shape), np.full(len(which), 0.5 / 30)


def _neuropil(rng: np.random.Generator, canvas: Canvas, holes: np.ndarray) -> np.ndarray:
    """Returns the unresolved label between the dendrites relative to the peak, dim in somata and vessels."""
    side = canvas.shape[0]
    coarse = smooth_field(rng, side, canvas.pixels(4.0))
    fine = smooth_field(rng, side, canvas.pixels(0.6))
    haze = rng.uniform(0.06, 0.14) * np.clip(1 + 0.3 * coarse + 0.3 * fine, 0.1, None)
    rows, columns = np.indices((side, side)) - canvas.margin
    for row, column, radius in canvas.pixels(holes):
        distance = np.hypot(rows - row, columns - column) - radius
        haze = haze * (0.35 + 0.65 / (1 + np.exp(-np.clip(distance / canvas.pixels(0.3), -30, 30))))
    return haze


def _truth(
    canvas: Canvas, chains: np.ndarray, sides: np.ndarray, present: np.ndarray
) -> dict[str, np.ndarray | list[np.ndarray]]:
    sides = canvas.pixels(sides)
    inside = np.all((sides >= 0) & (sides <= canvas.size - 1), axis=(1, 2))
    complete = present.all(axis=1)
    pairs = sides[inside & complete]
    orphans = sides[present & (inside & ~complete)[:, None]]
    puncta = np.concatenate([pairs.reshape(-1, 2), orphans])
    return {
        "pairs": pairs,
        "orphans": orphans,
        "dendrites": [
            piece for chain in chains for piece in pieces_inside(canvas.pixels(chain), canvas.size)
        ],
        "mask": disc_mask(puncta, canvas.size, 200 / canvas.pixel),
    }
