"""Excess noise, defective pixels, vignetting, haze and file formats, against their closed forms."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import fft, ndimage

from ddpm_lightning.simulation.degradations import (
    CameraPattern,
    Clipping,
    ExcessNoise,
    Haze,
    HotPixels,
    Jpeg,
    Quantisation,
    Vignetting,
    expected,
)
from ddpm_lightning.simulation.detector import Scmos


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("excess", [1.3, 2.0])
def test_multiplication_raises_the_variance_by_the_excess_factor(rng, excess):
    counts = 100 + 40 * rng.poisson(30, (400, 400))
    image = ExcessNoise(excess, gain=40, offset=100)(counts.astype(np.uint16), rng).astype(float)
    assert image.mean() == pytest.approx(100 + 40 * 30, rel=0.002)
    assert image.var() == pytest.approx(40**2 * excess * 30, rel=0.02)


def test_fixed_pattern_noise_rises_with_the_signal_and_shot_noise_with_its_root(rng):
    # The photon transfer curve: variance = read noise² + signal + (PRNU signal)², in electrons (Janesick, 2007).
    camera = CameraPattern(Scmos(gain=1, gain_sd=0.03, offset=0, offset_sd=2, read_noise=0, hot=0))
    for signal in (100, 1000, 10000):
        image = camera(rng.poisson(signal, (400, 400)).astype(np.float64), rng)
        assert image.var() == pytest.approx(signal + (0.03 * signal) ** 2 + 4, rel=0.03)


def test_hot_and_dead_pixels_are_as_many_as_asked(rng):
    image = np.full((500, 500), 1000, np.uint16)
    bad = HotPixels(hot=0.01, dead=0.005, level=300, black=7)(image, rng)
    assert np.mean(bad == 7) == pytest.approx(0.005, rel=0.15)
    hot = bad[bad > 1000].astype(float)
    assert hot.size / image.size == pytest.approx(0.01, rel=0.1)
    assert (hot - 1000).mean() == pytest.approx(300, rel=0.1)


def test_vignetting_follows_the_fourth_power_of_the_cosine(rng):
    light = Vignetting(corner=0.3)(np.full((101, 61), 10.0), rng)
    assert light[50, 30] == pytest.approx(10) and light[0, 0] == pytest.approx(3) == light[-1, -1]
    # tan θ in the corner follows from its factor; half-way to it, tan θ is half of that.
    half = np.arctan(np.sqrt(0.3**-0.5 - 1) / 2)
    assert light[25, 15] == pytest.approx(10 * np.cos(half) ** 4, rel=1e-6)


def test_vignetting_of_recorded_counts_keeps_their_distribution(rng):
    image = (100 + 5 * rng.poisson(50, (300, 300))).astype(np.uint16)
    dim = Vignetting(0.5, gain=5, offset=100)
    corner = np.concatenate([dim(image, rng)[:8, :8].ravel() for _ in range(40)]).astype(float)
    clean = expected(np.full((300, 300), 350, np.uint16), [dim])
    assert clean[0, 0] == 225 and clean[150, 150] == 350
    assert corner.mean() == pytest.approx(clean[:8, :8].mean(), rel=0.02)
    assert corner.var() == pytest.approx(5 * (corner.mean() - 100), rel=0.15)


def test_haze_moves_light_and_preserves_its_sum(rng):
    image = 100 * rng.random((96, 120)) ** 4
    hazy = Haze(0.3, 12)(image, rng)
    assert hazy.sum() == pytest.approx(image.sum(), rel=1e-5)
    blurred = ndimage.gaussian_filter(image, 12, mode="reflect", truncate=6)
    np.testing.assert_allclose(hazy, 0.7 * image + 0.3 * blurred, atol=2e-3)
    counts = Haze(0.3, 12)(np.full((300, 300), 50, np.uint16), rng).astype(float)
    assert counts.mean() == pytest.approx(50, rel=0.01)
    assert counts.var() == pytest.approx(50 * 0.7 * 0.3 + 15, rel=0.05)  # thinned, and new photons
    photons = Haze(0.3, 12)(rng.poisson(50, (300, 300)).astype(np.uint16), rng).astype(float)
    assert photons.var() == pytest.approx(50, rel=0.05)


def test_clipping_of_normal_noise_moves_its_mean(rng):
    # max(x, c) of a standard normal variable at c = 0 has the mean 1 / sqrt(2 π).
    image = Clipping(0, 1e6)(rng.standard_normal((500, 500)), rng)
    assert image.mean() == pytest.approx(1 / np.sqrt(2 * np.pi), rel=0.01)
    both = expected(np.array([[1, 90, 250]], np.uint8), [Clipping(10, 200)])
    assert both.tolist() == [[10, 90, 200]]


@pytest.mark.parametrize("step", [2.0, 8.0, 16.0])
def test_rounding_adds_a_twelfth_of_the_squared_step(rng, step):
    image = 120 + 1.5 * step * rng.standard_normal((500, 500))
    rounded = Quantisation(step)(image, rng)
    assert len(np.unique(rounded)) < 20
    assert np.var(rounded - image) == pytest.approx(step**2 / 12, rel=0.02)
    assert rounded.var() == pytest.approx((1.5**2 + 1 / 12) * step**2, rel=0.02)


@pytest.mark.parametrize("quality", [60, 75, 95])
def test_jpeg_rounds_coefficients_to_multiples_of_its_table(rng, quality):
    image = np.clip(100 + ndimage.gaussian_filter(600 * rng.standard_normal((64, 64)), 3), 20, 235)
    image = np.clip(image + 10 * rng.standard_normal(image.shape), 16, 240).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=quality)
    compressed = Image.open(file)
    table = np.array(compressed.quantization[0]).reshape(8, 8)
    result = Jpeg(quality)(image, rng)
    np.testing.assert_array_equal(result, np.asarray(compressed))

    def blocks(values):
        tiles = values.astype(float).reshape(8, 8, 8, 8).swapaxes(1, 2).reshape(64, 8, 8)
        return fft.dctn(tiles, axes=(1, 2), norm="ortho")

    error = np.abs(blocks(result) - blocks(image))
    # Half a step of the table, and what rounding to grey levels adds to a coefficient (at most a few of 0.29).
    assert (error <= table / 2 + 1.5).all()
    assert error.std() > 0


def test_jpeg_correlates_noise_the_more_the_lower_the_quality(rng):
    image = np.clip(120 + 12 * rng.standard_normal((256, 256)), 0, 255).astype(np.uint8)
    lags, errors = [], []
    for quality in (95, 75, 60):
        noise = Jpeg(quality)(image, rng).astype(float) - 120
        lags.append(np.mean(noise[:, 1:] * noise[:, :-1]) / noise.var())
        errors.append(np.mean((noise + 120 - image) ** 2))
    assert lags == sorted(lags) and lags[-1] > 0.05
    assert errors == sorted(errors)


def test_jpeg_of_16_bits_is_scaled_to_8(rng):
    image = rng.poisson(3000, (64, 64)).astype(np.uint16)
    compressed = Jpeg(95)(image, rng)
    assert compressed.dtype == np.uint16
    assert np.std(compressed.astype(float) - image) < 4 * np.ptp(image) / 255
    np.testing.assert_array_equal(Jpeg()(np.full((16, 16), 7, np.uint16), rng), 7)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ExcessNoise(1.0),
        lambda: HotPixels(hot=1.2),
        lambda: Vignetting(0),
        lambda: Haze(1.5),
        lambda: Clipping(9, 3),
        lambda: Quantisation(0),
        lambda: Jpeg(0),
    ],
)
def test_settings_out_of_range_are_rejected(wrong):
    with pytest.raises(ValueError, match="must be"):
        wrong()
