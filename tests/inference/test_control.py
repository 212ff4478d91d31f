"""Images without structure: they have the noise of the plane and nothing else, and show what a method invents."""

import numpy as np
import pytest
from scipy import ndimage

from ddpm_lightning.inference.control import control, inventions, structureless
from ddpm_lightning.metrics.noise_model import fit_noise, neighbour_correlation


@pytest.fixture(scope="module")
def plane():
    rng = np.random.default_rng(0)
    clean = 20 + np.zeros((128, 128))
    clean[rng.integers(4, 124, 60), rng.integers(4, 124, 60)] += 3000
    clean = ndimage.gaussian_filter(clean, 2)
    return rng.poisson(clean).astype(float), clean


def test_they_have_the_noise_of_the_plane_and_no_structure(plane):
    low, clean = plane
    images = structureless(low, clean, np.random.default_rng(1))
    assert list(images) == ["noise", "background"]
    for image in images.values():
        assert image.mean() == pytest.approx(20, abs=1) and image.var() == pytest.approx(20, rel=0.25)
        assert abs(neighbour_correlation(image)) < 0.1
    correlated = 20 + 4 * ndimage.gaussian_filter(np.random.default_rng(2).standard_normal((128, 128)), 0.7)
    found = structureless(correlated, np.full((128, 128), 20.0), np.random.default_rng(3))["noise"]
    assert neighbour_correlation(found) == pytest.approx(neighbour_correlation(correlated), abs=0.1)
    assert found.std() == pytest.approx(correlated.std(), rel=0.2) and fit_noise(found) is not None


def test_a_method_that_invents_puncta_is_found_out_and_a_blur_is_not(plane):
    low, clean = plane

    def honest(image):
        return ndimage.gaussian_filter(image, 2.5)

    def inventive(image):
        blurred = ndimage.gaussian_filter(image, 1.0)
        peaks = (blurred == ndimage.maximum_filter(blurred, 9)) & (blurred > np.median(blurred) + 3)
        return honest(image) + ndimage.gaussian_filter(3000.0 * peaks, 2)

    fair, found = (control(method, low, clean) for method in (honest, inventive))
    assert inventions(fair) == []
    assert found["restored"]["puncta"]["puncta"] >= 50 and found["noise"]["puncta"]["puncta"] > 20
    assert any("puncta" in line for line in inventions(found))
    assert "noise" not in control(honest, low[:32, :32], clean[:32, :32])
