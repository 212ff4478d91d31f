import numpy as np
import pytest

from ddpm_lightning.simulation.chains import at, pieces_inside, scatter_along, worm_like_chains
from ddpm_lightning.simulation.filaments import microtubules
from ddpm_lightning.simulation.scene import Canvas


def grow(persistence, length, step=0.05, count=4000, seed=0):
    rng = np.random.default_rng(seed)
    headings = rng.uniform(0, 2 * np.pi, count)
    return worm_like_chains(rng, np.zeros((count, 2)), headings, length, step, persistence)


def persistence_length(chains, step, lag):
    """Estimates the persistence length from the correlation of tangents at a distance of ``lag`` steps."""
    tangents = np.diff(chains, axis=1) / step
    cosine = np.mean(np.sum(tangents[:, lag:] * tangents[:, :-lag], axis=-1))
    return -lag * step / (2 * np.log(cosine))


@pytest.mark.parametrize("persistence", [1.0, 3.0, 12.0])
def test_tangents_decorrelate_with_the_persistence_length(persistence):
    chains = grow(persistence, length=6.0)
    assert persistence_length(chains, 0.05, lag=20) == pytest.approx(persistence, rel=0.15)


@pytest.mark.parametrize("persistence", [1.0, 3.0, 12.0])
def test_end_to_end_distance_follows_the_formula_of_kratky_and_porod(persistence):
    length = 6.0
    chains = grow(persistence, length)
    measured = np.mean(np.sum((chains[:, -1] - chains[:, 0]) ** 2, axis=-1))
    ratio = length / (2 * persistence)
    expected = 4 * persistence * length * (1 - (1 - np.exp(-ratio)) / ratio)
    assert measured == pytest.approx(expected, rel=0.05)


def test_points_are_one_step_apart():
    chains = grow(2.0, length=3.0, count=5)
    assert chains.shape == (5, 61, 2)
    np.testing.assert_allclose(np.linalg.norm(np.diff(chains, axis=1), axis=-1), 0.05)


def test_persistence_length_recovered_from_the_truth_of_microtubules():
    canvas = Canvas(size=256, pixel=25, margin=16)
    ratios = []
    for seed in range(12):
        scene = microtubules(np.random.default_rng(seed), canvas)
        turns, steps = [], 0.0
        for line in scene.truth["centre_lines"]:
            heading = np.unwrap(np.arctan2(*np.diff(line, axis=0).T))
            turns.append(np.diff(heading))
            steps += len(turns[-1]) * np.median(np.linalg.norm(np.diff(line, axis=0), axis=1)) * 0.025
        recovered = steps / np.sum(np.concatenate(turns) ** 2)
        ratios.append(recovered / scene.parameters["persistence_length_um"])
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)
    assert np.all(np.abs(np.array(ratios) - 1) < 0.15)


def test_a_chain_is_cut_where_it_leaves_the_field():
    columns = np.array([-1.0, 1, 3, 9, 12, 8, 5, -2, 4])
    chain = np.stack([np.full(9, 2.0), columns], -1)
    pieces = pieces_inside(chain, size=10)
    assert [piece[:, 1].tolist() for piece in pieces] == [[1, 3, 9], [8, 5]]


def test_scattered_points_are_on_the_segments_at_the_requested_density():
    rng = np.random.default_rng(0)
    chains = np.array([[[0.0, 0], [0, 1], [1, 1]], [[5.0, 5], [5, 7], [5, 9]]])
    owner, along = scatter_along(rng, np.array([[1000.0, 0], [0, 3000]]))
    points = at(chains, owner, along)
    first, second = points[owner == 0], points[owner == 1]
    assert len(first) == pytest.approx(1000, abs=5 * np.sqrt(1000))
    assert len(second) == pytest.approx(3000, abs=5 * np.sqrt(3000))
    np.testing.assert_allclose(first[:, 0], 0)
    assert 0 <= first[:, 1].min() and first[:, 1].max() <= 1
    assert 7 <= second[:, 1].min() and second[:, 1].max() <= 9
    assert second[:, 1].mean() == pytest.approx(8, abs=0.05)
