"""SSIM and MS-SSIM against torchmetrics and scikit-image, and the guards."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from ddpm_lightning.metrics.ssim import BETAS, WINDOW, minimum_side, ms_ssim, ssim

FOUR_BETAS = tuple(beta / sum(BETAS[:4]) for beta in BETAS[:4])


def images(shape: tuple[int, ...], data_range: float = 1.0, noise: float = 0.1) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(2)
    target = gaussian_filter(rng.random(shape), (0, 0, 1.5, 1.5))
    target = (target - target.min()) / (target.max() - target.min())
    prediction = np.clip(target + rng.normal(0, noise, shape), 0, 1)
    return {"prediction": torch.tensor(data_range * prediction), "target": torch.tensor(data_range * target)}


@pytest.mark.parametrize("shape", [(1, 1, 11, 11), (2, 1, 32, 47), (2, 3, 64, 40)])
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ssim_agrees_with_torchmetrics(shape: tuple[int, ...], data_range: float) -> None:
    pair = images(shape, data_range)
    expected = structural_similarity_index_measure(
        pair["prediction"], pair["target"], data_range=data_range, reduction="none"
    )
    torch.testing.assert_close(
        ssim(**pair, data_range=data_range), expected.reshape(-1), rtol=1e-9, atol=1e-12
    )


def test_ssim_agrees_with_scikit_image_away_from_the_borders() -> None:
    pair = images((1, 1, 300, 280))
    expected = structural_similarity(
        pair["target"][0, 0].numpy(),
        pair["prediction"][0, 0].numpy(),
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    # scikit-image leaves out a border of five pixels, 7 % of the area here.
    assert ssim(**pair, data_range=1.0).item() == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("betas", "shape"),
    [(BETAS, (2, 1, 176, 201)), (FOUR_BETAS, (2, 1, 99, 128)), (FOUR_BETAS[:3], (1, 3, 44, 61))],
)
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ms_ssim_agrees_with_torchmetrics(betas: tuple, shape: tuple[int, ...], data_range: float) -> None:
    pair = images(shape, data_range)
    expected = multiscale_structural_similarity_index_measure(
        pair["prediction"],
        pair["target"],
        data_range=data_range,
        betas=betas,
        normalize="relu",
        reduction="none",
    )
    found = ms_ssim(**pair, data_range=data_range, betas=betas)
    torch.testing.assert_close(found, expected.reshape(-1), rtol=1e-9, atol=1e-12)


def test_a_range_for_each_image_equals_one_image_at_a_time() -> None:
    pair = images((2, 1, 50, 50))
    ranges = torch.tensor([1.0, 3.0])
    single = [
        ssim(prediction=p[None], target=y[None], data_range=r.item())
        for p, y, r in zip(pair["prediction"], pair["target"], ranges, strict=True)
    ]
    torch.testing.assert_close(ssim(**pair, data_range=ranges), torch.cat(single))


@pytest.mark.parametrize(("count", "side"), [(5, 176), (4, 99), (3, 44), (1, 11)])
def test_the_size_guard_names_the_least_side(count: int, side: int) -> None:
    betas = (1 / count,) * count
    assert minimum_side(betas) == side
    pair = images((1, 1, side, side))
    assert 0 < ms_ssim(**pair, data_range=1.0, betas=betas).item() < 1
    small = {name: image[..., 1:, :] for name, image in pair.items()}
    with pytest.raises(ValueError, match=f"needs at least {side} px, image is {side - 1} x {side}"):
        ms_ssim(**small, data_range=1.0, betas=betas)


def test_the_guard_of_ssim() -> None:
    with pytest.raises(ValueError, match=f"at least {WINDOW} px"):
        ssim(**images((1, 1, 10, 40)), data_range=1.0)


def test_an_image_equals_itself_and_its_negative_has_no_similarity() -> None:
    target = images((1, 1, 180, 180))["target"]
    assert ms_ssim(prediction=target, target=target, data_range=1.0).item() == pytest.approx(1.0, abs=1e-12)
    assert ms_ssim(prediction=1 - target, target=target, data_range=1.0).item() == 0.0


def test_more_noise_is_less_similar() -> None:
    values = [
        ms_ssim(**images((1, 1, 180, 180), noise=noise), data_range=1.0).item() for noise in (0.05, 0.2, 0.5)
    ]
    assert values == sorted(values, reverse=True)
