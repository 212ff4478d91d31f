"""A preset whose restored image is the output of the posterior-mean network: restored, tiled and evaluated."""

import numpy as np
import pytest

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.evaluation.restored_pair import restore_pair
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.models.sampling import ImageSampler
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint

SCORED = [
    "model=scored_small",
    "model.network.base=8",
    "model.regression.network.base=8",
    "model.regression.network.multipliers=[1,2]",
    "data.crop=32",
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt", model=SCORED)


@pytest.fixture
def plane():
    return np.random.default_rng(0).poisson(30, (37, 50)).astype(np.uint16)


@pytest.fixture
def restorer(checkpoint):
    found = Restorer.load(checkpoint, "cpu")
    found.method.sigma.fill_(0.2)
    return found


def test_the_image_is_that_of_the_network_and_the_std_that_of_the_samples(restorer, plane):
    restored = restorer.restore(plane, image="a")
    samples = np.stack(list(restorer.samples(plane, image="a")))
    assert len(samples) == restored.sample_count == 8 and restorer.trained.mean == "network"
    np.testing.assert_allclose(restored.std, samples.std(0), rtol=1e-3, atol=1e-3)
    # The number of samples does not affect the image; their average differs from it.
    assert np.array_equal(restored.mean, restorer.restore(plane, 2, "b").mean)
    assert np.abs(restored.mean - samples.mean(0)).max() > 0.1
    scale = restorer.input_scale(plane)
    mean = restorer.sampler(plane, scale, "").mean()
    by_hand = restorer.normalisation.output_scale(scale).restore(mean[0, 0].numpy())
    np.testing.assert_allclose(restored.mean, by_hand, rtol=1e-5)
    assert restored.precision is None


def test_an_evaluation_scores_what_is_restored(restorer, plane):
    restored = restore_pair(restorer, Pair(plane, plane.astype(np.float32), "a", "a", None), [1, 4])
    np.testing.assert_allclose(restored.average, restorer.restore(plane, 4, "a").mean, rtol=1e-5)
    assert set(restored.means) == {1, 4}
    assert not np.allclose(restored.means[4], restored.average)


def test_a_sample_is_the_restored_image_if_the_preset_says_so(checkpoint, plane):
    realistic = Restorer.load(checkpoint, "cpu", preset="realistic")
    realistic.method.sigma.fill_(0.2)
    (sample,) = realistic.samples(plane, 1, "a")
    assert np.array_equal(realistic.restore(plane, image="a").mean, sample)


def test_a_tolerance_is_refused(checkpoint):
    with pytest.raises(UserError) as caught:
        Restorer(load(checkpoint), tolerance=0.01)
    assert "tolerance" in str(caught.value.subject)


def test_the_cost_counts_the_network_once(restorer):
    assert restorer.trained.evaluations(8) == (2, 8)
    assert {name: cost for name, (cost, _) in restorer.trained.presets().items()} == {
        "mean": (2, 8),
        "uncertainty": (2, 15),
        "realistic": (1, 1),
    }


def test_without_augmentation_the_network_is_evaluated_once(restorer, plane):
    calls = []

    def apply(network, *inputs):
        calls.append(network)
        return network(*inputs)

    low = restorer.sampler(plane, restorer.input_scale(plane), "").canvas
    sampler = ImageSampler(restorer.method, low, "a", apply=apply)
    list(sampler.samples(range(5), batch=2))
    assert calls.count(restorer.method.regression.network) == 1 and len(calls) == 4
