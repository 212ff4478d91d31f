"""Accumulation: per image, any size, any number of processes, non-finite values counted."""

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchmetrics import MetricCollection

import ddpm_lightning
from ddpm_lightning.metrics.mae import mae
from ddpm_lightning.metrics.nrmse import nrmse
from ddpm_lightning.metrics.pearson import pearson
from ddpm_lightning.metrics.per_image import MetricUndefined, checked_pair
from ddpm_lightning.metrics.psnr import psnr
from ddpm_lightning.metrics.ssim import ms_ssim
from ddpm_lightning.metrics.torchmetrics_classes import (
    NRMSE,
    PSNR,
    PearsonCorrelation,
    PerImageMetric,
    training_metrics,
)


class MAE(PerImageMetric):
    """A metric of somebody else: one value per image is all that it has to give."""

    def values(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (prediction - target).abs().flatten(1).mean(dim=1)


def clamped_ms_ssim(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return ms_ssim(prediction=prediction.clamp(0, 1), target=target.clamp(0, 1), data_range=1.0)


FUNCTIONS = {
    "psnr": lambda **images: psnr(**images, data_range=1.0),
    "ms_ssim": clamped_ms_ssim,
    "nrmse": lambda **images: nrmse(**images, by="range"),
    "pearson": pearson,
}


def pairs_of_many_sizes() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 1, 180, 180), (1, 1, 190, 176), (4, 1, 177, 200)]
    targets = [torch.rand(shape, generator=generator) for shape in shapes]
    noise = [0.1 * torch.rand(shape, generator=generator) for shape in shapes]
    return [{"prediction": y + e, "target": y} for y, e in zip(targets, noise, strict=True)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_classes_average_their_function_over_images(name: str) -> None:
    accumulated, values = training_metrics()[name], []
    for pair in pairs_of_many_sizes():
        accumulated.update(**pair)
        values.append(FUNCTIONS[name](**pair))
    torch.testing.assert_close(accumulated.compute(), torch.cat(values).mean().double())
    assert accumulated.count == 7
    assert accumulated.skipped == 0


def test_a_metric_that_is_undefined_for_these_images_says_why() -> None:
    metric = training_metrics()["ms_ssim"]
    metric.update(torch.rand(2, 1, 48, 48), torch.rand(2, 1, 48, 48))
    assert math.isnan(metric.compute()) and metric.skipped == 2
    with pytest.raises(MetricUndefined) as error:
        ms_ssim(prediction=torch.rand(1, 1, 48, 48), target=torch.rand(1, 1, 48, 48), data_range=1.0)
    assert metric.undefined == str(error.value) != ""


def test_values_that_are_not_finite_are_left_out_and_counted() -> None:
    target = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    prediction = target.clone()
    prediction[0] += 0.1
    metric = PSNR(data_range=1.0)
    metric.update(prediction=prediction, target=target)
    assert metric.compute().item() == pytest.approx(20.0, abs=1e-5)
    assert (metric.count.item(), metric.skipped.item()) == (1, 2)


def test_no_finite_value_gives_nan_and_reset_forgets() -> None:
    metric = PearsonCorrelation()
    metric.update(prediction=torch.zeros(2, 1, 4, 4), target=torch.rand(2, 1, 4, 4))
    assert math.isnan(metric.compute())
    metric.reset()
    assert metric.skipped == 0


def test_forward_returns_the_batch_and_keeps_the_sum() -> None:
    first, second, _ = pairs_of_many_sizes()
    metric = MAE()
    batch = metric(**second)
    metric(**first)
    torch.testing.assert_close(batch, mae(**second)[0])
    torch.testing.assert_close(metric.compute(), torch.cat([mae(**first), mae(**second)]).mean())


def test_classes_live_in_a_collection_and_survive_pickling() -> None:
    collection = pickle.loads(pickle.dumps(MetricCollection({"mae": MAE(), "psnr": PSNR(data_range=1.0)})))
    pair = pairs_of_many_sizes()[0]
    collection.update(**pair)
    assert collection.compute()["mae"].item() == pytest.approx(mae(**pair).mean().item())


@pytest.mark.parametrize("metric", [PSNR, NRMSE])
def test_a_missing_scale_is_an_error_and_not_a_guess(metric: type[PerImageMetric]) -> None:
    with pytest.raises(TypeError, match="missing"):
        metric()


@pytest.mark.parametrize(
    ("one", "other"), [((1, 1, 4, 4), (1, 1, 4, 5)), ((4, 4), (4, 4)), ((2, 1, 4, 4), (1, 1, 4, 4))]
)
def test_shapes_that_do_not_match_are_named(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one shape"):
        checked_pair(prediction=torch.zeros(one), target=torch.zeros(other))


@pytest.mark.slow
def test_three_processes_with_unequal_shards_agree_with_one(tmp_path: Path) -> None:
    torch.save(pairs_of_many_sizes(), tmp_path / "pairs.pt")
    script = Path(__file__).with_name("gloo_gather.py")
    package = {"PYTHONPATH": str(Path(ddpm_lightning.__file__).parents[1])}
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=120, env=os.environ | package)
    expected = {
        name: torch.cat([function(**pair) for pair in pairs_of_many_sizes()]).mean()
        for name, function in FUNCTIONS.items()
    }
    for rank in range(3):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, rtol=1e-12, atol=0)
