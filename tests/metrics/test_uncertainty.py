"""All measures of the samples of one image in one call."""

import math

import numpy as np
import pytest
import torch

from ddpm_lightning.metrics.calibration import crps, rank_histogram
from ddpm_lightning.metrics.uncertainty import assess_samples


def posterior(number: int = 15, factor: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (1, 128, 128)
    mean = torch.randn(shape, generator=generator)
    std = 0.2 * 10 ** torch.rand(shape, generator=generator)
    target = mean + std * torch.randn(shape, generator=generator)
    return {
        "samples": mean + factor * std * torch.randn(number, *shape, generator=generator),
        "target": target,
    }


def test_right_samples_pass_every_test() -> None:
    values = assess_samples(**posterior()).values()
    assert all(math.isfinite(value) for value in values.values())
    assert values["coverage"] == pytest.approx(0.9, abs=0.01)
    assert values["ece"] < 0.01
    assert values["rank_divergence"] < 0.002
    assert values["spread_skill"] == pytest.approx(1, abs=0.03)
    assert values["law_ratio"] == pytest.approx(1, rel=0.05)
    assert values["spearman"] > 0.4
    assert 0 < values["ause"] < 0.4


def test_halved_samples_fail_every_test_of_calibration_and_none_of_ranking() -> None:
    right, halved = assess_samples(**posterior()).values(), assess_samples(**posterior(factor=0.5)).values()
    assert halved["coverage"] < 0.7
    for name in ("ece", "uce", "ence", "rank_divergence"):
        assert halved[name] > 2 * right[name]
    for name in ("crps", "energy_score", "interval_score"):
        assert halved[name] > 1.05 * right[name]
    assert halved["spread_skill"] < 0.6
    assert halved["law_ratio"] == pytest.approx(0.25, rel=0.1)
    assert halved["ause"] == pytest.approx(right["ause"], abs=0.02)


def test_a_predicted_standard_deviation_replaces_that_of_few_samples_in_the_ranking_alone() -> None:
    images = posterior(4)
    exact = torch.from_numpy(np.abs(images["target"].numpy()))
    mean = torch.zeros_like(images["target"])
    plain, predicted = assess_samples(**images), assess_samples(**images, mean=mean, std=exact)
    # A standard deviation that is proportional to the error ranks it without a mistake.
    assert predicted.values()["ause"] == pytest.approx(0, abs=1e-6)
    assert plain.values()["ause"] > 0.1
    assert predicted.values()["spearman"] == pytest.approx(1)
    for name in ("crps", "coverage", "spread_skill"):
        assert predicted.values()[name] == plain.values()[name]


def test_the_call_agrees_with_its_parts() -> None:
    images = posterior(5)
    found = assess_samples(**images, level=0.5)
    assert (found.samples, found.level) == (5, 0.5)
    assert found.crps == crps(**images)
    torch.testing.assert_close(found.ranks, rank_histogram(**images))
    assert found.values()["coverage"] == pytest.approx(0.5, abs=0.02)


def test_perfect_samples_without_deviation_have_no_number_where_none_is_defined() -> None:
    values = assess_samples(samples=torch.ones(3, 1, 8, 8), target=torch.ones(1, 8, 8)).values()
    assert values["crps"] == 0.0 and values["coverage"] == 1.0
    for name in ("spread_skill", "ause", "spearman", "law_ratio", "ence"):
        assert math.isnan(values[name])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pixels_that_are_no_numbers_are_refused(value: float) -> None:
    images = posterior(3)
    images["samples"][1, 0, 0, 0] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        assess_samples(**images)
