"""Calibrations are kept in the card of a model, whatever kind of file it is, and checked when it is loaded."""

import math

import numpy as np
import pytest
import torch

from ddpm_lightning.checkpoints import store_calibration as storing
from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.checkpoints.safetensors_file import read_safetensors, write_safetensors
from ddpm_lightning.inference.export_model import ExportSettings, export_model
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.utils.errors import UserError
from tests.trained import a_calibration, store, write_checkpoint


@pytest.fixture
def path(tmp_path):
    return write_checkpoint(tmp_path / "run/checkpoints/best.ckpt")


def loaded(path, **settings):
    return load(path, preset="stored", samples=2, **settings)


@pytest.mark.parametrize("kind", ["ckpt", "half"])
def test_it_is_stored_and_nothing_else_changes(path, tmp_path, kind):
    if kind == "half":
        content, path = torch.load(path, weights_only=True), tmp_path / "half.safetensors"
        write_safetensors(content, path, torch.float16)
    before, size = loaded(path), path.stat().st_size
    intervals = Conformal(factor=1.5, level=0.9, epsilon=0.002, images=12)
    store(before, std_factor=2.5, intervals=intervals)
    after = loaded(path)
    assert after.calibration(2) == before.calibration(2) and after.sha256 == before.sha256
    assert after.calibration(2).std_factor == 2.5 and after.calibration(2).intervals == intervals
    for name, weight in before.method.state_dict().items():
        assert torch.equal(weight, after.method.state_dict()[name]), name
    assert {k: v for k, v in after.card.items() if k != "calibrations"} == {
        k: v for k, v in before.card.items() if k != "calibrations"
    }
    assert abs(path.stat().st_size - size) < 4000


def test_each_way_of_making_samples_has_its_own(path):
    ways = [
        {},
        {"samples": 3},
        {"sampler": {"antithetic": True}},
        {"sampler": {"steps": 4}},
        {"sampler": {"start": 0.9}},
        {"tta": False},
        {"preset": "mean"},
    ]
    own = [load(path, **{"preset": "stored", "samples": 2, **way}) for way in ways]
    assert len({(one.sampling, one.sampler, one.samples) for one in own}) == len(ways)
    for number, one in enumerate(own):
        one = load(path, **{"preset": "stored", "samples": 2, **ways[number]})
        assert one.calibration(one.samples) is None
        store(one, std_factor=1.0 + number)
        store(one, std_factor=2.0 + number)  # replaces the first
    for number, way in enumerate(ways):
        one = load(path, **{"preset": "stored", "samples": 2, **way})
        assert one.calibration(one.samples).std_factor == 2.0 + number
        assert len(one.card["calibrations"]) == len(ways)


def test_it_is_exported(path, tmp_path):
    store(loaded(path), std_factor=2.5)
    output = tmp_path / "small.safetensors"
    export_model(ExportSettings(checkpoint=str(path), output=str(output), authors=["me"]))
    assert read_safetensors(output)["card"]["calibrations"][0]["std_factor"] == 2.5
    assert loaded(output).calibration(2) == loaded(path).calibration(2)


def test_arrays_are_scaled_and_their_result_names_the_factor(path):
    plane = np.random.default_rng(0).poisson(30, (40, 36)).astype(np.uint16)
    stack = np.stack([plane, np.full_like(plane, 5)])
    before = Restorer(loaded(path))
    store(loaded(path), std_factor=2.75)
    after = Restorer(loaded(path))
    one, other = before.restore(stack, entropy=True), after.restore(stack, entropy=True)
    assert np.array_equal(other.std, np.float32(2.75) * one.std) and np.array_equal(one.mean, other.mean)
    assert np.array_equal(one.entropy, other.entropy) and one.precision == other.precision
    assert one.calibration is None and other.calibration.std_factor == 2.75
    assert one.uncalibrated_std is one.std
    np.testing.assert_allclose(other.uncalibrated_std, one.std, rtol=1e-6)
    third = after.restore(plane, 3)
    assert third.calibration is None and np.array_equal(third.std, before.restore(plane, 3).std)
    early, plain = (Restorer(loaded(path), tolerance=tolerance) for tolerance in (0.5, None))
    found = early.restore(plane)
    assert found.calibration is None and np.array_equal(found.mean, plain.restore(plane).mean)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("std_factor", -2.0),
        ("std_factor", 0.0),
        ("std_factor", math.nan),
        ("std_factor", math.inf),
        ("std_factor", 1e9),
        ("std_factor", "2.5"),
        ("std_factor", True),
        ("std_factor", None),
        ("samples", 1),
        ("sampling", 3),
        ("coverage", 1.5),
        ("intervals", {"factor": -1.0, "level": 0.9, "epsilon": 0.0, "images": 12}),
        ("intervals", {"factor": 1.0}),
        ("intervals", [1.0]),
    ],
)
def test_a_damaged_calibration_is_refused(path, key, value):
    content = torch.load(path, weights_only=True)
    content["card"]["calibrations"] = [{**a_calibration().model_dump(), key: value}]
    torch.save(content, path)
    with pytest.raises(UserError) as raised:
        load(path)
    assert raised.value.subject == path


@pytest.mark.parametrize("found", [{"std_factor": 2.0}, "2.0", [2.0], 7, None])
def test_something_else_in_its_place_is_refused(path, found):
    content = torch.load(path, weights_only=True)
    content["card"]["calibrations"] = found
    torch.save(content, path)
    with pytest.raises(UserError) as raised:
        load(path)
    assert raised.value.subject == path


def test_files_that_must_not_change_do_not(path, monkeypatch):
    trained = loaded(path)
    monkeypatch.setattr(storing, "SHIPPED", path.parent)
    before = path.read_bytes()
    with pytest.raises(UserError) as raised:
        store(trained)
    assert raised.value.subject == "calibrate=true" and "export" in raised.value.remedy
    assert path.read_bytes() == before


def test_a_file_that_was_replaced_meanwhile_is_kept(path):
    trained = loaded(path)
    write_checkpoint(path, "model.network.base=16")
    before = path.read_bytes()
    with pytest.raises(UserError) as raised:
        store(trained)
    assert raised.value.subject == path and path.read_bytes() == before
