"""Simple structures for training."""

import numpy as np
import pytest
from scipy import ndimage

from ddpm_lightning.datasets.simulated_denoising import RandomMicroscopePairs
from ddpm_lightning.simulation.random_processing import RandomProcessing
from ddpm_lightning.simulation.simple_structures import SIMPLE_STRUCTURES


def images(name, count=6, side=128):
    return [SIMPLE_STRUCTURES[name](np.random.default_rng(seed), side) for seed in range(count)]


@pytest.mark.parametrize("name", SIMPLE_STRUCTURES)
@pytest.mark.parametrize("side", [32, 75])
def test_light_is_finite_and_not_negative_at_any_size(name, side):
    for seed in range(12):
        light = SIMPLE_STRUCTURES[name](np.random.default_rng(seed), side)
        assert light.shape == (side, side) and np.isfinite(light).all() and light.min() >= 0
        np.testing.assert_array_equal(light, SIMPLE_STRUCTURES[name](np.random.default_rng(seed), side))


@pytest.mark.parametrize("name", SIMPLE_STRUCTURES)
def test_images_differ_and_have_structure(name):
    lights = images(name)
    assert len({light.tobytes() for light in lights}) == 6
    # Light is concentrated: the brightest fifth of the pixels has more than its share.
    shares = [np.sort(light.ravel())[-light.size // 5 :].sum() / light.sum() for light in lights]
    assert np.median(shares) > 0.3


def test_puncta_are_small_and_neurites_long():
    def largest(light):
        labels, count = ndimage.label(light > 0.3 * np.percentile(light, 99.8))
        boxes = ndimage.find_objects(labels)
        return max(max(part.stop - part.start for part in box) for box in boxes) if count else 0

    assert max(largest(light) for light in images("puncta")) < 15
    assert min(largest(light) for light in images("neurites")) > 20


def test_nuclei_cover_a_good_part_of_the_field():
    covered = [np.mean(light > 0.2 * np.percentile(light, 99)) for light in images("nuclei", 10)]
    assert 0.15 < np.median(covered) < 0.9


def test_pairs_show_them_under_random_microscopes():
    names = list(SIMPLE_STRUCTURES)
    pairs = RandomMicroscopePairs(names, "train", 10, 64, processing=RandomProcessing())
    for pair in pairs:
        assert pair.low.shape == pair.high.shape == (64, 64)
        assert np.isfinite(pair.high).all() and pair.high.max() > pair.high.min()
