"""Mitochondria: hollow, branching tubes, labelled on the outer membrane (TOM20).

Centre lines are worm-like chains that keep a distance from each other, except where branches fork off. Each tube is a
cylinder with round ends. TOM20 is on its surface in clusters. A cluster at an angle φ around the tube is displaced by
R cos φ laterally and R sin φ in depth, so in projection the two edges are brightest. Where tubes meet, label inside
another tube is removed, which opens the junctions. Fragmented networks consist of short tubes and spheres.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy import ndimage

from ddpm_lightning.simulation.chains import at, pieces_inside, scatter_along, worm_like_chains
from ddpm_lightning.simulation.scene import Canvas, Scene, log_uniform, smooth_field

STEP = 0.04  # µm between the points of a centre line
CANDIDATES = 1.4  # per µm² within and around the field
LONGEST = 10.0  # µm
TRUNKS = 0.7  # their fraction of the required length; branches provide the rest
FORKS = 0.8  # attempted branches per µm; those without enough space are left out
SHORTEST_TRUNK = 1.5  # µm; shorter tubes have no branches
CLUSTER = 0.02  # µm, standard deviation of a TOM20 cluster
SECTION = 0.2  # µm, standard deviation of the optical section in depth
CELL = 0.1  # µm, grid on which the distance between tubes is checked


@dataclass(frozen=True)
class Tubes:
    """Tubes in µm.

    Attributes:
        chains: Centre lines with shape (N, P, 2).
        used: Whether each point belongs to the tube, with shape (N, P).
        radii: Radius at each point with shape (N, P); it tapers to 0 at round ends.
        forked: Whether a tube starts at the side of another, with shape (N,).
    """

    chains: np.ndarray
    used: np.ndarray
    radii: np.ndarray
    forked: np.ndarray


def mitochondria(rng: np.random.Generator, canvas: Canvas, truth: bool = True) -> Scene:
    """Samples part of a mitochondrial network.

    Args:
        rng: Source of randomness.
        canvas: Grid of the scene.
        truth: Whether to return the ground truth as well.

    Returns:
        Scene whose truth contains ``centre_lines`` (list of (N, 2) arrays in pixels), the ``radii`` of their
        tubes in pixels with shape (L,), ``junctions`` with shape (J, 2) in pixels and ``mask`` (inside a
        tube, (size, size) bool).
    """
    parameters = {
        "persistence_length_um": float(log_uniform(rng, 2, 5)),
        "density_um_per_um2": float(log_uniform(rng, 0.5, 1.1)),
        "radius_um": float(rng.uniform(0.15, 0.22)),
        "clusters_per_um2": float(log_uniform(rng, 120, 300)),
        "fragmented": bool(rng.random() < 0.2),
    }
    tubes = _network(rng, canvas, parameters)
    points, depth = _clusters(rng, tubes, parameters["clusters_per_um2"])
    labels = rng.poisson(4.0, len(points))
    light = np.repeat(np.exp(-0.5 * (depth / SECTION) ** 2), labels)
    points = np.repeat(points, labels, axis=0)
    points = points + rng.normal(0, CLUSTER, points.shape)

    glow = np.clip(1 + 0.5 * smooth_field(rng, canvas.shape[0], canvas.pixels(1.5)), 0.1, None)
    return Scene(
        canvas.splat(canvas.pixels(points), light),
        rng.uniform(0.02, 0.06) * glow,
        _truth(canvas, tubes) if truth else {},
        parameters,
    )


def _network(rng: np.random.Generator, canvas: Canvas, parameters: dict) -> Tubes:
    """Grows tubes until the field contains the required length, and then branches."""
    border = canvas.margin * canvas.pixel / 1000
    persistence, radius = parameters["persistence_length_um"], parameters["radius_um"]
    count = int(np.ceil(CANDIDATES * (canvas.extent + 2 * border) ** 2))
    starts = rng.uniform(-border, canvas.extent + border, (count, 2))
    # Tubes follow the microtubules of the cell, so that neighbours share a direction.
    headings = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.6, count) + np.pi * rng.integers(0, 2, count)
    lengths = log_uniform(rng, 1.5, LONGEST, count)
    if parameters["fragmented"]:
        lengths = np.where(rng.random(count) < 0.8, rng.uniform(0.4, 1.4, count), lengths)
    chains = worm_like_chains(rng, starts, headings, LONGEST, STEP, persistence)
    used = np.arange(chains.shape[1]) * STEP <= lengths[:, None]
    room = _OccupancyMap(canvas.extent, border, 2 * radius + 0.1)
    chosen = _keep_clear(room, chains, used, TRUNKS * parameters["density_um_per_um2"])
    trunks, trunks_used = chains[chosen], used[chosen]

    lengths = STEP * trunks_used.sum(1)
    forks = rng.poisson(FORKS * lengths) * (lengths > SHORTEST_TRUNK)
    parents = np.repeat(np.arange(len(trunks)), forks)
    place = (rng.uniform(0.15, 0.85, len(parents)) * trunks_used[parents].sum(1)).astype(int)
    ahead = trunks[parents, place + 1] - trunks[parents, place]
    side = rng.choice([-1.0, 1.0], len(parents)) * rng.uniform(0.8, 1.4, len(parents))
    aside = np.arctan2(ahead[:, 0], ahead[:, 1]) + side
    branches = worm_like_chains(rng, trunks[parents, place], aside, LONGEST, STEP, persistence)
    branches_used = np.arange(branches.shape[1]) * STEP <= rng.uniform(0.8, 3.0, (len(branches), 1))
    away = _leaving(room, branches, branches_used)

    chains = np.concatenate([trunks, branches[away]])
    used = np.concatenate([trunks_used, branches_used[away]])
    forked = np.arange(len(chains)) >= len(trunks)
    widths = radius * np.exp(rng.normal(0, 0.12, len(chains)))
    if parameters["fragmented"]:
        widths = widths * np.where(rng.random(len(chains)) < 0.3, 1.5, 1.0)
    return Tubes(chains, used, _round_ends(used, widths, forked), forked)


class _OccupancyMap:
    """A coarse map of the places that tubes occupy.

    Args:
        extent: Side of the field in µm.
        border: Width in µm of the simulated margin around it.
        clearance: Minimum distance of centre lines in µm.
    """

    def __init__(self, extent: float, border: float, clearance: float) -> None:
        self.extent, self.border, self.clearance = extent, border, clearance
        self.side = int((extent + 2 * border) / CELL) + 1
        reach = int(np.ceil(clearance / CELL))
        self.disc = (
            np.argwhere(np.hypot(*np.indices((2 * reach + 1,) * 2) - reach) * CELL <= clearance) - reach
        )
        self.occupied = np.zeros((self.side, self.side), bool)

    def cells(self, points: np.ndarray) -> np.ndarray:
        """Returns the cells of points (N, 2) in µm, with shape (M, 2); points outside the map have none."""
        cells = np.floor((points + self.border) / CELL).astype(int)
        return cells[np.all((cells >= 0) & (cells < self.side), axis=1)]

    def overlap(self, points: np.ndarray) -> float:
        """Returns the fraction of a centre line that is too close to others; 1 if none of it is on the map."""
        cells = self.cells(points)
        return float(self.occupied[cells[:, 0], cells[:, 1]].mean()) if len(cells) else 1.0

    def occupy(self, points: np.ndarray) -> None:
        """Marks the places around a centre line as occupied."""
        around = np.clip(self.cells(points)[::2, None] + self.disc, 0, self.side - 1)
        self.occupied[around[..., 0], around[..., 1]] = True


def _keep_clear(room: _OccupancyMap, chains: np.ndarray, used: np.ndarray, density: float) -> list[int]:
    """Returns centre lines that are far enough apart, until there are ``density`` µm per µm² in the field."""
    chosen, visible = [], 0.0
    for i, (chain, part) in enumerate(zip(chains, used, strict=True)):
        inside = np.sum(np.all((chain[part] > 0) & (chain[part] < room.extent), axis=1))
        if inside == 0 or room.overlap(chain[part]) > 0.05:
            continue
        room.occupy(chain[part])
        chosen.append(i)
        visible += inside * STEP
        if visible > density * room.extent**2:
            break
    return chosen


def _leaving(room: _OccupancyMap, branches: np.ndarray, used: np.ndarray) -> list[int]:
    """Returns branches that, beyond their beginning, are far enough from their trunk and from all others."""
    first = int(1.5 * room.clearance / STEP)
    chosen = []
    for i, (chain, part) in enumerate(zip(branches, used, strict=True)):
        if room.overlap(chain[part][first:]) == 0:
            room.occupy(chain[part])
            chosen.append(i)
    return chosen


def _round_ends(used: np.ndarray, radii: np.ndarray, forked: np.ndarray) -> np.ndarray:
    """Returns the radius at each point, with shape (N, P): a hemisphere at each end except the root of a branch."""
    along = STEP * np.arange(used.shape[1])
    radii = radii[:, None]
    from_start = np.where(forked[:, None], radii, along)
    to_end = STEP * (used.sum(1, keepdims=True) - 1) - along
    lacking = np.clip(radii - np.minimum(from_start, to_end), 0, radii)
    return np.sqrt(radii**2 - lacking**2)


def _clusters(rng: np.random.Generator, tubes: Tubes, density: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns clusters of label on the surface: positions (M, 2) and depths (M,) in µm."""
    # A cylinder and a sphere of radius R have the same surface per unit of axis: the ends need no correction.
    surface = 2 * np.pi * tubes.radii.max(1, keepdims=True) * STEP
    owner, along = scatter_along(rng, density * surface * tubes.used[:, 1:])
    tangents = np.gradient(tubes.chains, STEP, axis=1)
    normals = at(tangents[..., ::-1] * [1, -1], owner, along)
    radius = at(tubes.radii, owner, along)
    angle = rng.uniform(0, 2 * np.pi, len(owner))
    points = at(tubes.chains, owner, along) + (radius * np.cos(angle))[:, None] * normals
    depth = radius * np.sin(angle)

    distance, local = _to_axis(tubes, points)
    outside = distance**2 + depth**2 > (0.8 * local) ** 2
    return points[outside], depth[outside]


def _to_axis(tubes: Tubes, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distance of points (M, 2) to the nearest centre line and the radius there, in µm with shape (M,)."""
    origin = points.min(0, initial=0.0)
    index = np.floor((points - origin) / STEP).astype(int)
    distance, radius = _distance_map(tubes, origin, STEP, tuple(index.max(0, initial=0) + 1))
    return distance[index[:, 0], index[:, 1]], radius[index[:, 0], index[:, 1]]


def _distance_map(
    tubes: Tubes, origin: np.ndarray, cell: float, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distance to the nearest centre line and the radius there, in µm, on a grid with shape (H, W)."""
    cells = np.floor((tubes.chains[tubes.used] - origin) / cell).astype(int)
    inside = np.all((cells >= 0) & (cells < shape), axis=1)
    rows, columns = cells[inside].T
    radius = np.zeros(shape)
    np.maximum.at(radius, (rows, columns), tubes.radii[tubes.used][inside])
    away = np.ones(shape, bool)
    away[rows, columns] = False
    distance, nearest = cast(
        "tuple[np.ndarray, np.ndarray]",
        ndimage.distance_transform_edt(away, sampling=cell, return_indices=True),
    )
    return distance, radius[tuple(nearest)]


def _truth(canvas: Canvas, tubes: Tubes) -> dict[str, np.ndarray | list[np.ndarray]]:
    lines, radii = [], []
    for chain, part, radius in zip(tubes.chains, tubes.used, tubes.radii, strict=True):
        pieces = pieces_inside(canvas.pixels(chain[part]), canvas.size)
        lines += pieces
        radii += [canvas.pixels(radius.max())] * len(pieces)
    junctions = canvas.pixels(tubes.chains[tubes.forked, 0])
    border = canvas.margin * canvas.pixel / 1000
    distance, radius = _distance_map(tubes, np.full(2, -border), canvas.pixel / 1000, canvas.shape)
    return {
        "centre_lines": lines,
        "radii": np.array(radii),
        "junctions": junctions[np.all((junctions >= 0) & (junctions <= canvas.size - 1), axis=1)],
        "mask": canvas.crop(distance <= radius),
    }
