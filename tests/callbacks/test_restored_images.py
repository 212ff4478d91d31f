"""The numbers of the sampled validation against numpy, in one process and in two."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_lightning.callbacks.restored_images import SampledValidation
from ddpm_lightning.cli import compose, train
from ddpm_lightning.metrics.collection import perceptual_metric
from tests.callbacks.gloo_samples import FakeMethod, FakeTrainer, pairs, scale
from tests.conftest import write_pairs
from tests.trained import TINY


@pytest.fixture(autouse=True)
def no_backbone(monkeypatch, tmp_path):
    monkeypatch.setenv("DDPM_LIGHTNING_CACHE", str(tmp_path))


def test_numbers_are_means_over_the_images(tmp_path):
    method = FakeMethod()
    SampledValidation(str(tmp_path), images=3, crop=180, samples=4).on_validation_epoch_end(
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
    method, trainer = FakeMethod(), FakeTrainer()
    callback = SampledValidation(str(tmp_path), crop=64)
    callback.on_validation_epoch_end(trainer, method)
    assert "val/psnr_single" in method.logged and "val/ms_ssim_single" not in method.logged
    lpips, ms_ssim = trainer.printed
    assert (
        "val/lpips is absent: no backbone" in lpips
        and "val/ms_ssim is absent: needs at least 176 px" in ms_ssim
    )
    callback.on_validation_epoch_end(trainer, method)
    assert len(trainer.printed) == 2, "said once"
    quiet = FakeTrainer()
    SampledValidation(str(tmp_path), crop=180, lpips=False).on_validation_epoch_end(quiet, method)
    assert quiet.printed == [], "LPIPS is not wanted"


@pytest.mark.parametrize(
    ("trainer", "drawn"),
    [
        (FakeTrainer(sanity_checking=True), False),
        (FakeTrainer(current_epoch=3), False),
        (FakeTrainer(current_epoch=4), True),
        (FakeTrainer(current_epoch=3, global_step=100), True),
    ],
)
def test_when_it_samples(tmp_path, trainer, drawn):
    method = FakeMethod()
    callback = SampledValidation(str(tmp_path), every_n_epochs=5, crop=32)
    callback.on_validation_epoch_end(trainer, method)
    assert bool(method.logged) == drawn and bool(list(tmp_path.glob("*.png"))) == drawn


class BetterMethod(FakeMethod):
    """Errs half as much."""

    def sample(self, low, noise, apply=None):
        return (low + super().sample(low, noise)) / 2


def test_nothing_is_kept_from_the_epoch_before(tmp_path):
    later, alone = BetterMethod(), BetterMethod()
    callback = SampledValidation(str(tmp_path), crop=32, images=1)
    callback.on_validation_epoch_end(FakeTrainer(), FakeMethod())
    callback.on_validation_epoch_end(FakeTrainer(current_epoch=9), later)
    SampledValidation(str(tmp_path), crop=32, images=1).on_validation_epoch_end(FakeTrainer(), alone)
    assert later.logged == alone.logged != {}


@pytest.mark.slow
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


def test_a_real_training_writes_every_number_of_every_epoch(shared, tmp_path, monkeypatch):
    """All five for both estimators at two epochs, none of the sanity check, and none of LPIPS's weights anywhere."""
    monkeypatch.setenv("DDPM_LIGHTNING_CACHE", str(shared / "weights"))
    pairs = write_pairs(tmp_path / "pairs", size=176)
    run = tmp_path / "run"
    overrides = [
        *TINY,
        "data=folder",
        f"data.root={pairs}",
        "data.batch_size=4",
        "data.validation_crops=2",
        f"run_folder={run}",
        "trainer=cpu",
        "trainer.max_steps=2",
        "trainer.num_sanity_val_steps=1",
        "callbacks.images.every_n_epochs=1",
        "callbacks.images.samples=2",
        "data.crops_per_image=1",
    ]
    monkeypatch.delenv(train.FOLDER_VARIABLE, raising=False)
    names = {"model": "ddpm_small", "data": "folder"}
    with train.prepare(compose.compose("train", overrides), names) as settings:
        os.environ.pop(train.FOLDER_VARIABLE)
        best = train.train(settings).best
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/psnr_single"]]
    assert [float(row["epoch"]) for row in rows] == [0, 1]
    for row in rows:
        for metric in ("psnr", "ms_ssim", "lpips", "nrmse", "pearson"):
            for name in ("single", "average"):
                assert np.isfinite(float(row[f"val/{metric}_{name}"])), (metric, name)
    assert len(list((run / "figures").glob("samples_*.png"))) == 2
    weights = torch.load(best, weights_only=True)
    lpips = {tuple(p.shape) for p in perceptual_metric()._network.net.parameters() if p.dim() == 4}
    kept = [*weights["state_dict"].values(), *weights["current_model_state"].values()]
    assert not lpips & {tuple(tensor.shape) for tensor in kept}
