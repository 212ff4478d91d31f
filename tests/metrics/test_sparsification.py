"""Sparsification and association against brute force, scipy, and known rankings."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from ddpm_lightning.metrics.sparsification import association, sparsification


def error_and_uncertainty(pixels: int = 10_000, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    std = 0.1 * 10 ** torch.rand(pixels, generator=generator)
    return {"error": (std * torch.randn(pixels, generator=generator)).abs(), "uncertainty": std}


def test_curves_are_those_of_brute_force() -> None:
    maps = error_and_uncertainty(777)
    found = sparsification(**maps)
    error, uncertainty = (maps[name].double().numpy() for name in ("error", "uncertainty"))
    for index, fraction in enumerate(found.fraction.tolist()):
        left = 777 - math.floor(fraction * 777)
        by_uncertainty = error[np.argsort(uncertainty)[:left]].mean() / error.mean()
        assert found.by_uncertainty[index].item() == pytest.approx(by_uncertainty)
        assert found.by_error[index].item() == pytest.approx(np.sort(error)[:left].mean() / error.mean())
    assert found.by_uncertainty[0] == found.by_error[0] == 1


def test_a_perfect_ranking_has_no_area() -> None:
    error = error_and_uncertainty()["error"]
    found = sparsification(error=error, uncertainty=7 * error)
    assert found.ause == pytest.approx(0, abs=1e-12)
    # The mean of the smallest part p of uniform errors is p of the mean of all: the area below 1 is a half.
    uniform = torch.linspace(0, 1, 10_001)
    assert sparsification(error=uniform, uncertainty=uniform).aurg == pytest.approx(0.5, abs=0.01)


def test_a_useless_map_gains_nothing_and_a_reversed_one_loses() -> None:
    maps = error_and_uncertainty()
    noise = torch.rand(10_000, generator=torch.Generator().manual_seed(1))
    assert sparsification(error=maps["error"], uncertainty=noise).aurg == pytest.approx(0, abs=0.05)
    assert sparsification(error=maps["error"], uncertainty=-maps["error"]).aurg < -0.5


def test_the_true_standard_deviation_is_between_the_oracle_and_chance() -> None:
    found = sparsification(**error_and_uncertainty())
    assert 0 < found.ause < 0.5
    assert found.aurg > 0.2


def test_a_scale_of_the_uncertainty_changes_nothing() -> None:
    maps = error_and_uncertainty()
    halved = maps | {"uncertainty": maps["uncertainty"] / 2}
    assert sparsification(**halved).ause == sparsification(**maps).ause
    assert association(**halved).spearman == pytest.approx(association(**maps).spearman)


def test_no_error_at_all_is_not_defined() -> None:
    found = sparsification(error=torch.zeros(100), uncertainty=torch.rand(100))
    assert math.isnan(found.ause) and math.isnan(found.aurg)


@pytest.mark.parametrize("pixels", [2, 50, 10_000])
def test_association_agrees_with_scipy(pixels: int) -> None:
    maps = error_and_uncertainty(pixels)
    found = association(**maps)
    error, uncertainty = (maps[name].double().numpy() for name in ("error", "uncertainty"))
    assert found.spearman == pytest.approx(spearmanr(error, uncertainty).statistic)
    assert found.pearson == pytest.approx(pearsonr(error, uncertainty).statistic)


def test_a_subset_of_many_pixels_gives_the_same_each_time() -> None:
    maps = error_and_uncertainty(300_000)
    found = association(**maps)
    assert found == association(**maps)
    expected = spearmanr(maps["error"].numpy(), maps["uncertainty"].numpy()).statistic
    assert found.spearman == pytest.approx(expected, abs=0.01)


def test_constant_maps_have_no_association() -> None:
    found = association(error=torch.rand(50), uncertainty=torch.ones(50))
    assert math.isnan(found.spearman) and math.isnan(found.pearson)
