"""The score of one image: every number or a reason, never NaN, never a crash."""

import math
import time

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio

from ddpm_lightning.metrics.collection import (
    EXTRA_METRICS,
    METRICS,
    NO_BACKBONE,
    REFERENCE_METRICS,
    RESOLUTION_METRICS,
    Score,
    score,
)
from ddpm_lightning.metrics.protocol import PROTOCOLS


def pair(side: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    target = gaussian_filter(rng.random((side, side + 10)), 2)
    target = 20 + 200 * (target - target.min()) / np.ptp(target)
    prediction = 0.9 * target + rng.normal(0, 4, target.shape)
    return torch.tensor(prediction)[None, None].float(), torch.tensor(target)[None, None].float()


def complete(result: Score, names: tuple[str, ...]) -> None:
    """Every wanted metric has either a finite number or a reason."""
    assert set(result.values) | set(result.absent) == set(names)
    assert not set(result.values) & set(result.absent)
    assert all(math.isfinite(value) and isinstance(value, float) for value in result.values.values())
    assert all(result.absent.values())


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_a_good_pair_has_every_number_but_the_unwanted(name: str) -> None:
    result = score(*pair(), name, full_scale=(0, 255))
    complete(result, METRICS)
    assert result.absent == {"lpips": NO_BACKBONE, "resolution": "not asked for"}
    assert result.facts["protocol"] == name
    assert result.facts["nrmse_by"] == PROTOCOLS[name].nrmse_by


def test_the_numbers_are_those_of_the_protocol() -> None:
    prediction, target = pair()
    result = score(prediction, target, "paper", full_scale=(0, 255))
    p, y = (np.round(np.clip(image.numpy().astype(float), 0, 255)) for image in (prediction, target))
    assert result.values["mae"] == pytest.approx(np.abs(p - y).mean())
    assert result.values["psnr"] == pytest.approx(peak_signal_noise_ratio(y, p, data_range=255))
    assert result.values["nrmse"] == pytest.approx(np.sqrt(np.square(p - y).mean()) / y.mean())
    assert result.values["pearson"] == pytest.approx(np.corrcoef(p.ravel(), y.ravel())[0, 1])


def test_every_option_adds_its_metrics() -> None:
    prediction, target = pair()
    result = score(
        prediction,
        target,
        "range",
        extra=True,
        resolution=True,
        reference=prediction,
        pixel_size=0.05,
        align=True,
    )
    complete(result, METRICS + EXTRA_METRICS + RESOLUTION_METRICS + REFERENCE_METRICS)
    assert set(result.absent) == {"lpips"}
    assert result.facts["resolution_unit"] == "nm"
    assert result.values["rsp"] == pytest.approx(1.0)


def test_the_resolution_is_in_nanometres_or_pixels() -> None:
    in_nm = score(*pair(), "range", resolution=True, pixel_size=0.05)
    in_px = score(*pair(), "range", resolution=True)
    for name in ("resolution", "resolution_target", "resolution_frc"):
        assert in_nm.values[name] == pytest.approx(50 * in_px.values[name])
    assert in_nm.values["resolution_ratio"] == pytest.approx(in_px.values["resolution_ratio"])
    assert in_px.facts["resolution_unit"] == "px"


def test_a_small_crop_says_what_ms_ssim_needs() -> None:
    prediction, target = (image[..., :96, :96] for image in pair())
    result = score(prediction, target, "range")
    complete(result, METRICS)
    assert result.absent["ms_ssim"] == "needs at least 176 px, image is 96 x 96"


@pytest.mark.parametrize("side", [1, 2, 8, 40])
@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_tiny_images_do_not_crash(side: int, name: str) -> None:
    prediction, target = (image[..., :side, :side] for image in pair())
    result = score(
        prediction, target, name, full_scale=(0, 255), extra=True, resolution=True, reference=prediction
    )
    complete(result, METRICS + EXTRA_METRICS + RESOLUTION_METRICS + REFERENCE_METRICS)


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
@pytest.mark.parametrize("which", ["prediction", "target", "both"])
def test_constant_images_have_reasons(name: str, which: str) -> None:
    prediction, target = pair()
    constant = torch.full_like(target, 3.0)
    prediction = target if which == "target" else constant
    target = target if which == "prediction" else constant
    result = score(
        prediction, target, name, full_scale=(0, 255), extra=True, resolution=True, reference=constant
    )
    complete(result, METRICS + EXTRA_METRICS + RESOLUTION_METRICS + REFERENCE_METRICS)
    assert "constant" in result.absent["pearson"]
    assert "mae" in result.values
    if which != "prediction" and name != "paper":
        assert "constant" in result.absent["psnr"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_pixels_that_are_no_numbers_are_counted(value: float, which: int) -> None:
    images = pair()
    images[which][0, 0, 3, 4:6] = value
    result = score(*images, "range", extra=True)
    complete(result, METRICS + EXTRA_METRICS)
    assert not result.values
    name = ("prediction", "target")[which]
    assert result.absent["mae"] == f"2 of 42000 pixels of the {name} are NaN or infinite"


def test_images_of_different_size_are_named() -> None:
    prediction, target = pair()
    result = score(prediction[..., 1:], target, "range")
    complete(result, METRICS)
    assert (
        result.absent["psnr"] == "the prediction has shape 1 x 1 x 200 x 209 but the target 1 x 1 x 200 x 210"
    )


def test_negative_images_are_fine() -> None:
    prediction, target = pair()
    result = score(prediction - 500, target - 500, "range")
    expected = score(prediction, target, "range")
    assert result.values == pytest.approx(expected.values, rel=1e-4)


def test_a_perfect_prediction_has_no_psnr_but_a_reason() -> None:
    _, target = pair()
    result = score(target, target, "range")
    assert result.absent["psnr"] == "infinite: the prediction equals the target"
    assert result.values["ms_ssim"] == pytest.approx(1.0)
    assert result.values["mae"] == 0.0


def test_a_reference_of_another_field_is_refused_with_a_reason() -> None:
    prediction, target = pair()
    result = score(prediction, target, "range", reference=prediction[..., :50])
    assert "no smaller copy" in result.absent["rsp"]


@pytest.mark.slow
def test_the_cost_of_one_image_of_512_pixels() -> None:
    target = torch.rand(1, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    for _ in range(3):
        start = time.process_time()
        score(target * 0.9, target, "affine", extra=True, reference=target)
        times.append(time.process_time() - start)
    torch.set_num_threads(threads)
    assert min(times) < 0.3
