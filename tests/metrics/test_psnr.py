"""PSNR against scikit-image, its identities, and the cases without a number."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from ddpm_lightning.metrics.pearson import pearson
from ddpm_lightning.metrics.psnr import psnr, scale_invariant_psnr


def images(shape: tuple[int, ...] = (3, 1, 20, 31), offset: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(1)
    target = rng.gamma(2.0, 10.0, shape) + offset
    return torch.tensor(0.8 * target + rng.normal(0, 5, shape)), torch.tensor(target)


@pytest.mark.parametrize("data_range", [1.0, 255.0, 65535.0])
@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (3, 1, 40, 25), (1, 3, 12, 12)])
def test_psnr_agrees_with_scikit_image(data_range: float, shape: tuple[int, ...]) -> None:
    prediction, target = images(shape)
    expected = [
        peak_signal_noise_ratio(y.numpy(), p.numpy(), data_range=data_range)
        for p, y in zip(prediction, target, strict=True)
    ]
    np.testing.assert_allclose(psnr(prediction=prediction, target=target, data_range=data_range), expected)


def test_a_range_for_each_image_equals_one_image_at_a_time() -> None:
    prediction, target = images()
    ranges = target.amax(dim=(1, 2, 3)) - target.amin(dim=(1, 2, 3))
    single = [
        psnr(prediction=p[None], target=y[None], data_range=r.item())
        for p, y, r in zip(prediction, target, ranges, strict=True)
    ]
    torch.testing.assert_close(
        psnr(prediction=prediction, target=target, data_range=ranges), torch.cat(single)
    )


def test_the_mean_of_images_is_not_the_pooled_value() -> None:
    target = torch.zeros(3, 1, 8, 8, dtype=torch.float64)
    prediction = torch.tensor([0.01, 0.1, 0.3], dtype=torch.float64)[:, None, None, None].expand_as(target)
    values = psnr(prediction=prediction, target=target, data_range=1.0)
    assert values.mean().item() == pytest.approx(23.486, abs=1e-3)
    pooled = 10 * math.log10(1 / np.mean([0.01**2, 0.1**2, 0.3**2]))
    assert pooled == pytest.approx(14.76, abs=0.01)


def test_equal_images_have_infinite_psnr() -> None:
    _, target = images()
    assert psnr(prediction=target, target=target, data_range=1.0).isinf().all()


def test_an_image_without_range_gives_nan_and_the_others_a_number() -> None:
    prediction, target = images()
    found = psnr(prediction=prediction, target=target, data_range=torch.tensor([1.0, 0.0, 1.0]))
    assert found.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("data_range", [0.0, -1.0, float("nan")])
def test_a_range_that_is_not_positive_is_refused(data_range: float) -> None:
    prediction, target = images()
    with pytest.raises(ValueError, match="data_range"):
        psnr(prediction=prediction, target=target, data_range=data_range)


def test_scale_invariant_psnr_is_the_psnr_of_the_best_affine_fit() -> None:
    prediction, target = images()
    expected = []
    for p, y in zip(prediction, target, strict=True):
        gain, offset = np.polyfit(p.numpy().ravel(), y.numpy().ravel(), 1)
        fitted = gain * p.numpy() + offset
        expected.append(peak_signal_noise_ratio(y.numpy(), fitted, data_range=float(y.max() - y.min())))
    np.testing.assert_allclose(scale_invariant_psnr(prediction=prediction, target=target), expected)


@pytest.mark.parametrize(("gain", "offset"), [(1e-4, 0.0), (3.0, 100.0), (2.0, 1e6)])
def test_scale_invariant_psnr_ignores_gain_and_offset(gain: float, offset: float) -> None:
    prediction, target = images()
    torch.testing.assert_close(
        scale_invariant_psnr(prediction=gain * prediction + offset, target=target),
        scale_invariant_psnr(prediction=prediction, target=target),
        rtol=1e-6,
        atol=0,
    )


def test_scale_invariant_psnr_follows_from_the_correlation() -> None:
    prediction, target = images()
    r = pearson(prediction=prediction, target=target)
    width = target.amax(dim=(1, 2, 3)) - target.amin(dim=(1, 2, 3))
    variance = target.flatten(1).var(dim=1, correction=0)
    expected = 10 * torch.log10(width**2 / (variance * (1 - r**2)))
    torch.testing.assert_close(scale_invariant_psnr(prediction=prediction, target=target), expected)


def test_scale_invariant_psnr_of_constant_images() -> None:
    _, target = images()
    constant = torch.full_like(target, 3.0)
    width = (target.amax(dim=(1, 2, 3)) - target.amin(dim=(1, 2, 3))) / target.flatten(1).std(
        dim=1, correction=0
    )
    torch.testing.assert_close(
        scale_invariant_psnr(prediction=constant, target=target), 20 * torch.log10(width)
    )
    assert scale_invariant_psnr(prediction=target, target=constant).isnan().all()
