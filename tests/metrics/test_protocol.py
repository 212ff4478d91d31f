"""What each protocol does to a pair, and the identities that link the metrics under it."""

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear

from ddpm_lightning.metrics.nrmse import nrmse
from ddpm_lightning.metrics.pearson import pearson
from ddpm_lightning.metrics.protocol import PROTOCOLS, affine_fit
from ddpm_lightning.metrics.psnr import psnr, scale_invariant_psnr


def pair(seed: int = 0, shape: tuple[int, ...] = (1, 1, 40, 50)) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    target = rng.gamma(2.0, 300.0, shape) + 100
    prediction = 0.5 * target + 40 + rng.normal(0, 100, shape)
    return torch.tensor(prediction, dtype=torch.float32), torch.tensor(target, dtype=torch.float32)


def test_paper_maps_the_declared_scale_to_rounded_8_bit() -> None:
    target = torch.tensor([[0.0, 65535.0], [257.0, 12850.0]])[None, None]
    prediction = torch.tensor([[-500.0, 70000.0], [257.0 * 1.4, 257.0 * 49.6]])[None, None]
    scored = PROTOCOLS["paper"].apply(prediction, target, full_scale=(0, 65535))
    assert scored.target.flatten().tolist() == [0, 255, 1, 50]
    assert scored.prediction.flatten().tolist() == [0, 255, 1, 50]
    assert (scored.data_range, scored.nrmse_by) == (255.0, "mean")
    assert scored.facts["protocol"] == "paper"


def test_paper_leaves_8_bit_images_as_they_are() -> None:
    target = torch.arange(256.0).reshape(1, 1, 16, 16)
    scored = PROTOCOLS["paper"].apply(target.flip(-1), target, full_scale=(0, 255))
    assert torch.equal(scored.target, target.double())
    assert torch.equal(scored.prediction, target.flip(-1).double())


@pytest.mark.parametrize("full_scale", [None, (255, 0), (3, 3)])
def test_paper_needs_a_declared_scale(full_scale: tuple[float, float] | None) -> None:
    with pytest.raises(ValueError, match="full_scale"):
        PROTOCOLS["paper"].apply(*pair(), full_scale=full_scale)


def test_range_takes_the_values_as_produced() -> None:
    prediction, target = pair()
    scored = PROTOCOLS["range"].apply(prediction, target)
    assert torch.equal(scored.prediction, prediction.double())
    assert torch.equal(scored.target, target.double())
    assert scored.data_range == pytest.approx((target.max() - target.min()).item())
    assert scored.nrmse_by == "range"


def test_under_range_psnr_and_nrmse_say_the_same() -> None:
    scored = PROTOCOLS["range"].apply(*pair())
    images = {"prediction": scored.prediction, "target": scored.target}
    decibel = psnr(**images, data_range=scored.data_range)
    torch.testing.assert_close(decibel, -20 * torch.log10(nrmse(**images, by="range")))


@pytest.mark.parametrize("seed", range(5))
def test_under_affine_nrmse_follows_from_the_correlation(seed: int) -> None:
    prediction, target = pair(seed)
    scored = PROTOCOLS["affine"].apply(prediction, target)
    found = nrmse(prediction=scored.prediction, target=scored.target, by=scored.nrmse_by)
    r = pearson(prediction=prediction, target=target)
    torch.testing.assert_close(found, (1 - r**2).sqrt())


def test_the_affine_fit_is_that_of_numpy() -> None:
    prediction, target = (image.double() for image in pair())
    expected = np.polyfit(prediction.numpy().ravel(), target.numpy().ravel(), 1)
    np.testing.assert_allclose(affine_fit(prediction, target), expected)
    scored = PROTOCOLS["affine"].apply(prediction, target)
    np.testing.assert_allclose([scored.facts["alpha"], scored.facts["beta"]], expected)
    low, high = np.percentile(target.numpy(), [0.1, 99.9])
    assert (scored.low, scored.data_range) == pytest.approx((low, high - low))


def of(kind: str, target: torch.Tensor) -> torch.Tensor:
    noise = torch.from_numpy(np.random.default_rng(1).normal(0, 100, target.shape))
    return {
        "negative": -target,
        "inverted, noisy": 5000 - 0.3 * target + noise,
        "unrelated": noise,
        "unrelated, the other way": -noise,
        "constant": torch.full_like(target, 7.0),
        "faint": 1e-6 * target + noise,
        "itself": target,
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["negative", "inverted, noisy", "unrelated", "unrelated, the other way", "constant", "faint", "itself"],
)
def test_the_affine_fit_is_the_least_squares_solution_without_negative_gains(kind: str) -> None:
    target = pair()[1].double()
    prediction = of(kind, target)
    columns = np.stack([prediction.numpy().ravel(), np.ones(prediction.numel())], axis=1)
    bounds = ([0, -np.inf], np.inf)
    expected = lsq_linear(columns, target.numpy().ravel(), bounds=bounds, method="bvls", tol=1e-14)
    scored = PROTOCOLS["affine"].apply(prediction, target)
    assert scored.facts["alpha"] >= 0
    error = (scored.prediction - target).square().sum().item() / 2
    assert error == pytest.approx(expected.cost, rel=1e-6, abs=1e-3)
    if kind in ("negative", "inverted, noisy", "constant"):
        assert scored.facts["alpha"] == 0 and scored.facts["beta"] == pytest.approx(target.mean().item())
        found = psnr(prediction=scored.prediction, target=scored.target, data_range=scored.data_range).item()
        by_mean = -10 * np.log10(target.numpy().var() / scored.data_range**2)
        assert found == pytest.approx(by_mean)
        assert scale_invariant_psnr(prediction=prediction, target=target).isfinite().all()
        assert scale_invariant_psnr(prediction=prediction, target=target).item() < 20


@pytest.mark.parametrize(("gain", "offset"), [(1e-6, 0.0), (1 / 65535, -1.0), (40.0, 1e4)])
def test_affine_forgives_any_gain_and_offset(gain: float, offset: float) -> None:
    prediction, target = (image.double() for image in pair())
    expected = PROTOCOLS["affine"].apply(prediction, target).prediction
    found = PROTOCOLS["affine"].apply(gain * prediction + offset, target).prediction
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-3)


def test_affine_of_a_constant_prediction_is_the_mean_of_the_target() -> None:
    _, target = pair()
    scored = PROTOCOLS["affine"].apply(torch.full_like(target, 7.0), target)
    torch.testing.assert_close(
        scored.prediction, torch.full_like(scored.target, target.double().mean().item())
    )


def test_affine_and_scale_invariant_psnr_differ_by_their_range_only() -> None:
    prediction, target = pair()
    scored = PROTOCOLS["affine"].apply(prediction, target)
    width = (target.max() - target.min()).item()
    found = psnr(prediction=scored.prediction, target=scored.target, data_range=width)
    torch.testing.assert_close(found, scale_invariant_psnr(prediction=prediction, target=target))


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_the_unit_scale_is_that_of_the_target_and_clamped(name: str) -> None:
    prediction, target = pair()
    scored = PROTOCOLS[name].apply(prediction, target, full_scale=(0, 4095))
    for image, unit in zip((scored.prediction, scored.target), scored.unit(), strict=True):
        expected = np.clip((image.numpy() - scored.low) / scored.data_range, 0, 1)
        np.testing.assert_allclose(unit, expected)


@pytest.mark.parametrize("name", ["range", "affine"])
def test_a_constant_target_has_no_scale(name: str) -> None:
    prediction, target = pair()
    scored = PROTOCOLS[name].apply(prediction, torch.full_like(target, 5.0))
    with pytest.raises(ValueError, match=f"{name}: no range"):
        scored.unit()


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (8, 8)])
def test_a_protocol_takes_one_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one pair of images"):
        PROTOCOLS["range"].apply(torch.zeros(shape), torch.zeros(shape))


def test_alignment_is_off_unless_asked_for() -> None:
    _, target = pair()
    shifted = torch.roll(target, (2, -3), dims=(-2, -1))
    assert PROTOCOLS["range"].apply(shifted, target).prediction.shape == target.shape
    scored = PROTOCOLS["range"].apply(shifted, target, align=True)
    assert (scored.facts["shift"], scored.facts["crop"]) == ([-2.0, 3.0], 3)
    torch.testing.assert_close(scored.prediction, scored.target)
