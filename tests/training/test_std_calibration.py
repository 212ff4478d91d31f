"""A finished training measures the size of its standard deviation, and is otherwise as it would have been without."""

import numpy as np
import pytest
import torch

import ddpm_lightning as dl
from ddpm_lightning.training import std_calibration
from tests.training.test_from_python import NETWORK, SPEED, weights


@pytest.fixture
def data(pair_folder):
    return dl.dataset("folder", root=pair_folder, crop=32, batch_size=2, normalisation="shared")


@pytest.fixture
def trained(data, tmp_path, monkeypatch):
    """Trains two steps under a name, with so many seconds for each second of training."""

    def run(name, share, model="ddpm_small", **changes):
        monkeypatch.setattr(std_calibration, "SHARE", share)
        monkeypatch.setattr(std_calibration, "MOST_SECONDS", 1e4)
        method = dl.method(model, network=NETWORK, **changes)
        return dl.fit(method, data, max_steps=2, run_folder=tmp_path / name, **SPEED)

    return run


def test_the_factor_is_that_of_the_validation_images(trained, pair_folder, capsys, tmp_path):
    run = trained("with", 1e4)
    state = torch.get_rng_state()
    restorer = dl.Restorer.load(run.best, "cpu")
    (entry,) = restorer.trained.card["calibrations"]
    assert entry["images"] == 2 and entry["split"] == "val" and entry["samples"] == 15
    assert entry["intervals"] is None and entry["sampling"] == restorer.trained.sampling
    said = capsys.readouterr().out
    assert f"{entry['std_factor']:.2f} times" in said and "2 images of pairs" in said
    error, written = [], []
    for pair in run_pairs(restorer):
        restored = restorer.restore(pair.low, image=pair.name)
        error.append((restored.mean - pair.high) / restored.gain)
        written.append(restored.std / restored.gain)
    assert np.square(written).mean() == pytest.approx(np.square(error).mean(), rel=1e-4)
    # The same run without it: weights, random numbers and what follows are the same.
    plain = trained("without", 0.0)
    assert torch.equal(state, torch.get_rng_state())
    assert "calibrations" not in dl.Restorer.load(plain.best, "cpu").trained.card
    for name in ("best", "last"):
        one, other = (weights(getattr(each, name)) for each in (run, plain))
        assert all(torch.equal(one[key], other[key]) for key in one)
    longer = [dl.resume(each.folder, max_steps=4) for each in (run, plain)]
    one, other = (weights(each.last) for each in longer)
    assert all(torch.equal(one[key], other[key]) for key in one)


def run_pairs(restorer):
    from ddpm_lightning.evaluation.evaluate import data_of

    source = data_of(restorer.trained).pairs("val").source
    return [source[number] for number in range(len(source))]


def test_a_calibrated_checkpoint_keeps_its_calibration(trained, data, tmp_path, monkeypatch):
    run = trained("run", 1e4)
    before = run.best.read_bytes()
    arguments = data.build(), torch.device("cpu"), 60.0, ()
    method = dl.method("ddpm_small", network=NETWORK).build()
    std_calibration.calibrate_default_preset(run.best, method, *arguments)
    assert run.best.read_bytes() == before


def test_nothing_is_measured_without_samples_time_or_clean_images(trained, data, monkeypatch):
    def unexpected(*arguments, **settings):
        raise AssertionError("the checkpoint was loaded")

    monkeypatch.setattr(std_calibration, "load", unexpected)
    run = trained("regression", 1e4, model="regression_small")
    assert run.best.is_file()
    trained("short", 0.05)
    monkeypatch.setattr(dl.PairDataModule, "paired", lambda self, split: False)
    method = dl.method("ddpm_small", network=NETWORK).build()
    arguments = data.build(), torch.device("cpu"), 60.0, ()
    std_calibration.calibrate_default_preset(run.best, method, *arguments)


def test_too_slow_a_model_is_left_as_it_is(trained, data, monkeypatch, capsys):
    run = trained("run", 0.0)
    before = run.best.read_bytes()
    monkeypatch.setattr(std_calibration, "LEAST_SECONDS", 0.0)
    method = dl.method("ddpm_small", network=NETWORK).build()
    std_calibration.calibrate_default_preset(run.best, method, data.build(), torch.device("cpu"), 1e-9, ())
    assert run.best.read_bytes() == before and "standard deviation" not in capsys.readouterr().out
