"""The metrics that validation logs: against numpy and ``score``, in one process and in two, within their budget."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.image import UniversalImageQualityIndex

from ddpm_lightning.callbacks.validation_metrics import ValidationMetrics
from ddpm_lightning.cli import compose, train
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.metrics.collection import perceptual_metric, score
from ddpm_lightning.models.presets import Preset
from ddpm_lightning.training.fit import start_run
from ddpm_lightning.utils.errors import UserError
from tests.callbacks.gloo_samples import FakeMethod, FakeTrainer, pairs, scale
from tests.conftest import write_pairs
from tests.trained import TINY

FIVE = ("psnr", "ms_ssim", "lpips", "nrmse", "pearson")


@pytest.fixture(autouse=True)
def no_backbone(monkeypatch, tmp_path):
    monkeypatch.setenv("DDPM_LIGHTNING_CACHE", str(tmp_path))


def test_numbers_are_means_over_the_images(tmp_path):
    method = FakeMethod()
    ValidationMetrics(str(tmp_path), images=3, crop=180, samples=4).on_validation_epoch_end(
        FakeTrainer(), method
    )
    expected = {"": [], "_single": []}
    for pair in (pairs()[0], pairs()[2], pairs()[4]):
        low, high = (scale(image)[:180, :180] for image in (pair.low, pair.high))
        for suffix, error in (("_single", 0.1), ("", np.mean([0.1, 0.2, 0.3, 0.4]))):
            restored = low + np.float32(error) * np.arange(180, dtype=np.float32) / 180
            images = (torch.from_numpy(image)[None, None] for image in (restored, high))
            expected[suffix].append(score(*images, "range").values)
            mse = ((restored - high).astype(float) ** 2).mean()
            reach = float(high.max()) - float(high.min())
            assert expected[suffix][-1]["psnr"] == pytest.approx(10 * np.log10(reach**2 / mse), rel=1e-6)
    for suffix, rows in expected.items():
        for metric in ("psnr", "ms_ssim", "nrmse", "pearson"):
            mean = np.mean([row[metric] for row in rows])
            assert method.logged[f"val/{metric}{suffix}"] == pytest.approx(mean, rel=1e-5), metric
    assert all(type(value) is float for value in method.logged.values())
    assert not any("lpips" in key for key in method.logged)
    assert [path.name for path in tmp_path.glob("*.png")] == ["samples_0000012.png"]


def test_a_small_crop_has_no_ms_ssim(tmp_path):
    method, trainer = FakeMethod(), FakeTrainer()
    callback = ValidationMetrics(str(tmp_path), crop=64)
    callback.on_validation_epoch_end(trainer, method)
    assert "val/psnr_single" in method.logged and "val/ms_ssim_single" not in method.logged
    lpips, ms_ssim = trainer.printed
    assert lpips.startswith("val/lpips") and "prepare lpips" in lpips
    assert ms_ssim.startswith("val/ms_ssim") and "176" in ms_ssim
    callback.budget.start()
    callback.on_validation_epoch_end(trainer, method)
    assert len(trainer.printed) == 2, "said once"
    quiet = FakeTrainer()
    ValidationMetrics(str(tmp_path), crop=180, lpips=False).on_validation_epoch_end(quiet, method)
    assert quiet.printed == [], "LPIPS is not wanted"


class Clock:
    """Moves only when it is told to, and by ``cost`` whenever images are restored."""

    def __init__(self):
        self.now, self.cost = 0.0, 0.0

    def __call__(self):
        return self.now


class SlowMethod(FakeMethod):
    """Takes the time that its clock says."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def sample(self, low, noise, apply=None):
        self.clock.now += self.clock.cost
        return super().sample(low, noise)


def scored_epochs(folder: Path, epoch: float, cost: float, **settings) -> tuple[list[int], list[str], float]:
    """Returns the epochs of a run of 60 that were scored, what was printed, and the share of the time."""
    clock, scored = Clock(), []
    clock.cost = cost
    callback = ValidationMetrics(str(folder), images=1, samples=1, crop=32, lpips=False, **settings)
    callback.budget.clock = clock
    trainer, method = FakeTrainer(), SlowMethod(clock)
    callback.on_train_start(trainer, method)
    for number in range(60):
        clock.now += epoch
        trainer.current_epoch, trainer.global_step = number, number + 1
        trainer.estimated_stepping_batches = 60
        method.logged.clear()
        callback.on_validation_epoch_end(trainer, method)
        if method.logged:
            scored.append(number)
    return scored, trainer.printed, callback.budget.spent / clock.now


def test_long_epochs_are_all_scored(tmp_path):
    scored, printed, share = scored_epochs(tmp_path, epoch=100, cost=9)
    assert scored == list(range(60)) and share <= 0.1
    assert not any("budget" in line for line in printed)
    assert len(list(tmp_path.glob("*.png"))) == 13, "the first, every fifth, and the last"


def test_short_epochs_are_skipped_within_the_budget_and_it_is_said_once(tmp_path):
    scored, printed, share = scored_epochs(tmp_path, epoch=10, cost=5)
    assert scored[0] == 0 and scored[-1] == 59 and 10 <= len(scored) <= 14
    assert share <= 0.1 + 5 / 600, "the last validation is scored in any case"
    (line,) = [line for line in printed if "callbacks.images.budget" in line]
    assert "5.0 s" in line and "10%" in line
    assert scored_epochs(tmp_path, epoch=10, cost=50, budget=1)[0] == list(range(60))


def test_a_sanity_check_is_not_scored(tmp_path):
    method = FakeMethod()
    ValidationMetrics(str(tmp_path)).on_validation_epoch_end(FakeTrainer(sanity_checking=True), method)
    assert not method.logged and not list(tmp_path.iterdir())


@pytest.mark.parametrize("budget", [0, -1.0])
def test_a_budget_of_nothing_is_refused(tmp_path, budget):
    with pytest.raises(UserError) as error:
        ValidationMetrics(str(tmp_path), budget=budget)
    assert error.value.subject == "callbacks.images.budget" and error.value.remedy


class Regressor(FakeMethod):
    deterministic = True


def test_a_method_without_samples_has_one_number_for_each_metric(tmp_path):
    method = Regressor()
    ValidationMetrics(str(tmp_path), crop=180).on_validation_epoch_end(FakeTrainer(), method)
    assert sorted(method.logged) == ["val/ms_ssim", "val/nrmse", "val/pearson", "val/psnr"]


def test_a_metric_of_torchmetrics_is_logged_beside_ours(tmp_path):
    method = FakeMethod()
    own = {"uqi": UniversalImageQualityIndex()}
    ValidationMetrics(str(tmp_path), metrics=own).on_validation_epoch_end(FakeTrainer(), method)
    assert 0 < method.logged["val/uqi"] < 1 and 0 < method.logged["val/uqi_single"] < 1


def trainer_with(pair: Pair) -> FakeTrainer:
    trainer = FakeTrainer()
    trainer.datamodule.pairs = lambda split: [pair]
    return trainer


def test_images_without_a_number_say_why(tmp_path):
    low = pairs()[0].low
    for pair, reason in (
        (Pair(low, np.full_like(low, 7), "flat", "0"), "constant"),
        (Pair(low, low, "alone", "0", paired=False), "no clean partners"),
    ):
        method, trainer = FakeMethod(), trainer_with(pair)
        ValidationMetrics(str(tmp_path), lpips=False).on_validation_epoch_end(trainer, method)
        assert not method.logged and reason in trainer.printed[0]


class Sampled(FakeMethod):
    """Offers a preset with a sampler."""

    presets = {
        "few": Preset(1, "few steps", {"_target_": "ddpm_lightning.diffusion.samplers.DDIM", "steps": 2}),
        "many": Preset(1, "many", {"_target_": "ddpm_lightning.diffusion.samplers.DDIM", "steps": 9}),
    }
    sampler = None
    used: list = []

    def sample(self, low, noise, apply=None):
        self.used.append(self.sampler.steps)
        return super().sample(low, noise)


def test_samples_are_made_as_in_a_preset_and_the_model_keeps_its_sampler(tmp_path):
    method = Sampled()
    ValidationMetrics(str(tmp_path), crop=32).on_validation_epoch_end(FakeTrainer(), method)
    assert set(method.used) == {2} and method.sampler is None
    method.used.clear()
    ValidationMetrics(str(tmp_path), crop=32, preset="many").on_validation_epoch_end(FakeTrainer(), method)
    assert set(method.used) == {9}
    with pytest.raises(UserError) as error:
        ValidationMetrics(str(tmp_path), preset="none").on_validation_epoch_end(FakeTrainer(), method)
    assert error.value.subject == "callbacks.images.preset" and "few, many" in error.value.allowed


class BetterMethod(FakeMethod):
    """Errs half as much."""

    def sample(self, low, noise, apply=None):
        return (low + super().sample(low, noise)) / 2


def test_nothing_is_kept_from_the_epoch_before(tmp_path):
    later, alone = BetterMethod(), BetterMethod()
    callback = ValidationMetrics(str(tmp_path), crop=32, images=1, budget=1)
    callback.on_validation_epoch_end(FakeTrainer(), FakeMethod())
    callback.on_validation_epoch_end(FakeTrainer(current_epoch=9), later)
    ValidationMetrics(str(tmp_path), crop=32, images=1).on_validation_epoch_end(FakeTrainer(), alone)
    assert later.logged == alone.logged != {}


@pytest.mark.slow
def test_two_processes_log_what_one_does(tmp_path):
    """Three images in two processes: unequal shares."""
    method = FakeMethod()
    ValidationMetrics(str(tmp_path / "alone"), images=3, crop=64).on_validation_epoch_end(
        FakeTrainer(), method
    )
    script = Path(__file__).with_name("gloo_samples.py")
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=120)
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(method.logged, rel=1e-12)
    assert (tmp_path / "alone" / "samples_0000012.png").read_bytes() == (
        tmp_path / "together" / "samples_0000012.png"
    ).read_bytes()


def test_a_real_training_writes_every_number_of_every_epoch(shared, tmp_path, monkeypatch):
    """All five of average and single sample in two epochs, none of the sanity check; no weights of LPIPS anywhere."""
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
        "callbacks.images.budget=1",
        "callbacks.images.samples=2",
        "data.crops_per_image=1",
    ]
    names = {"model": "ddpm_small", "data": "folder"}
    best = start_run(train.new_settings(compose.compose("train", overrides), names)).best
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/psnr"]]
    assert [float(row["epoch"]) for row in rows] == [0, 1]
    for row in rows:
        for metric in FIVE:
            for suffix in ("", "_single"):
                assert np.isfinite(float(row[f"val/{metric}{suffix}"])), (metric, suffix)
    assert len(list((run / "figures").glob("samples_*.png"))) == 2
    weights = torch.load(best, weights_only=True)
    lpips = {tuple(p.shape) for p in perceptual_metric()._network.net.parameters() if p.dim() == 4}
    kept = [*weights["state_dict"].values(), *weights["current_model_state"].values()]
    assert not lpips & {tuple(tensor.shape) for tensor in kept}
