"""The noise of an image against noise that was made."""

import numpy as np
import pytest
from scipy.ndimage import convolve1d, gaussian_filter

from ddpm_lightning.metrics.noise_model import fit_noise, neighbour_correlation, noise_correlation


def structure(side=256, size=6):
    """Clouds on an even background."""
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(side, side)), size)
    return 100 + 50 * np.clip(smooth / smooth.std() - 0.5, 0, None)


def shifted(rng, part, axes=(0, 1), side=256):
    """White noise after a bilinear shift, with variance 1: neighbours correlate by p (1 - p) / (p² + (1 - p)²)."""
    kernel = np.array([1 - part, part])
    noise = rng.normal(size=(side, side))
    for axis in axes:
        noise = convolve1d(noise, kernel / np.hypot(*kernel), axis, mode="wrap")
    return noise


@pytest.mark.parametrize("background", [0.0, 1.0], ids=["flat", "structured"])
@pytest.mark.parametrize("part", [0.0, 0.2, 0.5])
def test_correlation_of_shifted_noise(part, background):
    expected = part * (1 - part) / (part**2 + (1 - part) ** 2)
    noise = fit_noise(background * structure() + 8 * shifted(np.random.default_rng(1), part))
    assert noise.measurable
    assert noise.correlation[0, 1] == pytest.approx(expected, abs=0.04)
    assert noise.correlation[1, 0] == pytest.approx(expected, abs=0.04)
    assert noise.correlation[1, 1] == pytest.approx(expected**2, abs=0.04)
    assert noise.correlation[0, 2] == pytest.approx(0, abs=0.04)


def test_correlation_along_rows_only():
    noise = fit_noise(structure() + 8 * shifted(np.random.default_rng(1), 0.5, axes=(1,)))
    assert noise.correlation[0, 1] == pytest.approx(0.5, abs=0.04)
    assert noise.correlation[1, 0] == pytest.approx(0, abs=0.04)
    assert noise.neighbours == pytest.approx(0.25, abs=0.03)


def test_blurred_noise_has_the_variance_that_is_expected():
    rng = np.random.default_rng(2)
    image = shifted(rng, 0.5, side=512)
    expected = gaussian_filter(image, 2, mode="wrap").var()
    assert fit_noise(image).blurred(2 * np.sqrt(2)) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("part", [0.0, 0.5])
def test_photon_transfer_curve(part):
    clean = structure(512, 16)
    noise = shifted(np.random.default_rng(3), part, side=512)
    fitted = fit_noise(clean + np.sqrt(20 + 2.0 * (clean - 60)) * noise, clean)
    for intensity in (105, 140, 170):
        expected = 20 + 2.0 * (intensity - 60)
        assert fitted.variance(np.array(intensity)) == pytest.approx(expected, rel=0.15)


def test_variance_is_never_negative():
    clean = structure()
    fitted = fit_noise(clean + np.random.default_rng(0).normal(0, 3, clean.shape))
    assert fitted.variance(np.array([-1e6, 0, 1e3])).min() > 0


def test_structure_everywhere_cannot_be_told_from_noise():
    rng = np.random.default_rng(4)
    dense = 50 * gaussian_filter(rng.normal(size=(256, 256)), 2.5) * 10 + rng.normal(0, 2, (256, 256))
    assert not fit_noise(dense).measurable and noise_correlation(dense) == 0


@pytest.mark.parametrize("image", [np.zeros((256, 256)), np.random.default_rng(0).normal(size=(48, 60))])
def test_images_without_noise_or_too_small_have_no_model(image):
    assert fit_noise(image) is None and noise_correlation(image) == 0


def test_correlation_does_not_depend_on_gain_and_offset():
    image = structure() + shifted(np.random.default_rng(5), 0.3)
    assert noise_correlation(1000 + 7 * image) == pytest.approx(noise_correlation(image), rel=1e-6)
    assert neighbour_correlation(shifted(np.random.default_rng(6), 0.5)) == pytest.approx(0.5, abs=0.02)
