"""A zebrafish embryo: a sheet of cells with bright membranes and dimmer nuclei.

Cells are the Voronoi regions of a jittered lattice of nuclei that is stretched and bent like a tissue. Neighbouring
cells share a wall of two membranes, curved and unevenly labelled; walls are brightest where three cells meet. The
expression of the label varies from cell to cell and across the tissue, parts of the field contain no labelled tissue,
and light from deeper cells is attenuated. Nuclei are ellipses with chromatin texture; a few are in mitosis and appear
as bright plates.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree, Voronoi

from ddpm_lightning.simulation.chains import at, pieces_inside, scatter_along
from ddpm_lightning.simulation.optics import FWHM_PER_SIGMA
from ddpm_lightning.simulation.scene import Canvas, Scene, disc_mask, log_uniform, smooth_field

LABELS = 48  # emitters per µm of wall
BRIGHTNESS = 0.5  # light of one of them
ATTENUATION = 100.0  # µm


@dataclass(frozen=True)
class Tissue:
    """Cells in pixels of the field of view.

    Attributes:
        centres: Nuclei with shape (N, 2).
        expression: Amount of label of each cell with shape (N,); 0 outside the tissue.
        walls: End points of the walls with shape (W, 2, 2).
        neighbours: The two cells at each wall with shape (W, 2).
        stretch: Linear map from the lattice to the tissue with shape (2, 2).
    """

    centres: np.ndarray
    expression: np.ndarray
    walls: np.ndarray
    neighbours: np.ndarray
    stretch: np.ndarray


def embryo(rng: np.random.Generator, canvas: Canvas, truth: bool = True) -> Scene:
    """Samples an optical section through an embryo.

    Args:
        rng: Source of randomness.
        canvas: Grid of the scene.
        truth: Whether to return the ground truth as well.

    Returns:
        Scene whose truth contains ``nuclei`` (labels from 1, 0 elsewhere, (size, size) uint16), ``centres`` of
        the labelled cells in the field with shape (N, 2) in pixels, ``walls`` (list of (N, 2) arrays in
        pixels) and ``mask`` (within 400 nm of a wall, (size, size) bool).
    """
    parameters = {
        "spacing_um": float(log_uniform(rng, 7, 12)),
        "elongation": float(rng.uniform(1, 2)),
        "wall_width_um": float(rng.uniform(0.2, 0.4)),
        "nuclei_level": float(rng.uniform(0.1, 0.9)),
        "mitotic": float(rng.uniform(0.02, 0.05)),
        "depth_range_um": float(rng.uniform(0, 60)),
    }
    tissue = _tissue(rng, canvas, parameters)
    walls, points, light = _walls(rng, canvas, tissue, parameters["wall_width_um"])
    labels, nuclei = _nuclei(rng, canvas, tissue, parameters)
    attenuation = _attenuation(rng, canvas, parameters["depth_range_um"])
    emitters = (canvas.splat(points, light) + nuclei) * attenuation

    background = np.clip(1 + 0.4 * smooth_field(rng, canvas.shape[0], canvas.pixels(5.0)), 0.2, None)
    return Scene(
        emitters,
        rng.uniform(0.01, 0.05) * background,
        _truth(canvas, tissue, walls, labels) if truth else {},
        parameters,
    )


def _tissue(rng: np.random.Generator, canvas: Canvas, parameters: dict) -> Tissue:
    """Samples the arrangement of the cells."""
    side, spacing = canvas.shape[0], float(canvas.pixels(parameters["spacing_um"]))
    turn, stretch = _rotation(rng.uniform(0, 2 * np.pi)), np.sqrt(parameters["elongation"])
    stretch = turn @ np.diag([stretch, 1 / stretch]) @ turn.T
    count = int(np.ceil(0.75 * side * np.sqrt(parameters["elongation"]) / spacing)) + 3
    rows, columns = np.mgrid[-count : count + 1, -count : count + 1].reshape(2, -1).astype(float)
    lattice = np.stack([rows * np.sqrt(3) / 2, columns + 0.5 * (rows % 2)], -1) * spacing
    lattice = lattice @ _rotation(rng.uniform(0, np.pi)).T + spacing * rng.uniform(-0.28, 0.28, lattice.shape)
    centres = lattice @ stretch.T
    centres += canvas.size / 2 + _bend(rng, centres, side)
    near = np.all(
        (centres > -canvas.margin - 2 * spacing) & (centres < canvas.size + canvas.margin + 2 * spacing),
        axis=1,
    )
    centres = centres[near]

    diagram = Voronoi(centres)
    bounded = np.array([min(ridge) >= 0 for ridge in diagram.ridge_vertices])
    walls = diagram.vertices[np.array([r for r, b in zip(diagram.ridge_vertices, bounded, strict=True) if b])]
    neighbours = diagram.ridge_points[bounded]

    place = np.clip(centres + canvas.margin, 0, side - 1).astype(int)
    region = smooth_field(rng, side, side / 2.2)[place[:, 0], place[:, 1]]
    patches = smooth_field(rng, side, 2.5 * spacing)[place[:, 0], place[:, 1]]
    expression = np.exp(0.35 * rng.standard_normal(len(centres)) + 0.45 * patches)
    # At most a third of the cells in the field have no label.
    inside = np.all((centres > 0) & (centres < canvas.size), axis=1)
    expression *= region > min(rng.uniform(-2.5, 0), np.quantile(region[inside], 0.33) if inside.any() else 0)
    return Tissue(centres, expression, walls, neighbours, stretch)


def _rotation(angle: np.ndarray | float) -> np.ndarray:
    """Returns rotations by angles (...), with shape (..., 2, 2)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)


def _bend(rng: np.random.Generator, points: np.ndarray, side: int) -> np.ndarray:
    """Returns a gentle sinusoidal displacement, so that rows of cells are curved as in a tissue."""
    waves = rng.normal(0, 1.3 * np.pi / side, (2, 2))
    phases = rng.uniform(0, 2 * np.pi, 2)
    return 0.06 * side * np.sin(points @ waves.T + phases)


def _walls(
    rng: np.random.Generator, canvas: Canvas, tissue: Tissue, width: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns walls as lines (W, 9, 2) and their emitters (M, 2), both in pixels, with their light (M,)."""
    strength = tissue.expression[tissue.neighbours].mean(1)
    ends, strength = tissue.walls[strength > 0], strength[strength > 0]
    span = ends[:, 1] - ends[:, 0]
    ticks = np.linspace(0, 1, 9)
    bow = rng.normal(0, 0.07, len(ends))[:, None] * span[:, ::-1] * [1, -1]
    lines = ends[:, :1] + ticks[:, None] * span[:, None] + np.sin(np.pi * ticks)[:, None] * bow[:, None]

    length = np.hypot(*span.T) * canvas.pixel / 1000
    lit = np.all((lines > -canvas.margin) & (lines < canvas.size + canvas.margin), axis=-1)
    wall, along = scatter_along(rng, LABELS * length[:, None] / 8 * lit[:, 1:])
    place = along / 8
    texture = 1 + 0.2 * np.sin(rng.uniform(0, 2 * np.pi, len(ends))[wall] + 9 * place)
    corners = 1 + 0.5 * np.exp(-np.minimum(place, 1 - place) * length[wall] / 0.6)
    gap_at = np.where(rng.random(len(ends)) < 0.2, rng.random(len(ends)), np.inf)
    gaps = np.where(np.abs(place - gap_at[wall]) < 0.09, 0.1, 1.0)
    light = BRIGHTNESS * strength[wall] * texture * corners * gaps * rng.standard_gamma(4.0, len(wall)) / 4
    sigma = canvas.pixels(width / FWHM_PER_SIGMA)
    return lines, at(lines, wall, along) + sigma * rng.standard_normal((len(wall), 2)), light


def _nuclei(
    rng: np.random.Generator, canvas: Canvas, tissue: Tissue, parameters: dict
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels of the nuclei and their light, both with shape (S, S)."""
    side = canvas.shape[0]
    labels = np.zeros((side, side), np.uint16)
    level = np.zeros((side, side), np.float32)
    radius = float(canvas.pixels(parameters["spacing_um"])) * rng.uniform(0.26, 0.33)
    centres = tissue.centres[tissue.expression > 0] + canvas.margin
    count = len(centres)
    axes = radius * np.stack([np.ones(count), rng.uniform(0.75, 1, count)], -1)
    shapes = tissue.stretch @ _rotation(rng.uniform(0, np.pi, count)) * axes[:, None]
    levels = rng.uniform(0.7, 1.3, count)
    plates = rng.random(count) < parameters["mitotic"]
    shapes[plates] = _rotation(rng.uniform(0, np.pi, plates.sum())) * canvas.pixels(np.array([4.0, 1.0]))
    levels[plates] = 2.5

    # Where the tissue is compressed, nuclei shrink to fit between their neighbours.
    room = 0.46 * KDTree(tissue.centres).query(centres - canvas.margin, k=2)[0][:, 1]
    shapes *= np.minimum(1, room / np.linalg.norm(shapes, 2, axis=(1, 2)))[:, None, None]

    reach = np.abs(shapes).sum(2)
    first = np.clip(np.floor(centres - reach), 0, side).astype(int)
    last = np.clip(np.ceil(centres + reach) + 1, 0, side).astype(int)
    inverses = np.linalg.inv(shapes)
    for number in np.flatnonzero(np.all(last > first, axis=1)):
        (top, left), (bottom, right) = first[number], last[number]
        row = np.arange(top, bottom)[:, None] - centres[number, 0]
        column = np.arange(left, right) - centres[number, 1]
        (a, b), (c, d) = inverses[number]
        body = (a * row + b * column) ** 2 + (c * row + d * column) ** 2 < 1
        labels[top:bottom, left:right][body] = number + 1
        level[top:bottom, left:right][body] = levels[number]
    chromatin = np.clip(1 + 0.3 * smooth_field(rng, side, canvas.pixels(0.6)), 0.2, None)
    return labels, parameters["nuclei_level"] * level * chromatin


def _attenuation(rng: np.random.Generator, canvas: Canvas, depth: float) -> np.ndarray:
    """Returns the transmitted fraction of the light, (S, S), in a section tilted by ``depth`` µm across the field."""
    direction = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-0.5, 0.5, canvas.shape[0])
    slope = np.sin(direction) * ramp[:, None] + np.cos(direction) * ramp
    return np.exp(-depth * (slope - slope.min()) / ATTENUATION)


def _truth(
    canvas: Canvas, tissue: Tissue, walls: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray | list[np.ndarray]]:
    steps = np.tile(np.linspace(0, 8, 129), len(walls))
    points = at(walls, np.repeat(np.arange(len(walls)), 129), steps)
    centres = tissue.centres[tissue.expression > 0]
    inside = np.all((centres >= 0) & (centres <= canvas.size - 1), axis=1)
    return {
        "nuclei": canvas.crop(labels),
        "centres": centres[inside],
        "walls": [piece for wall in walls for piece in pieces_inside(wall, canvas.size)],
        "mask": disc_mask(
            points[np.all((points >= 0) & (points <= canvas.size - 1), axis=1)],
            canvas.size,
            400 / canvas.pixel,
        ),
    }
