"""Sets of inputs that are unlike the training, and sets that are like it."""

import pytest

from ddpm_lightning.evaluation.distribution_shift import InputReference, describe_input
from tests.metrics.test_input_features import image


@pytest.fixture(scope="module")
def reference():
    return InputReference.of(image(seed) for seed in range(32))


def test_a_set_is_distinguished_more_finely_than_an_image(reference):
    same = [describe_input(image(seed)) for seed in range(100, 116)]
    assert reference.shifted(same) == []
    noisier = [describe_input(image(seed, noise=0.103)) for seed in range(100, 116)]
    assert "noise" in reference.shifted(noisier)
    assert not any("noise" in reference.outside(features) for features in noisier)


def test_sets_of_the_same_kind_are_rarely_distinguished(reference):
    sets = [[describe_input(image(seed + k, side=48)) for k in range(6)] for seed in range(100, 300, 6)]
    small = InputReference.of(image(seed, side=48) for seed in range(32))
    assert sum(bool(small.shifted(described)) for described in sets) <= 1
