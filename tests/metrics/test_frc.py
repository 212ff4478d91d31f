"""Fourier ring correlation: golden values, analytic curves, thresholds, splits, and the cases without a
crossing."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ddpm_lightning.metrics.frc import (
    RingCorrelation,
    binomial_split,
    crossing,
    fourier_ring_correlation,
    frc_against_target,
    frc_binomial,
    frc_one_image,
    frc_resolution,
    threshold_curve,
)


def points(sigma: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.zeros((512, 512))
    np.add.at(image, tuple(rng.integers(0, 512, (3000, 2)).T), 1.0)
    image = gaussian_filter(image, sigma, mode="wrap")
    return image / image.max()


def photons(peak: float, seed: int, sigma: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(peak * points(sigma))


@pytest.mark.parametrize(("peak", "resolution"), [(10, 5.2), (50, 4.6), (200, 4.2)])
def test_golden_values_of_two_images(peak: float, resolution: float) -> None:
    found = frc_resolution(photons(peak, 1), photons(peak, 2))
    assert found.resolution == pytest.approx(resolution, abs=0.15)
    assert not found.at_nyquist


def test_the_definition_written_out() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(40, 40))
    second = first + rng.normal(size=(40, 40))
    curve = fourier_ring_correlation(first, second, window="none")
    one, two = (np.fft.fftshift(np.fft.fft2(image - image.mean())) for image in (first, second))
    rows, columns = np.mgrid[-20:20, -20:20]
    radius = np.sqrt(rows**2 + columns**2)
    for index in range(1, 21):
        ring = (radius >= index - 0.5) & (radius < index + 0.5)
        numerator = (one[ring] * two[ring].conj()).sum().real
        denominator = np.sqrt((abs(one[ring]) ** 2).sum() * (abs(two[ring]) ** 2).sum())
        assert curve.correlation[index] == pytest.approx(numerator / denominator)
        assert curve.pixels[index] == ring.sum()
        assert curve.frequency[index] == index / 40


def test_the_expected_correlation_of_equal_signal_and_noise() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(256, 256))
    first, second = (signal + rng.normal(0, 2, signal.shape) for _ in range(2))
    curve = fourier_ring_correlation(first, second)
    assert curve.correlation[5:].mean() == pytest.approx(1 / 5, abs=0.02)


def test_independent_noise_does_not_correlate() -> None:
    rng = np.random.default_rng(0)
    curve = fourier_ring_correlation(rng.normal(size=(256, 256)), rng.normal(size=(256, 256)))
    assert curve.correlation[3:].mean() == pytest.approx(0, abs=0.02)
    found = crossing(curve)
    assert math.isnan(found.resolution) and not found.at_nyquist


def test_equal_images_reach_the_nyquist_frequency_and_say_so() -> None:
    found = frc_resolution(photons(50, 1), photons(50, 1), pixel_size=20)
    assert found.at_nyquist
    assert found.resolution == 40


def test_gain_and_offset_change_nothing() -> None:
    first, second = photons(50, 1), photons(50, 2)
    expected = frc_resolution(first, second).resolution
    assert frc_resolution(3 * first + 100, 0.1 * second).resolution == pytest.approx(expected)


@pytest.mark.parametrize("window", ["tukey", "hann", "hamming", "none"])
def test_windows_hardly_matter_for_a_periodic_image(window: str) -> None:
    found = crossing(fourier_ring_correlation(photons(50, 1), photons(50, 2), window=window))
    assert found.resolution == pytest.approx(4.6, abs=0.3)


def test_thresholds_at_known_ring_sizes() -> None:
    pixels = np.array([1.0, 100.0, 1e12])
    np.testing.assert_allclose(threshold_curve("1/7", pixels), 1 / 7)
    half, one = threshold_curve("half-bit", pixels), threshold_curve("one-bit", pixels)
    np.testing.assert_allclose(half[[0, 2]], [1.0, 0.2071 / 1.2071], rtol=1e-4)
    np.testing.assert_allclose(one[[0, 2]], [1.0, 1 / 3], rtol=1e-4)
    # The form by signal-to-noise ratio, s = (sqrt(2) - 1) / 2 and s = 1/2.
    for curve, s in ((half, (math.sqrt(2) - 1) / 2), (one, 0.5)):
        expected = (s + (2 * math.sqrt(s) + 1) / 10) / (s + 1 + 2 * math.sqrt(s) / 10)
        assert curve[1] == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="half-bit"):
        threshold_curve("3-sigma", pixels)


def test_a_stricter_threshold_gives_a_larger_period() -> None:
    images = photons(50, 1), photons(50, 2)
    periods = [frc_resolution(*images, threshold=name).resolution for name in ("1/7", "half-bit", "one-bit")]
    assert periods == sorted(periods)


def test_the_crossing_is_interpolated_between_rings() -> None:
    frequency = np.arange(21) / 40
    correlation = 1 - 2 * frequency
    found = crossing(RingCorrelation(frequency, correlation, np.full(21, 50.0)), pixel_size=10)
    assert found.cutoff == pytest.approx((1 - 1 / 7) / 2)
    assert found.resolution == pytest.approx(10 / found.cutoff)


def test_the_lowest_rings_are_left_out() -> None:
    frequency = np.arange(41) / 80
    correlation = np.where(np.arange(41) < 2, 0.0, 1 - 2 * frequency)
    found = crossing(RingCorrelation(frequency, correlation, np.full(41, 50.0)))
    assert found.cutoff == pytest.approx((1 - 1 / 7) / 2)


def test_a_restoration_agrees_with_its_target_to_its_own_blur() -> None:
    target = points(1.0)
    noise = np.random.default_rng(3).normal(0, 0.01, target.shape)
    periods = [
        frc_against_target(gaussian_filter(target, s) + noise, target).resolution for s in (0.5, 1.5, 3.0)
    ]
    assert periods == sorted(periods)
    assert periods[0] < 3 < periods[2]


@pytest.mark.parametrize("peak", [50, 400])
def test_one_image_is_near_two_images(peak: float) -> None:
    first, second = photons(peak, 1, sigma=3.0), photons(peak, 2, sigma=3.0)
    expected = frc_resolution(first, second, pixel_size=25).resolution
    assert frc_one_image(first, pixel_size=25).resolution == pytest.approx(expected, rel=0.2)


def test_the_calibration_of_one_image() -> None:
    found = frc_one_image(photons(50, 1, sigma=3.0), pixel_size=25)
    rho = 2 * found.cutoff
    c = 0.95988146 * math.exp(13.90441896 * (rho - 0.97979108)) + 0.55146136
    assert found.resolution == pytest.approx(2 * 25 / rho / c)


def test_a_binomial_split_gives_two_independent_poisson_images() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(20.0, (400, 400))
    first, second = binomial_split(counts, seed=3)
    assert np.array_equal(first + second, counts)
    for half in (first, second):
        assert half.mean() == pytest.approx(10, rel=0.01)
        assert half.var() == pytest.approx(10, rel=0.02)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] == pytest.approx(0, abs=0.01)


def test_the_binomial_resolution_is_that_of_half_the_dose() -> None:
    expected = frc_resolution(photons(50, 1), photons(50, 2)).resolution
    assert frc_binomial(photons(100, 3)).resolution == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("counts", [np.full((40, 40), 0.5), np.full((40, 40), -1)])
def test_a_split_needs_counts(counts: np.ndarray) -> None:
    with pytest.raises(ValueError, match="photon counts"):
        binomial_split(counts)


def test_bad_images_are_refused() -> None:
    with pytest.raises(ValueError, match="32 x 32"):
        fourier_ring_correlation(np.zeros((31, 64)), np.zeros((31, 64)))
    with pytest.raises(ValueError, match="one size"):
        fourier_ring_correlation(np.zeros((64, 64)), np.zeros((64, 65)))
    with pytest.raises(ValueError, match="64 px"):
        frc_one_image(np.zeros((63, 80)))
    with pytest.raises(ValueError, match="hann"):
        fourier_ring_correlation(np.zeros((64, 64)), np.zeros((64, 64)), window="kaiser")


def test_constant_images_have_no_resolution() -> None:
    assert math.isnan(frc_resolution(np.ones((64, 64)), np.ones((64, 64))).resolution)
