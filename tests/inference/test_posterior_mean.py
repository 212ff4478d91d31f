"""A preset whose restored image and standard deviation are outputs of networks: restored, tiled and evaluated."""

import numpy as np
import pytest
import tifffile
import torch

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.evaluation.restored_pair import restore_pair
from ddpm_lightning.evaluation.sample_metrics import SampleMetrics
from ddpm_lightning.evaluation.uncertainty import EPSILON
from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings
from ddpm_lightning.metrics.sparsification import sparsification
from ddpm_lightning.models.sampling import ImageSampler
from ddpm_lightning.utils.errors import UserError
from tests.trained import a_calibration, write_checkpoint

SCORED = [
    "model=scored_small",
    "model.network.base=8",
    "model.std_network.base=8",
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


def test_image_and_std_are_those_of_the_networks(restorer, plane):
    restored = restorer.restore(plane, image="a")
    assert restorer.trained.mean == "network" and restorer.trained.std_by_network
    scale = restorer.input_scale(plane)
    output = restorer.normalisation.output_scale(scale)
    mean, std = (each[0, 0].numpy() for each in restorer.sampler(plane, scale, "").posterior())
    np.testing.assert_allclose(restored.mean, output.restore(mean), rtol=1e-5)
    np.testing.assert_allclose(restored.std, output.gain * std, rtol=1e-5)
    assert restored.std.min() > 0 and restored.precision is None


def test_samples_are_made_on_request_and_change_nothing_else(restorer, plane):
    restored = restorer.restore(plane, image="a")
    kept = restorer.restore(plane, 3, "a", keep_samples=True)
    assert restored.sample_count == 0 and kept.sample_count == 3
    assert np.array_equal(kept.samples, np.stack(list(restorer.samples(plane, 3, "a"))))
    assert np.array_equal(kept.mean, restored.mean) and np.array_equal(kept.std, restored.std)
    entropy = restorer.restore(plane, image="a", entropy=True)
    assert entropy.sample_count == 8 and entropy.entropy.max() > 0


def test_a_file_gets_its_std_without_samples(restorer, plane, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", plane)
    about = restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", FileSettings(samples=5))
    assert about["samples"] == 0 and "no_std" not in about
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.tif", "a_std.tif"}
    about = restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", FileSettings(samples=1, single=True))
    assert about["samples"] == 1 and "no_std" not in about
    assert np.array_equal(tifffile.imread(tmp_path / "out/a_std.tif"), restorer.restore(plane, image="a").std)


def test_a_calibration_holds_for_any_number_of_samples(restorer, plane):
    calibration = a_calibration(
        sampling=restorer.trained.sampling, sampler=restorer.trained.sampler, samples=0, std_factor=2.0
    )
    plain = restorer.restore(plane, image="a").std
    restorer.trained.card["calibrations"] = [calibration.model_dump()]
    try:
        for samples in (1, 3):
            calibrated = restorer.restore(plane, samples, "a", keep_samples=True)
            np.testing.assert_allclose(calibrated.std, 2 * plain)
            assert calibrated.calibration == calibration
    finally:
        del restorer.trained.card["calibrations"]


def test_an_evaluation_scores_what_is_restored(restorer, plane):
    restored = restore_pair(restorer, Pair(plane, plane.astype(np.float32), "a", "a", None), [1, 4])
    np.testing.assert_allclose(restored.average, restorer.restore(plane, 4, "a").mean, rtol=1e-5)
    assert set(restored.means) == {1, 4}
    assert not np.allclose(restored.means[4], restored.average)
    found = SampleMetrics(restored, antithetic=False, level=0.9, fit=(1.0, 0.0)).uncertainty
    error = np.abs(restored.average - restored.high)
    expected = sparsification(error=torch.from_numpy(error), uncertainty=torch.from_numpy(restored.std))
    assert found.measures.sparsification.ause == pytest.approx(expected.ause, rel=1e-4)
    scores = np.sort((error / (restored.std + EPSILON * restored.gain)).ravel())
    assert found.scores[-1].item() == pytest.approx(scores[-1], rel=1e-4)
    np.testing.assert_allclose(restored.std, restorer.restore(plane, image="a").std, rtol=1e-5)


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
    assert restorer.trained.evaluations(8) == (4, 8)
    assert {name: cost for name, (cost, _) in restorer.trained.presets().items()} == {
        "mean": (4, 0),
        "uncertainty": (4, 0),
        "realistic": (2, 1),
    }


def test_without_augmentation_the_network_is_evaluated_once(restorer, plane):
    calls = []

    def apply(network, *inputs):
        calls.append(network)
        return network(*inputs)

    low = restorer.sampler(plane, restorer.input_scale(plane), "").canvas
    sampler = ImageSampler(restorer.method, low, "a", apply=apply)
    list(sampler.samples(range(5), batch=2))
    assert calls.count(restorer.method.regression.network) == 1
    assert calls.count(restorer.method.std_network) == 1 and len(calls) == 5
