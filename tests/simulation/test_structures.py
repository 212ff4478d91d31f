import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from ddpm_lightning.simulation.embryo import embryo
from ddpm_lightning.simulation.filaments import microtubules
from ddpm_lightning.simulation.mitochondria import _clusters, _network, mitochondria
from ddpm_lightning.simulation.scene import Canvas
from ddpm_lightning.simulation.synapses import synapses

CANVASES = {
    microtubules: Canvas(256, 25, 32),
    mitochondria: Canvas(256, 20, 40),
    synapses: Canvas(256, 95, 20),
    embryo: Canvas(256, 200, 24),
}


def draw(structure, seed=0, canvas=None):
    return structure(np.random.default_rng(seed), canvas or CANVASES[structure])


@pytest.mark.parametrize("structure", CANVASES, ids=lambda s: s.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_light_comes_from_where_the_truth_says(structure, seed):
    canvas = CANVASES[structure]
    scene = draw(structure, seed)
    light = canvas.crop(scene.emitters)
    mask = scene.truth["mask"]
    assert scene.emitters.shape == canvas.shape and scene.emitters.min() >= 0
    assert mask.shape == (256, 256) and mask.dtype == bool and 0.01 < mask.mean() < 0.7
    elsewhere = ~mask & (scene.truth["nuclei"] == 0) if structure is embryo else ~mask
    assert light[mask].mean() > 4 * light[elsewhere].mean()


@pytest.mark.parametrize("structure", CANVASES, ids=lambda s: s.__name__)
def test_truth_can_be_left_out_without_changing_the_light(structure):
    canvas = CANVASES[structure]
    bare = structure(np.random.default_rng(5), canvas, truth=False)
    assert bare.truth == {}
    np.testing.assert_array_equal(bare.emitters, draw(structure, 5).emitters)


def test_microtubules_fill_the_field_to_the_sampled_density():
    ratios = []
    for seed in range(10):
        scene = draw(microtubules, seed)
        lengths = [np.linalg.norm(np.diff(c, axis=0), axis=1).sum() for c in scene.truth["centre_lines"]]
        ratios.append(np.sum(lengths) * 0.025 / 6.4**2 / scene.parameters["density_um_per_um2"])
    assert 0.9 < np.median(ratios) < 1.35  # the last filament may overshoot
    assert len(scene.truth["focus"]) == len(scene.truth["centre_lines"])


def test_most_microtubules_come_from_the_centrosome():
    """Straight lines through the first and last points of a filament pass near it."""
    closer = []
    for seed in range(20):
        scene = draw(microtubules, seed)
        centre = np.array(scene.parameters["centrosome_um"]) / 0.025
        for line in scene.truth["centre_lines"]:
            if len(line) > 40:
                along = (line[20] - line[0]) / np.linalg.norm(line[20] - line[0])
                back = centre - line[0]
                closer.append(-(back @ along) / np.linalg.norm(back))
    assert np.mean(np.array(closer) > 0.8) > 0.5


def test_mitochondria_are_hollow():
    """Across a tube, the rims are brighter than the middle."""
    rim, middle = [], []
    for seed in range(6):
        scene = draw(mitochondria, seed)
        light = CANVASES[mitochondria].crop(scene.emitters)
        for line, radius in zip(scene.truth["centre_lines"], scene.truth["radii"], strict=True):
            tangents = np.gradient(line, axis=0)
            normals = tangents[:, ::-1] * [1, -1] / np.linalg.norm(tangents, axis=1, keepdims=True)
            for offset, values in ((0.0, middle), (0.9, rim), (-0.9, rim)):
                places = line + offset * radius * normals
                values.append(ndimage.map_coordinates(light, places.T, order=1))
    assert np.concatenate(rim).mean() > 1.5 * np.concatenate(middle).mean()


def test_nothing_is_inside_a_tube_where_tubes_meet():
    forks = 0
    for seed in range(4):
        rng, canvas = np.random.default_rng(seed), CANVASES[mitochondria]
        tubes = _network(rng, canvas, draw(mitochondria, seed).parameters)
        points, depth = _clusters(rng, tubes, 200.0)
        distance, nearest = cKDTree(tubes.chains[tubes.used]).query(points)
        assert len(points) > 1000
        forks += tubes.forked.sum()
        radius = tubes.radii[tubes.used][nearest]
        full = radius > 0.12  # away from the tips, where the grid of 40 nm is coarse against the radius
        assert np.mean(np.hypot(distance, depth)[full] < 0.6 * radius[full]) < 0.005
    assert forks > 5


def test_branches_leave_their_trunks():
    for seed in range(6):
        rng, canvas = np.random.default_rng(seed), CANVASES[mitochondria]
        drawn = draw(mitochondria, seed).parameters
        tubes = _network(rng, canvas, drawn)
        border = canvas.margin * canvas.pixel / 1000
        trunks = cKDTree(tubes.chains[~tubes.forked][tubes.used[~tubes.forked]])
        for branch, used in zip(tubes.chains[tubes.forked], tubes.used[tubes.forked], strict=True):
            inside = np.all((branch > -border) & (branch < canvas.extent + border), axis=1)
            late = np.arange(len(branch)) * 0.04 > 1.6 * (2 * drawn["radius_um"] + 0.1)
            apart = trunks.query(branch[used & inside & late])[0]
            assert (apart > 1.7 * drawn["radius_um"]).all()


def test_mitochondria_have_the_sampled_width():
    for seed in range(4):
        scene = draw(mitochondria, seed)
        assert 0.14 < np.median(scene.truth["radii"]) * 0.020 < 0.31
        depth = ndimage.distance_transform_edt(scene.truth["mask"])
        assert depth.max() >= 0.8 * scene.truth["radii"].max() - 1.5


def test_junctions_are_on_the_center_lines():
    seen = 0
    for seed in range(6):
        truth = draw(mitochondria, seed).truth
        lines = np.concatenate(truth["centre_lines"])
        seen += len(truth["junctions"])
        for junction in truth["junctions"]:
            assert np.linalg.norm(lines - junction, axis=1).min() < 2
    assert seen > 6


def test_distance_of_puncta_pairs_is_the_sampled_one():
    for seed in range(6):
        scene = draw(synapses, seed)
        pairs = scene.truth["pairs"] * 95
        distance = np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1)
        assert np.median(distance) == pytest.approx(scene.parameters["distance_nm"], rel=0.05)
        # Each punctum's nearest neighbour is its partner, but for a few crowded ones.
        puncta = pairs.reshape(-1, 2)
        nearest = cKDTree(puncta).query(puncta, k=2)[0][:, 1]
        assert np.median(nearest) == pytest.approx(scene.parameters["distance_nm"], rel=0.05)


def test_distance_of_puncta_pairs_is_recovered_from_their_light():
    """The light on either side of a cleft has its centres of mass the drawn distance apart."""
    ratios = []
    for seed in range(3):
        canvas = Canvas(1024, 10, 0)
        scene = draw(synapses, seed, canvas)
        rows, columns = np.indices(canvas.shape)
        for first, second in scene.truth["pairs"]:
            middle, axis = (first + second) / 2, (first - second) / np.linalg.norm(first - second)
            if np.any((middle < 50) | (middle > 973)):
                continue
            window = tuple(slice(int(m) - 50, int(m) + 51) for m in middle)
            along = (rows[window] - middle[0]) * axis[0] + (columns[window] - middle[1]) * axis[1]
            across = (rows[window] - middle[0]) * -axis[1] + (columns[window] - middle[1]) * axis[0]
            light = scene.emitters[window] * (np.abs(across) < 40) * (np.abs(along) < 18)
            sides = [np.sum(along * light * side) / np.sum(light * side) for side in (along > 0, along < 0)]
            ratios.append((sides[0] - sides[1]) / np.linalg.norm(first - second))
    assert len(ratios) > 20
    assert np.median(ratios) == pytest.approx(1, abs=0.05)


def test_orphans_are_as_frequent_as_configured():
    orphans = synapses_seen = expected = 0
    for seed in range(10):
        scene = draw(synapses, seed)
        alone, paired = len(scene.truth["orphans"]), len(scene.truth["pairs"])
        orphans, synapses_seen = orphans + alone, synapses_seen + alone + paired
        expected += scene.parameters["orphans"] * (alone + paired)
    assert orphans == pytest.approx(expected, abs=4 * np.sqrt(expected))
    assert synapses_seen > 1000


def test_every_labelled_cell_has_a_nucleus_of_plausible_size():
    for seed in range(4):
        scene = draw(embryo, seed)
        nuclei, centres = scene.truth["nuclei"], scene.truth["centres"]
        assert nuclei.dtype == np.uint16 and nuclei.shape == (256, 256)
        rows, columns = np.rint(centres).astype(int).T
        assert np.all(nuclei[rows, columns] > 0)
        inner = np.setdiff1d(nuclei, np.unique(np.r_[nuclei[0], nuclei[-1], nuclei[:, 0], nuclei[:, -1]]))
        area = np.median(np.bincount(nuclei.ravel())[inner]) * 0.2**2
        assert 0.4 < np.sqrt(4 * area / np.pi) / scene.parameters["spacing_um"] < 0.8


def test_walls_run_between_the_nuclei():
    for seed in range(8):
        truth = draw(embryo, seed).truth
        rows, columns = np.rint(np.concatenate(truth["walls"])).astype(int).T
        assert len(rows) > 100
        assert np.mean(truth["nuclei"][rows, columns] > 0) < 0.05
        assert np.mean(truth["nuclei"] > 0) > 3 * np.mean(truth["nuclei"][rows, columns] > 0)
