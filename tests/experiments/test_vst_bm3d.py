"""The variance-stabilising transform: noise is measured, made equal everywhere, and the way back has no bias."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from experiments.benchmark.filters import VstBm3d
from experiments.vst_bm3d import Noise, fit_noise, installed, vst_bm3d


def clean(side: int = 256) -> np.ndarray:
    image = np.exp(2 * ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(side, side)), 6) * 10)
    return image / image.max()


def recorded(expected: np.ndarray, gain: float, read: float, offset: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    return gain * rng.poisson(expected) + read * rng.normal(size=expected.shape) + offset


@pytest.mark.parametrize(
    ("gain", "read", "offset", "photons"), [(3, 2, 0, 50), (1, 5, 100, 500), (2, 3, 30, 20)]
)
def test_the_noise_is_that_of_the_detector(gain, read, offset, photons):
    image = recorded(photons * clean(), gain, read, offset)
    noise = fit_noise(image)
    assert noise.gain == pytest.approx(gain, rel=0.1)
    middle = photons * gain / 4 + offset
    assert noise.gain * middle + noise.variance == pytest.approx(gain * (middle - offset) + read**2, rel=0.1)


@pytest.mark.parametrize("noise", [Noise(3.0, 40.0), Noise(12.0, -120.0)])
@pytest.mark.parametrize("photons", [2.0, 5.0, 50.0])
def test_noise_has_deviation_1_and_the_inverse_no_bias(noise, photons):
    offset = max(-noise.variance, 0) / noise.gain
    read = max(noise.variance, 0) ** 0.5
    image = recorded(np.full((400, 400), photons), noise.gain, read, offset)
    stabilised = noise.stabilised(image)
    assert stabilised.std() == pytest.approx(1, rel=0.05 if photons >= 5 else 0.15)
    mean = noise.inverse(stabilised.mean(keepdims=True)).item()
    assert mean == pytest.approx(noise.gain * photons + offset, rel=0.01)


def test_an_image_without_contrast_has_the_same_noise_everywhere():
    image = np.random.default_rng(0).normal(50, 3, (64, 64))
    noise = fit_noise(image)
    assert (noise.gain * 50 + noise.variance) ** 0.5 == pytest.approx(3, rel=0.1)


@pytest.mark.skipif(not installed(), reason="the extra `benchmarks` is not installed")
def test_bm3d_behind_it_removes_most_of_the_noise():
    expected = 40 * clean(64)
    image = recorded(expected, 2, 1, 5)
    errors = [np.square(x - 2 * expected - 5).mean() for x in (image, vst_bm3d(image))]
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize(
    "real", [False, pytest.param(True, marks=pytest.mark.skipif(not installed(), reason="not installed"))]
)
def test_the_row_of_the_benchmark_fits_its_strength_on_the_normalised_scale(real, monkeypatch):
    if not real:
        blur = SimpleNamespace(bm3d=lambda image, sigma: ndimage.gaussian_filter(image, sigma))
        monkeypatch.setitem(sys.modules, "bm3d", blur)
    expected = 40 * clean(64)
    low = recorded(expected, 2, 1, 5)
    scale = low.max() / 2
    batch = {
        role: torch.from_numpy(image[None, None] / scale - 1).float()
        for role, image in (("low", low), ("high", expected))
    }
    method = VstBm3d([0.1, 1.0, 1000.0])
    assert method.calibrate([batch], lambda errors, _: errors) < method.error(batch, 0.1).mean() / 2
    assert method.strength.item() == 1.0 and not method.parameter_groups() and method.deterministic
    assert method.evaluations == 1 and "of strength 1 " in method.preset
    restored = method.apply_filter(batch["low"], 1.0)
    by_hand = torch.from_numpy(vst_bm3d(low) / scale - 1).float()
    assert torch.allclose(restored[0, 0], by_hand, atol=0.02), "the noise is fitted alike in both units"


def test_counts_of_few_photons_are_not_taken_for_clipped():
    """Most of them are 0, the end of the scale."""
    image = np.random.default_rng(0).poisson(3 * clean())
    assert (image == 0).mean() > 0.5
    noise = fit_noise(image)
    assert noise.gain == pytest.approx(1, rel=0.2) and abs(noise.variance) < 0.1
