"""Microtubules: stiff filaments that radiate from a centrosome, antibody-labelled.

Filaments are worm-like chains. In the cell they buckle and bend far more than in vitro, so the apparent persistence
length is 10 to 100 µm. Most start near a centrosome, which is usually outside the field of view; the others start
anywhere. Antibodies bind at random positions and widen the 25 nm tube to about 60 nm; where too few bind, the filament
has gaps. Some filaments are above or below the focal plane and appear dim and wide.
"""

import numpy as np

from ddpm_lightning.simulation.chains import at, pieces_inside, scatter_along, worm_like_chains
from ddpm_lightning.simulation.scene import Canvas, Scene, disc_mask, log_uniform, smooth_field

STEP = 0.05  # µm between the points of a chain
LABEL_SIGMA = 0.018  # µm, standard deviation across the filament: a tube seen from the side, 60 nm wide
CANDIDATES = 10  # per µm of the side of the field


def microtubules(rng: np.random.Generator, canvas: Canvas, truth: bool = True) -> Scene:
    """Samples the microtubules of part of a cell.

    Args:
        rng: Source of randomness.
        canvas: Grid of the scene.
        truth: Whether to return the ground truth as well.

    Returns:
        Scene whose truth contains ``centre_lines`` (list of (N, 2) arrays in pixels), their ``focus`` (1 in
        focus, 0 out of it, with shape (L,)) and ``mask`` (within 60 nm of a centre line in focus, (size,
        size) bool).
    """
    extent = canvas.extent
    persistence = log_uniform(rng, 10, 100)
    density = log_uniform(rng, 0.9, 2.2)
    labels = log_uniform(rng, 100, 200) * rng.uniform(0.5, 0.8)
    distance = rng.uniform(0.1, 1.6) * extent
    direction = rng.uniform(0, 2 * np.pi)
    centre = extent / 2 + distance * np.array([np.sin(direction), np.cos(direction)])

    starts, headings = _seeds(rng, extent, centre)
    reach = distance + 1.5 * extent
    chains = worm_like_chains(rng, starts, headings, reach, STEP, persistence)
    lengths = np.minimum(log_uniform(rng, 5, 40, len(chains)), reach)
    used = np.arange(chains.shape[1]) * STEP <= lengths[:, None]
    chosen = _fill(chains, used, extent, density)
    chains, used = chains[chosen], used[chosen]

    focus = rng.random(len(chains)) < 0.75
    brightness = rng.lognormal(0, 0.2, len(chains)) * np.where(focus, 1, rng.uniform(0.2, 0.6, len(chains)))
    sigma = np.where(focus, LABEL_SIGMA, rng.uniform(0.06, 0.16, len(chains)))
    # Out of focus, an emitter is a wide spot, represented by several faint points around it.
    copies = np.where(focus, 1, 6)
    border = canvas.margin * canvas.pixel / 1000
    lit = used & np.all((chains > -border) & (chains < extent + border), axis=-1)
    owner, along = scatter_along(rng, STEP * labels * copies[:, None] * lit[:, 1:])
    points = at(chains, owner, along) + rng.standard_normal((len(owner), 2)) * sigma[owner, None]
    dyes = rng.standard_gamma(3.0, len(points)) / 3  # antibodies carry different numbers of them
    light = dyes * (brightness / copies)[owner]

    parameters = {
        "persistence_length_um": float(persistence),
        "density_um_per_um2": float(density),
        "labels_per_um": float(labels),
        "centrosome_um": centre.tolist(),
        "filaments": len(chains),
    }
    glow = np.clip(1 + 0.5 * smooth_field(rng, canvas.shape[0], canvas.pixels(2.0)), 0.1, None)
    return Scene(
        canvas.splat(canvas.pixels(points), light),
        rng.uniform(0.02, 0.05) * glow,
        _truth(canvas, chains, used, focus) if truth else {},
        parameters,
    )


def _seeds(rng: np.random.Generator, extent: float, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns starts (N, 2) in µm and directions (N,) of candidates: 70 % at the centrosome, 30 % anywhere."""
    count = int(np.ceil(CANDIDATES * max(extent, 1)))
    radial = rng.random(count) < 0.7
    towards, radius = extent / 2 - centre, 0.8 * extent
    distance = np.hypot(*towards)
    # Seen from a centrosome outside the field, the field covers a sector; other directions would miss it.
    sector = np.arcsin(radius / distance) if distance > radius else np.pi
    aimed = np.arctan2(*towards) + rng.uniform(-sector, sector, count)
    headings = np.where(radial, aimed, rng.uniform(0, 2 * np.pi, count))
    # Filaments start in a region around the centrosome rather than at one point.
    outwards = np.stack([np.sin(headings), np.cos(headings)], -1) * rng.exponential(0.3, (count, 1))
    around = centre + outwards + rng.normal(0, 0.15, (count, 2))
    anywhere = rng.uniform(-extent / 2, 1.5 * extent, (count, 2))
    return np.where(radial[:, None], around, anywhere), headings


def _fill(chains: np.ndarray, used: np.ndarray, extent: float, density: float) -> np.ndarray:
    """Returns filaments that cross the field, until it contains ``density`` µm of them per µm²."""
    visible = STEP * np.sum(used & np.all((chains > 0) & (chains < extent), axis=-1), axis=1)
    before = np.cumsum(visible) - visible
    return np.flatnonzero((before < density * extent**2) & (visible > 0))


def _truth(
    canvas: Canvas, chains: np.ndarray, used: np.ndarray, focus: np.ndarray
) -> dict[str, np.ndarray | list[np.ndarray]]:
    lines, sharp = [], []
    for chain, part, in_focus in zip(chains, used, focus, strict=True):
        pieces = pieces_inside(canvas.pixels(chain[part]), canvas.size)
        lines += pieces
        sharp += [in_focus] * len(pieces)
    visible = [line for line, keep in zip(lines, sharp, strict=True) if keep]
    mask = disc_mask(np.concatenate([np.empty((0, 2)), *visible]), canvas.size, 60 / canvas.pixel)
    return {"centre_lines": lines, "focus": np.array(sharp, np.uint8), "mask": mask}
