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
from ddpm_lightning.metrics.linearity import Intercept, Slope, TotalIntensityRatio, linearity
from ddpm_lightning.metrics.mae import MAE, mae
from ddpm_lightning.metrics.nrmse import NRMSE, nrmse
from ddpm_lightning.metrics.pearson import Pearson, pearson
from ddpm_lightning.metrics.per_image import PerImageMetric, checked_pair
from ddpm_lightning.metrics.psnr import PSNR, ScaleInvariantPSNR, psnr, scale_invariant_psnr
from ddpm_lightning.metrics.spectrum import HighFrequencyRatio, high_frequency_ratio
from ddpm_lightning.metrics.ssim import MSSSIM, SSIM, ms_ssim, ssim

CASES = [
    (MAE, {}, mae),
    (PSNR, {"data_range": 2.0}, psnr),
    (ScaleInvariantPSNR, {}, scale_invariant_psnr),
    (SSIM, {"data_range": 2.0}, ssim),
    (MSSSIM, {"data_range": 2.0, "betas": (0.3, 0.3, 0.4)}, ms_ssim),
    (NRMSE, {"by": "mean"}, nrmse),
    (Pearson, {}, pearson),
    (Slope, {}, lambda **images: linearity(**images).slope),
    (Intercept, {}, lambda **images: linearity(**images).intercept),
    (TotalIntensityRatio, {}, lambda **images: linearity(**images).total_intensity_ratio),
    (HighFrequencyRatio, {"cutoff": 0.2}, high_frequency_ratio),
]


def pairs_of_many_sizes() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 1, 48, 48), (1, 1, 64, 50), (4, 1, 45, 80)]
    targets = [torch.rand(shape, generator=generator) for shape in shapes]
    noise = [0.1 * torch.rand(shape, generator=generator) for shape in shapes]
    return [{"prediction": y + e, "target": y} for y, e in zip(targets, noise, strict=True)]


@pytest.mark.parametrize(
    ("metric", "settings", "function"), CASES, ids=lambda case: getattr(case, "__name__", "")
)
def test_classes_average_their_function_over_images(metric: type, settings: dict, function: object) -> None:
    accumulated = metric(**settings)
    values = []
    for pair in pairs_of_many_sizes():
        accumulated.update(**pair)
        values.append(function(**pair, **settings))
    torch.testing.assert_close(accumulated.compute(), torch.cat(values).mean().double())
    assert accumulated.count == 7
    assert accumulated.skipped == 0


def test_values_that_are_not_finite_are_left_out_and_counted() -> None:
    target = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    prediction = target.clone()
    prediction[0] += 0.1
    metric = PSNR(data_range=1.0)
    metric.update(prediction=prediction, target=target)
    assert metric.compute().item() == pytest.approx(20.0, abs=1e-5)
    assert (metric.count.item(), metric.skipped.item()) == (1, 2)


def test_no_finite_value_gives_nan_and_reset_forgets() -> None:
    metric = Pearson()
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


def test_data_range_may_be_given_for_each_batch() -> None:
    pair = pairs_of_many_sizes()[0]
    data_range = torch.tensor([1.0, 10.0])
    metric = PSNR()
    metric.update(**pair, data_range=data_range)
    torch.testing.assert_close(metric.compute(), psnr(**pair, data_range=data_range).mean())


def test_classes_live_in_a_collection_and_survive_pickling() -> None:
    collection = pickle.loads(pickle.dumps(MetricCollection({"mae": MAE(), "psnr": PSNR(data_range=1.0)})))
    pair = pairs_of_many_sizes()[0]
    collection.update(**pair)
    assert collection.compute()["mae"].item() == pytest.approx(mae(**pair).mean().item())


@pytest.mark.parametrize("metric", [PSNR, NRMSE, SSIM, MSSSIM])
def test_a_missing_scale_is_an_error_and_not_a_guess(metric: type[PerImageMetric]) -> None:
    with pytest.raises(TypeError, match="missing"):
        metric().update(**pairs_of_many_sizes()[0])


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="data_rnage"):
        PSNR(data_rnage=1.0)


@pytest.mark.parametrize(
    ("one", "other"), [((1, 1, 4, 4), (1, 1, 4, 5)), ((4, 4), (4, 4)), ((2, 1, 4, 4), (1, 1, 4, 4))]
)
def test_shapes_that_do_not_match_are_named(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one shape"):
        checked_pair(prediction=torch.zeros(one), target=torch.zeros(other))


@pytest.mark.slow
def test_three_processes_with_unequal_shares_agree_with_one(tmp_path: Path) -> None:
    torch.save(pairs_of_many_sizes(), tmp_path / "pairs.pt")
    script = Path(__file__).with_name("gloo_gather.py")
    package = {"PYTHONPATH": str(Path(ddpm_lightning.__file__).parents[1])}
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=120, env=os.environ | package)
    expected = []
    for function, settings in ((mae, {}), (pearson, {}), (nrmse, {"by": "range"})):
        values = torch.cat([function(**pair, **settings) for pair in pairs_of_many_sizes()])
        expected.append(values.mean())
    for rank in range(3):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, rtol=1e-12, atol=0)
