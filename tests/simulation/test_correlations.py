"""Variance and correlation of noise after each linear operation, against their closed forms."""

import numpy as np
import pytest
from scipy import ndimage

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.simulation.degradations import (
    Binning,
    CameraFilter,
    ColourMosaic,
    CorrelatedNoise,
    DriftCorrection,
    Zoom,
)
from ddpm_lightning.simulation.degradations.camera_filter import expected_median
from ddpm_lightning.simulation.degradations.correlated_noise import correlated
from ddpm_lightning.simulation.degradations.resampling import binned, interpolation_matrix, resized
from ddpm_lightning.simulation.degraded_pairs import DegradedPairs

LINEAR = [
    DriftCorrection(),
    DriftCorrection((0.3, -0.2), "cubic"),
    Zoom(),
    Zoom(1.4, "cubic"),
    Zoom(0.5, smooth=False),
    Binning(),
    Binning(3),
    *[ColourMosaic(channel) for channel in ("red", "green", "blue", "luminance")],
    CameraFilter(),
]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def white(side=600):
    return np.random.default_rng(5).standard_normal((side, side)).astype(np.float32)


def lag(noise, axis=1):
    """Covariance of neighbours along an axis, without the border."""
    noise = np.moveaxis(noise[8:-8, 8:-8], axis, 0)
    return float(np.mean(noise[1:] * noise[:-1]))


@pytest.mark.parametrize("shift", [0.1, 0.25, 0.5, -0.3])
def test_linear_interpolation_by_a_shift(shift):
    part = abs(shift)
    moved = DriftCorrection((0, shift)).expected(white())
    variance = 1 - 2 * part + 2 * part**2
    assert moved.var() == pytest.approx(variance, rel=0.01)
    assert lag(moved) / moved.var() == pytest.approx(part * (1 - part) / variance, abs=0.01)
    assert lag(moved, 0) == pytest.approx(0, abs=0.01)


def test_cubic_interpolation_by_half_a_pixel():
    weights = np.array([-1, 9, 9, -1]) / 16
    np.testing.assert_allclose(interpolation_matrix(np.array([4.5]), 10, "cubic")[0, 3:7], weights)
    moved = DriftCorrection((0.5, 0), "cubic").expected(white())
    assert moved.var() == pytest.approx(weights @ weights, rel=0.01)
    assert lag(moved, 0) == pytest.approx(weights[1:] @ weights[:-1], abs=0.01)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_shift_moves_towards_higher_indices_and_keeps_a_ramp(interpolation):
    ramp = np.add.outer(2.0 * np.arange(20), np.arange(30.0)).astype(np.float32)
    moved = DriftCorrection((0.25, -0.5), interpolation).expected(ramp)
    np.testing.assert_allclose((ramp - moved)[3:-3, 3:-3], 2 * 0.25 - 0.5, atol=1e-4)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_binning_divides_the_variance_by_the_number_of_pixels(factor):
    small = binned(white(), factor)
    assert small.shape == (600 // factor, 600 // factor)
    assert small.var() == pytest.approx(1 / factor**2, rel=0.05)
    assert abs(lag(small)) < 0.05 / factor**2
    ramp = np.add.outer(np.arange(24.0), np.arange(24.0))
    np.testing.assert_allclose(Binning(factor).expected(ramp)[6:-6, 6:-6], ramp[6:-6, 6:-6], rtol=1e-5)


def test_enlarging_twice_by_linear_interpolation():
    large = resized(white(), (1200, 1200), "linear")
    # Pixels at 1/4 and 3/4 between neighbours: a variance of 5/8 along each axis, and covariances of 3/8 and 9/16.
    assert large.var() == pytest.approx((5 / 8) ** 2, rel=0.02)
    assert lag(large) / large.var() == pytest.approx((3 / 8 + 9 / 16) / 2 / (5 / 8), abs=0.01)


def test_reducing_with_and_without_smoothing():
    smooth, sparse = (resized(white(), (300, 300), "linear", smooth) for smooth in (True, False))
    weights = np.array([1, 3, 3, 1]) / 8
    assert smooth.var() == pytest.approx((weights @ weights) ** 2, rel=0.03)
    assert lag(smooth) / smooth.var() == pytest.approx(
        2 * weights[0] * weights[1] / (weights @ weights), abs=0.02
    )
    assert sparse.var() == pytest.approx(1 / 4, rel=0.03)
    assert lag(sparse) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("channel", "variance", "correlation"),
    [("green", 5 / 8, 0.4), ("red", 9 / 16, 2 / 3), ("blue", 9 / 16, 2 / 3)],
)
def test_the_bilinear_interpolation_of_a_bayer_pattern(channel, variance, correlation):
    image = ColourMosaic(channel).expected(white())
    assert image.var() == pytest.approx(variance, rel=0.01)
    for axis in (0, 1):
        assert lag(image, axis) / image.var() == pytest.approx(correlation, abs=0.01)


def test_recorded_pixels_of_a_colour_stay():
    image = white(20)
    green, red, blue = (ColourMosaic(channel).expected(image) for channel in ("green", "red", "blue"))
    np.testing.assert_array_equal(green[::2, 1::2], image[::2, 1::2])
    np.testing.assert_array_equal(green[1::2, ::2], image[1::2, ::2])
    np.testing.assert_array_equal(red[::2, ::2], image[::2, ::2])
    np.testing.assert_array_equal(blue[1::2, 1::2], image[1::2, 1::2])
    assert green[4, 4] == pytest.approx((image[3, 4] + image[5, 4] + image[4, 3] + image[4, 5]) / 4)
    assert red[5, 5] == pytest.approx(image[4:7:2, 4:7:2].mean())
    luminance = ColourMosaic("luminance").expected(image)
    np.testing.assert_allclose(luminance, 0.299 * red + 0.587 * green + 0.114 * blue, rtol=1e-5)


def test_the_mean_of_nine_pixels():
    image = CameraFilter("mean").expected(white())
    assert image.var() == pytest.approx(1 / 9, rel=0.02)
    assert lag(image) / image.var() == pytest.approx(2 / 3, abs=0.01)


def test_the_median_of_nine_pixels():
    # For many independent normal variables the variance of the median tends to π / 2 times that of the mean; for nine
    # it is 0.166 (tables of order statistics, David and Nagaraja 2003).
    assert CameraFilter("median").expected(white()).var() == pytest.approx(0.166, rel=0.02)


def test_the_expectation_of_a_median_is_estimated_better_than_by_mean_or_median(rng):
    light = 4 + ndimage.gaussian_filter(80 * rng.random((96, 96)) ** 8, 0.6)
    frames = rng.poisson(light, (200, 96, 96)).astype(np.float32)
    truth = np.mean([ndimage.median_filter(frame, 3) for frame in frames], 0)
    estimate = expected_median(light, frames[0])
    errors = [np.std(image - truth) for image in (estimate, ndimage.median_filter(light, 3))]
    errors.append(np.std(ndimage.uniform_filter(light, 3) - truth))
    assert errors[0] < 0.8 * min(errors[1:])


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (0.2, 0.2), (0.4, 0), (0.1, 0.75), (0.9, 0.75)])
def test_generic_noise_has_the_correlation_and_the_variance_asked_for(rng, rows, columns):
    noise = correlated(white(), rows, columns)
    assert noise.var() == pytest.approx(1, abs=0.04)
    assert lag(noise, 0) == pytest.approx(rows, abs=0.03)
    assert lag(noise, 1) == pytest.approx(columns, abs=0.03)
    added = CorrelatedNoise(2, 0.5, 100, rows, columns)(np.full((600, 600), 130, np.float32), rng) - 130
    assert added.var() == pytest.approx(4 + 0.5 * 30, rel=0.04)


@pytest.mark.parametrize("operation", LINEAR, ids=str)
def test_linear_operations_keep_constants_shapes_and_expectations(rng, operation):
    flat = np.full((31, 44), 7, np.float32)
    np.testing.assert_allclose(operation.expected(flat), flat, rtol=1e-5)
    light = 3 + 5 * ndimage.gaussian_filter(rng.random((48, 52)), 1.5)
    frames = rng.poisson(light, (400, 48, 52)).astype(np.float32)
    mean = np.mean([operation(frame, rng) for frame in frames], 0)
    np.testing.assert_allclose(mean, operation.expected(light), atol=0.7)
    np.testing.assert_allclose(mean.mean(), operation.expected(light).mean(), atol=0.01)
    assert operation(flat.astype(np.uint8), rng).dtype == np.uint8


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: DriftCorrection(interpolation="nearest"),
        lambda: Zoom(0),
        lambda: Binning(0),
        lambda: ColourMosaic("grey"),
        lambda: CameraFilter("mode"),
        lambda: CorrelatedNoise(rows=1.0),
        lambda: CorrelatedNoise(sigma=-1),
    ],
)
def test_settings_out_of_range_are_rejected(wrong):
    with pytest.raises(ValueError, match="must be"):
        wrong()


def test_the_clean_image_of_a_pair_keeps_the_geometry_of_the_noisy_one(rng):
    image = rng.poisson(50, (32, 32)).astype(np.uint16)
    noise = CorrelatedNoise(5)
    pair = DegradedPairs([Pair(image, image, "0", "0")], [DriftCorrection((0.5, 0)), noise])[0]
    np.testing.assert_array_equal(pair.high, np.rint(DriftCorrection((0.5, 0)).expected(image)))
    assert np.std(pair.low.astype(float) - pair.high) == pytest.approx(5, rel=0.1)
    plain, shifted = (
        SimulatedPairs("synapses", "test", 1, 48, degradations=chain)[0]
        for chain in ((), (DriftCorrection((1, 0)),))
    )
    np.testing.assert_array_equal(shifted.high[1:], plain.high[:-1])
    np.testing.assert_array_equal(shifted.low[1:], plain.low[:-1])
    np.testing.assert_allclose(shifted.extra["emitters"][1:], plain.extra["emitters"][:-1], rtol=1e-6)
