"""SQUIRREL recovers a known blur, gain and offset, and sees what is missing."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ddpm_lightning.metrics.squirrel import squirrel


def sharp(shape: tuple[int, int] = (96, 120)) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.zeros(shape)
    image[tuple(rng.integers(5, np.array(shape) - 5, (60, 2)).T)] = rng.uniform(50, 100, 60)
    return gaussian_filter(image, 0.8)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 1.5])
@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.01, 5.0), (300.0, -20.0)])
def test_a_known_blur_gain_and_offset_are_found(sigma: float, gain: float, offset: float) -> None:
    image = sharp()
    reference = gain * gaussian_filter(image, sigma) + offset
    found = squirrel(image, reference)
    assert found.sigma == pytest.approx(sigma, abs=0.02)
    assert found.rsp == pytest.approx(1.0, abs=1e-4)
    assert found.rse < 0.01 * reference.std()
    assert not found.at_bound


def test_a_missing_structure_shows_in_the_map_and_the_numbers() -> None:
    image = sharp()
    reference = gaussian_filter(image, 1.2)
    wrong = image.copy()
    wrong[20:60, 20:90] = 0
    found, perfect = squirrel(wrong, reference), squirrel(image, reference)
    assert found.rsp < 0.99 < perfect.rsp
    assert found.rse > 10 * perfect.rse
    inside = np.zeros(image.shape, dtype=bool)
    inside[20:60, 20:90] = True
    assert found.error_map[inside].mean() > 3 * found.error_map[~inside].mean()
    assert found.rse == pytest.approx(np.sqrt(np.square(found.error_map).mean()))


def test_the_blur_is_the_best_of_all_blurs_written_out() -> None:
    rng = np.random.default_rng(1)
    image = sharp((40, 51)) + rng.normal(0, 1, (40, 51))
    reference = gaussian_filter(image, 1.3) + rng.normal(0, 0.5, image.shape)

    def residual(sigma: float) -> float:
        design = np.stack([gaussian_filter(image, sigma).ravel(), np.ones(image.size)], axis=1)
        return np.linalg.lstsq(design, reference.ravel(), rcond=None)[1][0]

    sigmas = np.linspace(0.01, 1.69, 85)
    found = squirrel(image, reference)
    assert found.sigma == pytest.approx(sigmas[np.argmin([residual(sigma) for sigma in sigmas])], abs=0.021)
    assert found.rse == pytest.approx(np.sqrt(residual(found.sigma) / image.size))


def test_a_blur_beyond_the_search_is_flagged() -> None:
    image = sharp()
    assert squirrel(image, gaussian_filter(image, 6)).at_bound


def test_a_smaller_reference_is_interpolated() -> None:
    image = gaussian_filter(sharp(), 1.5)
    reference = image.reshape(48, 2, 60, 2).mean(axis=(1, 3))
    found = squirrel(image, reference)
    assert found.error_map.shape == image.shape
    assert found.rsp > 0.99


def test_constant_images_have_no_correlation() -> None:
    image = sharp()
    assert math.isnan(squirrel(np.ones_like(image), image).rsp)
    assert math.isnan(squirrel(image, np.ones_like(image)).rsp)
    assert squirrel(np.ones_like(image), image).rse == pytest.approx(image.std())


@pytest.mark.parametrize("shape", [(100, 120), (96, 60), (200, 240), (96,)])
def test_a_reference_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="copy|two images"):
        squirrel(sharp(), np.zeros(shape))


def test_an_inverted_image_is_no_restoration() -> None:
    reference = gaussian_filter(np.random.default_rng(0).random((40, 40)), 2)
    found = squirrel(1 - reference, reference)
    assert found.rsp < -0.9 and found.rse == pytest.approx(reference.std())
