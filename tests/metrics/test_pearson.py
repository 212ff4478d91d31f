"""Pearson correlation against scipy, its invariance, and constant images."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from ddpm_lightning.metrics.pearson import pearson


def images(shape: tuple[int, ...] = (3, 1, 20, 31)) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(4)
    target = rng.gamma(2.0, 10.0, shape)
    return torch.tensor(target + rng.normal(0, 20, shape)), torch.tensor(target)


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (3, 2, 9, 25), (1, 1, 2, 2)])
def test_pearson_agrees_with_scipy(shape: tuple[int, ...]) -> None:
    prediction, target = images(shape)
    expected = [
        pearsonr(p.numpy().ravel(), y.numpy().ravel()).statistic
        for p, y in zip(prediction, target, strict=True)
    ]
    np.testing.assert_allclose(pearson(prediction=prediction, target=target), expected)


@pytest.mark.parametrize("scale", [1e-150, 1e-12, 1e6])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_small_and_large_values_change_nothing(scale: float, offset: float) -> None:
    prediction, target = images()
    found = pearson(prediction=scale * (prediction + offset), target=scale * target)
    torch.testing.assert_close(found, pearson(prediction=prediction, target=target), rtol=1e-9, atol=0)


def test_float32_images_on_a_large_offset_keep_their_correlation() -> None:
    prediction, target = (image.float() + 30000 for image in images())
    expected = [
        pearsonr(p.double().numpy().ravel(), y.double().numpy().ravel()).statistic
        for p, y in zip(prediction, target, strict=True)
    ]
    np.testing.assert_allclose(pearson(prediction=prediction, target=target), expected, rtol=1e-9)


def test_a_negative_gain_gives_minus_one() -> None:
    _, target = images()
    torch.testing.assert_close(
        pearson(prediction=3 - 2 * target, target=target), -torch.ones(3, dtype=torch.float64)
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 1e5])
def test_a_constant_image_gives_nan_and_not_noise(value: float) -> None:
    prediction, target = images()
    constant = torch.full_like(target, value)
    assert pearson(prediction=constant, target=target).isnan().all()
    assert pearson(prediction=prediction, target=constant).isnan().all()
