"""The averaging law: identities over all subsets, calibrated posteriors, and what it says about N."""

import itertools
import math

import numpy as np
import pytest
import torch

from ddpm_lightning.metrics.averaging_law import AveragingLaw, averaging_law, fit_averaging_law


def posterior(number: int = 15, factor: float = 1.0, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 200, 200)
    mean, target = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    return {
        "samples": mean + factor * torch.randn(number, *shape, generator=generator),
        "target": mean + target,
    }


def test_the_law_is_the_mean_over_all_subsets() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(5, 1, 3, 3, generator=generator, dtype=torch.float64) + 0.4
    target = torch.randn(1, 3, 3, generator=generator, dtype=torch.float64)
    law = averaging_law(samples=samples, target=target)
    for number in range(1, 6):
        subsets = itertools.combinations(range(5), number)
        errors = [(samples[list(subset)].mean(dim=0) - target).square().mean().item() for subset in subsets]
        assert law.error(number) == pytest.approx(np.mean(errors))


@pytest.mark.parametrize("number", [3, 15])
def test_samples_of_the_true_posterior_have_ratio_one(number: int) -> None:
    law = averaging_law(**posterior(number))
    assert law.ratio == pytest.approx(1, rel=0.05)
    assert law.a == pytest.approx(1, rel=0.03)
    assert law.gain(math.inf) == pytest.approx(3.01, abs=0.1)
    assert law.gain(15) == pytest.approx(2.73, abs=0.1)


@pytest.mark.parametrize(("factor", "ratio"), [(0.5, 0.25), (2.0, 4.0)])
def test_a_wrong_standard_deviation_shows_in_the_ratio(factor: float, ratio: float) -> None:
    assert averaging_law(**posterior(factor=factor)).ratio == pytest.approx(ratio, rel=0.1)


def test_the_figures_of_a_calibrated_law() -> None:
    law = AveragingLaw(a=2.0, b=2.0)
    assert law.ratio == 1
    assert law.error(1) == 2 * law.error(math.inf)
    assert law.gain(math.inf) == pytest.approx(10 * math.log10(2))
    assert law.gain(15) == pytest.approx(10 * math.log10(2 / (1 + 1 / 15)))
    assert law.remaining(15) == pytest.approx(10 * math.log10(1 + 1 / 15))
    assert law.gain(15) + law.remaining(15) == pytest.approx(law.gain(math.inf))


@pytest.mark.parametrize("ratio", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("tolerance", [0.05, 0.1, 0.5])
def test_the_number_needed_is_the_least_that_suffices(ratio: float, tolerance: float) -> None:
    law = AveragingLaw(a=0.3, b=0.3 * ratio)
    needed = law.needed(tolerance)
    assert law.suffices(needed, tolerance)
    assert law.remaining(needed) <= tolerance + 1e-9
    if needed > 1:
        assert not law.suffices(needed - 1, tolerance)
        assert law.remaining(needed - 1) > tolerance


def test_without_deviation_one_sample_suffices_and_without_limit_none_does() -> None:
    assert AveragingLaw(a=1.0, b=0.0).needed() == 1
    hopeless = AveragingLaw(a=-0.01, b=1.0)
    assert math.isnan(hopeless.ratio) and math.isnan(hopeless.remaining(15))
    assert hopeless.needed() == math.inf and not hopeless.suffices(1000)


def test_the_fit_recovers_a_law_and_its_residual_shows_when_there_is_none() -> None:
    numbers = [1, 2, 3, 5, 8, 15]
    law = fit_averaging_law(numbers, [0.7 + 0.4 / number for number in numbers])
    assert (law.a, law.b) == pytest.approx((0.7, 0.4))
    assert law.residual < 1e-12
    clamped = fit_averaging_law(numbers, [0.7 + 0.4 / number**3 for number in numbers])
    assert clamped.residual > 0.02


def test_the_fit_of_measured_prefixes_agrees_with_the_closed_form() -> None:
    images = posterior()
    numbers = [1, 2, 4, 8, 15]
    errors = [
        (images["samples"][:number].mean(dim=0) - images["target"]).square().mean().item()
        for number in numbers
    ]
    measured, exact = fit_averaging_law(numbers, errors), averaging_law(**images)
    assert (measured.a, measured.b) == pytest.approx((exact.a, exact.b), rel=0.03)
    assert measured.residual < 0.02


@pytest.mark.parametrize(("numbers", "errors"), [([1], [1.0]), ([2, 2], [1.0, 1.0]), ([1, 2], [1.0])])
def test_too_little_for_a_fit_is_refused(numbers: list[int], errors: list[float]) -> None:
    with pytest.raises(ValueError, match="two"):
        fit_averaging_law(numbers, errors)
