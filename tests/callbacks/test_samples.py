"""The numbers of the sampled validation against numpy, in one process and in two."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddpm_lightning.callbacks.samples import SampledValidation
from tests.callbacks.gloo_samples import FakeMethod, FakeTrainer, pairs, scale


@pytest.fixture(autouse=True)
def no_backbone(monkeypatch, tmp_path):
    monkeypatch.setenv("DDPM_LIGHTNING_CACHE", str(tmp_path))


def test_numbers_are_means_over_the_images(tmp_path):
    method = FakeMethod()
    SampledValidation(str(tmp_path), images=3, crop=180, draws=4).on_validation_epoch_end(
        FakeTrainer(), method
    )
    expected = {"single": [], "average": []}
    for pair in (pairs()[0], pairs()[2], pairs()[4]):
        low, high = (scale(image)[:180, :180] for image in (pair.low, pair.high))
        for name, error in (("single", 0.1), ("average", np.mean([0.1, 0.2, 0.3, 0.4]))):
            restored = low + np.float32(error) * np.arange(180, dtype=np.float32) / 180
            mse = ((restored - high).astype(float) ** 2).mean()
            reach = float(high.max()) - float(high.min())
            numbers = [
                10 * np.log10(reach**2 / mse),
                np.sqrt(mse) / reach,
                np.corrcoef(restored.ravel(), high.ravel())[0, 1],
            ]
            expected[name].append(numbers)
    for name, rows in expected.items():
        for metric, value in zip(("psnr", "nrmse", "pearson"), np.mean(rows, axis=0), strict=True):
            assert method.logged[f"val/{metric}_{name}"] == pytest.approx(value, rel=1e-4)
        assert 0 < method.logged[f"val/ms_ssim_{name}"] < 1
    assert all(type(value) is float for value in method.logged.values())
    assert not any("lpips" in key for key in method.logged)
    assert [path.name for path in tmp_path.glob("*.png")] == ["samples_0000012.png"]


def test_a_small_crop_has_no_ms_ssim(tmp_path):
    method = FakeMethod()
    SampledValidation(str(tmp_path), crop=64).on_validation_epoch_end(FakeTrainer(), method)
    assert "val/psnr_single" in method.logged and "val/ms_ssim_single" not in method.logged


@pytest.mark.parametrize(
    ("trainer", "drawn"),
    [
        (FakeTrainer(sanity_checking=True), False),
        (FakeTrainer(current_epoch=3), False),
        (FakeTrainer(current_epoch=4), True),
        (FakeTrainer(current_epoch=3, global_step=100), True),
    ],
)
def test_when_it_draws(tmp_path, trainer, drawn):
    method = FakeMethod()
    callback = SampledValidation(str(tmp_path), every_n_epochs=5, crop=32)
    before = dict(vars(callback))
    callback.on_validation_epoch_end(trainer, method)
    assert bool(method.logged) == drawn and bool(list(tmp_path.glob("*.png"))) == drawn
    assert vars(callback) == before, "nothing is kept"


def test_two_processes_log_what_one_does(tmp_path):
    """Three images in two processes: unequal shares."""
    method = FakeMethod()
    SampledValidation(str(tmp_path / "alone"), images=3, crop=64).on_validation_epoch_end(
        FakeTrainer(), method
    )
    script = Path(__file__).with_name("gloo_samples.py")
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=120)
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == method.logged
    assert (tmp_path / "alone" / "samples_0000012.png").read_bytes() == (
        tmp_path / "together" / "samples_0000012.png"
    ).read_bytes()
