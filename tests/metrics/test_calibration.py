"""Calibration on analytic Gaussian posteriors: right samples pass, halved and doubled spread is seen by every
measure."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from ddpm_lightning.metrics.calibration import (
    LEVELS,
    binned_calibration,
    checked_samples,
    coverage_curve,
    crps,
    prediction_interval,
    quantile_calibration_error,
    rank_divergence,
    rank_histogram,
    spread_skill,
)


def posterior(
    number: int = 15, factor: float = 1.0, bias: float = 0.0, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Samples and truth of 160 x 160 pixels with a Gaussian posterior each, standard deviation 0.2 to 2.

    ``factor`` scales the spread of the samples and ``bias`` shifts them; (1, 0) are samples of the true
    posterior.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 160, 160)
    mean = torch.randn(shape, generator=generator)
    std = 0.2 * 10 ** torch.rand(shape, generator=generator)
    target = mean + std * torch.randn(shape, generator=generator)
    return {
        "samples": mean + bias + factor * std * torch.randn(number, *shape, generator=generator),
        "target": target,
    }


@pytest.mark.parametrize("number", [2, 5, 15, 100])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_the_coverage_is_nominal_for_any_number_of_samples(number: int, level: float) -> None:
    assert prediction_interval(**posterior(number), level=level).coverage == pytest.approx(level, abs=0.01)


@pytest.mark.parametrize("name", ["exponential", "laplace", "uniform", "lognormal"])
def test_the_coverage_of_other_shapes_is_close_and_that_of_sample_quantiles_is_not(name: str) -> None:
    rng = np.random.default_rng(0)
    samples, target = getattr(rng, name)(size=(15, 1, 300, 300)), getattr(rng, name)(size=(1, 300, 300))
    found = prediction_interval(samples=torch.tensor(samples), target=torch.tensor(target), level=0.9)
    assert found.coverage == pytest.approx(0.9, abs=0.045)
    low, high = np.quantile(samples, (0.05, 0.95), axis=0)
    assert ((low <= target) & (target <= high)).mean() < 0.82


@pytest.mark.parametrize("number", [3, 15])
def test_the_coverage_curve_is_the_diagonal(number: int) -> None:
    curve = coverage_curve(**posterior(number))
    np.testing.assert_allclose(curve, LEVELS, atol=0.01)
    assert quantile_calibration_error(curve) < 0.005


def test_the_coverage_of_a_halved_standard_deviation_is_the_analytic_one() -> None:
    found = coverage_curve(**posterior(300, factor=0.5), levels=(0.5, 0.9))
    expected = [2 * norm.cdf(0.5 * norm.ppf((1 + level) / 2)) - 1 for level in (0.5, 0.9)]
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_width_and_score_of_the_interval() -> None:
    samples = torch.tensor([-1.0, 1.0])[:, None, None, None].expand(2, 1, 1, 4)
    target = torch.tensor([0.0, 0.0, 100.0, -100.0]).reshape(1, 1, 4)
    found = prediction_interval(samples=samples, target=target, level=0.9)
    half = 6.313751514675 * np.sqrt(2) * np.sqrt(1.5)
    assert found.coverage == 0.5
    assert found.width == pytest.approx(2 * half)
    assert found.score == pytest.approx(2 * half + 2 / 0.1 * (100 - half) / 2)


@pytest.mark.parametrize("number", [4, 15])
def test_the_rank_histogram_of_right_samples_is_flat(number: int) -> None:
    histogram = rank_histogram(**posterior(number))
    assert histogram.shape == (number + 1,)
    assert histogram.sum().item() == pytest.approx(1)
    np.testing.assert_allclose(histogram, 1 / (number + 1), atol=4 * np.sqrt(1 / (number + 1) / 160**2))
    assert rank_divergence(histogram) < 1e-3


def test_the_rank_histogram_counts() -> None:
    samples = torch.tensor([1.0, 2.0, 3.0])[:, None, None, None].expand(3, 1, 1, 5)
    target = torch.tensor([0.0, 1.5, 2.5, 9.0, 2.0]).reshape(1, 1, 5)
    # The last truth equals the second draw: half below it, half above.
    expected = torch.tensor([1.0, 1.5, 1.5, 1.0], dtype=torch.float64) / 5
    torch.testing.assert_close(rank_histogram(samples=samples, target=target), expected)


def test_ties_of_a_black_background_keep_the_histogram_flat() -> None:
    histogram = rank_histogram(samples=torch.zeros(15, 1, 8, 8), target=torch.zeros(1, 8, 8))
    assert rank_divergence(histogram) == pytest.approx(0, abs=1e-12)


def test_the_rank_divergence_is_that_of_scipy_and_survives_empty_ranks() -> None:
    histogram = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)
    expected = 0.5 * np.log(2) + 0.5 * np.log(1)
    assert rank_divergence(histogram) == pytest.approx(expected)


def test_crps_is_the_sum_written_out() -> None:
    rng = np.random.default_rng(0)
    samples, target = rng.normal(size=(6, 1, 3, 4)), rng.normal(size=(1, 3, 4))
    distance = np.abs(samples - target).mean()
    pairs = sum(np.abs(one - two).mean() for one in samples for two in samples)
    found = crps(samples=torch.tensor(samples), target=torch.tensor(target))
    assert found == pytest.approx(distance - pairs / (2 * 6 * 5))


@pytest.mark.parametrize("number", [2, 15])
def test_crps_is_fair_and_equals_closed_form_and_integral(number: int) -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(number, 1, 200, 200, generator=generator)
    expected = 0.7 * (2 * norm.cdf(0.7) - 1) + 2 * norm.pdf(0.7) - 1 / np.sqrt(np.pi)
    assert expected == pytest.approx(quad(lambda x: (norm.cdf(x) - (x >= 0.7)) ** 2, -8, 8, points=[0.7])[0])
    assert crps(samples=samples, target=torch.full((1, 200, 200), 0.7)) == pytest.approx(expected, abs=0.02)


def test_the_crps_of_one_sample_is_its_mean_absolute_error() -> None:
    images = posterior(1)
    assert crps(**images) == pytest.approx((images["samples"][0] - images["target"]).abs().mean().item())


def test_spread_and_skill_of_correct_samples_are_equal() -> None:
    for number in (2, 15):
        spread, skill = spread_skill(**posterior(number))
        assert spread == pytest.approx(skill, rel=0.03)


def test_bins_of_many_samples_are_on_the_diagonal() -> None:
    found = binned_calibration(**posterior(300))
    np.testing.assert_allclose(found.error, found.spread, rtol=0.1)
    assert found.ence < 0.04
    assert (found.spread.diff() > 0).all()
    assert binned_calibration(**posterior(300), bins=7).spread.shape == (7,)


@pytest.mark.parametrize("number", [5, 15])
def test_every_measure_detects_a_halved_standard_deviation(number: int) -> None:
    right, halved = posterior(number), posterior(number, factor=0.5)
    assert prediction_interval(**halved).coverage < 0.72
    assert prediction_interval(**halved).score > 1.05 * prediction_interval(**right).score
    errors = [quantile_calibration_error(coverage_curve(**images)) for images in (right, halved)]
    assert errors[1] > 0.15 > 10 * errors[0]
    bins = [binned_calibration(**images) for images in (right, halved)]
    assert bins[1].ence > 2 * bins[0].ence
    assert bins[1].uce > 2 * bins[0].uce
    assert crps(**halved) > 1.05 * crps(**right)
    ranks = rank_histogram(**halved)
    assert rank_divergence(ranks) > 0.1
    assert min(ranks[0], ranks[-1]) > 2 * ranks[number // 2]
    spread, skill = spread_skill(**halved)
    assert spread / skill == pytest.approx(0.5, abs=0.05)


def test_a_doubled_standard_deviation_makes_a_hill_and_wide_intervals() -> None:
    doubled = posterior(factor=2.0)
    ranks = rank_histogram(**doubled)
    assert max(ranks[0], ranks[-1]) < 0.5 * ranks[7]
    assert prediction_interval(**doubled).coverage > 0.97
    assert crps(**doubled) > 1.05 * crps(**posterior())


def test_a_bias_makes_a_slope() -> None:
    ranks = rank_histogram(**posterior(bias=1.0))
    assert ranks[0] > 5 * ranks[-1]


def test_samples_without_deviation_and_error_do_not_crash() -> None:
    images = {"samples": torch.zeros(3, 1, 8, 8), "target": torch.zeros(1, 8, 8)}
    assert prediction_interval(**images).coverage == 1.0
    assert np.isnan(binned_calibration(**images).ence)
    assert binned_calibration(**images).uce == 0.0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 samples"):
        checked_samples(samples=torch.zeros(1, 1, 4, 4), target=torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="images differ"):
        checked_samples(samples=torch.zeros(3, 1, 4, 4), target=torch.zeros(1, 4, 5))
    with pytest.raises(ValueError, match="images differ"):
        checked_samples(samples=torch.zeros(3, 1, 2, 8), target=torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="level"):
        prediction_interval(**posterior(2), level=1.0)
