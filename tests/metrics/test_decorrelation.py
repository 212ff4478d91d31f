"""Decorrelation analysis: golden values of the MATLAB variant, invariance, order, and images without
structure."""

import math
import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ddpm_lightning.metrics.decorrelation import decorrelation_resolution

# sigma in pixels, noisy or clean: cut-off, contrast and resolution in pixels of an independent port of the
# program.
GOLDEN = [
    (1.5, "clean", 0.536, 0.688, 3.73),
    (1.5, "noisy", 0.510, 0.665, 3.92),
    (2.0, "clean", 0.408, 0.630, 4.90),
    (2.0, "noisy", 0.398, 0.608, 5.02),
    (3.0, "clean", 0.271, 0.522, 7.39),
    (3.0, "noisy", 0.267, 0.507, 7.48),
]


def points(sigma: float, kind: str) -> np.ndarray:
    """3000 blurred points on 512 x 512 pixels, as the golden values were made."""
    rng = np.random.default_rng(0)
    image = np.zeros((512, 512))
    np.add.at(image, tuple(rng.integers(0, 512, (3000, 2)).T), 1.0)
    image = gaussian_filter(image, sigma, mode="wrap")
    image /= image.max()
    return image if kind == "clean" else rng.poisson(50 * image) + rng.normal(0, 1, image.shape)


@pytest.mark.parametrize(("sigma", "kind", "cutoff", "contrast", "resolution"), GOLDEN)
def test_golden_values(sigma: float, kind: str, cutoff: float, contrast: float, resolution: float) -> None:
    found = decorrelation_resolution(points(sigma, kind))
    assert found.cutoff == pytest.approx(cutoff, abs=0.02)
    assert found.contrast == pytest.approx(contrast, abs=0.005)
    assert found.resolution == pytest.approx(resolution, rel=0.02)


@pytest.mark.parametrize(("gain", "offset"), [(1e-3, 0.0), (1.0, 1000.0), (40.0, -7.0), (-1.0, 0.0)])
def test_intensity_scale_and_offset_change_nothing(gain: float, offset: float) -> None:
    image = points(2.0, "noisy")
    expected = decorrelation_resolution(image).cutoff
    assert decorrelation_resolution(gain * image + offset).cutoff == pytest.approx(expected, abs=1e-9)


def test_a_larger_blur_is_a_larger_resolution_and_near_its_width() -> None:
    found = [decorrelation_resolution(points(sigma, "noisy")).resolution for sigma in (1.5, 2.0, 3.0, 4.0)]
    assert found == sorted(found)
    widths = [2.355 * sigma for sigma in (1.5, 2.0, 3.0, 4.0)]
    np.testing.assert_allclose(found, 1.05 * np.array(widths), rtol=0.1)


def test_the_pixel_size_gives_the_unit() -> None:
    image = points(2.0, "clean")
    in_pixels, in_nm = decorrelation_resolution(image), decorrelation_resolution(image, pixel_size=20.0)
    assert in_nm.resolution == pytest.approx(20 * in_pixels.resolution)
    assert in_nm.cutoff == in_pixels.cutoff


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_white_noise_has_no_resolution(seed: int, offset: float) -> None:
    found = decorrelation_resolution(np.random.default_rng(seed).normal(offset, 1, (256, 256)))
    assert found.cutoff == 0.0
    assert math.isnan(found.resolution)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e5])
def test_a_constant_image_has_no_resolution(value: float) -> None:
    assert math.isnan(decorrelation_resolution(np.full((64, 64), value)).resolution)


@pytest.mark.parametrize("shape", [(301, 400), (400, 301), (300, 300)])
def test_sizes_that_are_odd_or_not_square(shape: tuple[int, int]) -> None:
    image = points(2.0, "clean")[: shape[0], : shape[1]]
    found = decorrelation_resolution(image)
    assert found.resolution == pytest.approx(4.9, rel=0.1)
    assert decorrelation_resolution(image.T).resolution == pytest.approx(found.resolution)


@pytest.mark.parametrize("shape", [(47, 200), (200, 47), (64,), (3, 64, 64)])
def test_what_is_too_small_or_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="48 x 48"):
        decorrelation_resolution(np.zeros(shape))


@pytest.mark.slow
def test_the_cost_of_512_pixels() -> None:
    image = points(2.0, "noisy")
    start = time.process_time()
    decorrelation_resolution(image)
    assert time.process_time() - start < 2
