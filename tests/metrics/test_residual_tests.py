"""Restorations of known faults: noise that is left, structure that is removed."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ddpm_lightning.metrics.noise_model import fit_noise
from ddpm_lightning.metrics.residual_tests import best_blur, examine_residual, standardised_residual

SIDE = 256


@pytest.fixture(scope="module")
def clean():
    """Clouds on an even background."""
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(SIDE, SIDE)), 6)
    return 100 + 50 * np.clip(smooth / smooth.std() - 0.5, 0, None)


def noise(seed, blur=0.0):
    made = gaussian_filter(np.random.default_rng(seed).normal(size=(SIDE, SIDE)), blur)
    return 10 * made / made.std()


def test_a_perfect_restoration_leaves_and_removes_nothing(clean):
    found = examine_residual(clean + noise(1), clean)
    assert found.noise_left == pytest.approx(0, abs=0.02) and found.noise_ratio < 0.05
    assert found.spots == found.varied_regions == 0
    assert found.residual_correlation == pytest.approx(found.correlation, abs=0.05)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
@pytest.mark.parametrize("blur", [0.0, 0.6], ids=["independent", "correlated"])
def test_noise_that_is_left(clean, share, blur):
    low = clean + noise(2, blur)
    found = examine_residual(low, share * low + (1 - share) * clean)
    assert found.noise_left == pytest.approx(share, abs=0.03)
    left_by_blur = fit_noise(low).blurred(np.sqrt(2) * found.blur)
    assert found.noise_ratio == pytest.approx(share**2 / left_by_blur, rel=0.35)


def test_nothing_removed_and_noise_amplified(clean):
    low = clean + noise(2)
    assert examine_residual(low, low).noise_left == 1
    assert examine_residual(low, clean + 1.5 * (low - clean)).noise_left == 1


def test_correlated_noise_that_passes_for_structure(clean):
    low = clean + noise(3, 0.8)
    found = examine_residual(low, clean + 0.3 * gaussian_filter(low - clean, 0.5))
    assert found.correlation > 0.5 and found.blur > 1.5
    assert found.noise_ratio > 0.3 > 0.05 > examine_residual(low, clean).noise_ratio


def test_spots_that_are_removed(clean):
    points = np.zeros((SIDE, SIDE))
    points[24:-24:50, 24:-24:50] = 1
    spots = gaussian_filter(points, 1.4)
    found = examine_residual(clean + 50 * spots / spots.max() + noise(4), clean)
    assert found.spots == points.sum() == 25
    residual = standardised_residual(clean + 50 * spots / spots.max() + noise(4), clean)
    assert residual[points > 0].mean() > 3 and residual[points == 0].std() == pytest.approx(1, abs=0.15)


def test_structure_that_is_removed_varies_more_than_the_noise_and_correlates(clean):
    found = examine_residual(clean + noise(5) / 4, np.full_like(clean, clean.mean()))
    assert found.varied_regions > 0.5
    assert found.residual_correlation > found.correlation + 0.2


@pytest.mark.parametrize("blur", [0.0, 0.7])
def test_the_best_blur_is_the_one_with_the_least_error(clean, blur):
    low = clean + noise(6, blur)
    sigmas = np.arange(1, 6, 0.25)
    errors = [np.square(gaussian_filter(low, sigma, mode="reflect") - clean).mean() for sigma in sigmas]
    fitted = fit_noise(low)
    variance = float(fitted.variance(np.array(clean.mean())))
    assert best_blur(low, fitted, variance) == pytest.approx(sigmas[np.argmin(errors)], abs=0.5)


def test_images_without_noise_cannot_be_tested(clean):
    assert examine_residual(np.zeros((64, 64)), np.zeros((64, 64))) is None
    assert standardised_residual(clean[:32, :32], clean[:32, :32]) is None


def test_narrow_planes(clean):
    low = (clean + noise(7))[:16]
    assert examine_residual(low, clean[:16]).noise_left == pytest.approx(0, abs=0.05)
