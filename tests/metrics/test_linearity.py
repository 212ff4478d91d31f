"""Slope, intercept and total intensity against scipy and known mixtures."""

import numpy as np
import pytest
import torch
from scipy.stats import linregress

from ddpm_lightning.metrics.linearity import linearity


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (3, 2, 9, 25)])
def test_linearity_agrees_with_scipy(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    target = rng.gamma(2.0, 10.0, shape)
    prediction = 0.7 * target + 4 + rng.normal(0, 5, shape)
    found = linearity(prediction=torch.tensor(prediction), target=torch.tensor(target))
    for index in range(shape[0]):
        expected = linregress(target[index].ravel(), prediction[index].ravel())
        assert found.slope[index].item() == pytest.approx(expected.slope)
        assert found.intercept[index].item() == pytest.approx(expected.intercept)
        ratio = prediction[index].sum() / target[index].sum()
        assert found.total_intensity_ratio[index].item() == pytest.approx(ratio)


def test_noise_of_the_prediction_does_not_lower_the_slope() -> None:
    generator = torch.Generator().manual_seed(0)
    target = 10 * torch.rand(1, 1, 200, 200, generator=generator)
    noisy = target + 5 * torch.randn(target.shape, generator=generator)
    assert linearity(prediction=noisy, target=target).slope.item() == pytest.approx(1.0, abs=0.03)


def test_constant_and_empty_targets_are_not_defined() -> None:
    prediction = torch.rand(1, 1, 8, 8)
    constant = linearity(prediction=prediction, target=torch.full((1, 1, 8, 8), 0.1))
    assert constant.slope.isnan().all() and constant.intercept.isnan().all()
    assert constant.total_intensity_ratio.isfinite().all()
    assert (
        linearity(prediction=prediction, target=torch.zeros(1, 1, 8, 8)).total_intensity_ratio.isnan().all()
    )
