"""Planted motions are found and undone, on simulated low-dose pairs and on real ones; padding is put on both images."""

import numpy as np
import pytest
from scipy import ndimage

from ddpm_lightning.datasets.preparation.registration import (
    Motion,
    correlation,
    find_motion,
    move,
    pad_alike,
    residual_shift,
)
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.io.tiff import read_image
from tests.datasets.miniatures import displaced


@pytest.mark.parametrize("specimen", ["microtubules", "synapses"])
@pytest.mark.parametrize("planted", [Motion(2.3, -4.6, 0.7), Motion(-5.2, 1.7, -1.8), Motion(0.3, 0.4, 0.1)])
def test_a_planted_motion_is_recovered_to_a_tenth_of_a_pixel_and_of_a_degree(specimen, planted):
    pair = SimulatedPairs(specimen, "test", 1, 256, extras=False)[0]
    found = find_motion(pair.low, displaced(pair.high, planted))
    assert abs(found.motion.down - planted.down) < 0.1
    assert abs(found.motion.right - planted.right) < 0.1
    assert abs(found.motion.angle - planted.angle) < 0.1
    assert found.after > found.before and found.reason_to_reject(20, 0.2) is None and not found.negligible


def test_real_pairs_are_registered_as_well_as_they_lie(shared):
    folder = shared / "data" / "w2s-widefield" / "test"
    low, high = (read_image(folder / role / "00000.tif")[:256, :256] for role in ("low", "high"))
    unmoved, planted = find_motion(low, high).motion, Motion(3.4, -2.7, 0.9)
    found = find_motion(low, displaced(high, planted)).motion
    # The pair itself may be a little off: the motion then is that of the pair and the planted one together.
    assert abs(found.down - planted.down - unmoved.down) < 0.1
    assert abs(found.right - planted.right - unmoved.right) < 0.1
    assert abs(found.angle - planted.angle - unmoved.angle) < 0.1


@pytest.mark.parametrize("index", range(3))
def test_a_sharper_partner_does_not_pretend_to_be_shifted(index):
    # Linear interpolation would smooth the Airyscan image between pixels, and find a fifth of a pixel.
    pair = SimulatedPairs("synapses", "test", 3, 256, extras=False)[index]
    assert find_motion(pair.low, pair.high).displacement < 0.1


def test_moving_undoes_a_displacement_and_marks_padding():
    y, x = np.mgrid[:80, :96]
    image = (100 + 80 * np.sin(y / 5) * np.cos(x / 6)).astype(np.uint16)
    moved, inside = move(displaced(image, Motion(4.0, -3.0)), Motion(4.0, -3.0))
    expected = np.zeros_like(inside)
    expected[:76, 3:] = True
    np.testing.assert_array_equal(inside, expected)
    assert moved.dtype == np.uint16 and (moved[~inside] == 0).all()
    np.testing.assert_allclose(moved[8:68, 11:88], image[8:68, 11:88], atol=1)
    padded = pad_alike(image, inside)
    np.testing.assert_array_equal(padded == 0, ~inside)


def test_moving_interpolates_as_cubic_splines_do_and_keeps_to_the_type():
    rng = np.random.default_rng(0)
    image = (rng.random((40, 40)) > 0.5).astype(np.uint8) * 255
    motion = Motion(0.4, 0.3, 5.0)
    moved, inside = move(image, motion)
    (a, b), (c, d) = motion.matrix()
    y, x = np.mgrid[:40, :40] - 19.5
    at = [a * y + b * x + 19.5 + 0.4, c * y + d * x + 19.5 + 0.3]
    expected = ndimage.map_coordinates(image.astype(float), at, order=3, mode="nearest")
    assert expected.min() < -5 and expected.max() > 260  # splines overshoot; uint8 must not wrap around
    np.testing.assert_array_equal(moved[inside], np.rint(expected.clip(0, 255))[inside])


def test_displacement_is_the_root_mean_square_over_the_image():
    motion = Motion(1.5, -0.5, 1.2)
    y, x = np.mgrid[:64, :48].reshape(2, -1).astype(float)
    points = np.stack([y, x], axis=1)
    moved = points @ motion.matrix().T + motion.offset((64, 48))
    assert motion.displacement((64, 48)) == pytest.approx(
        np.sqrt(((moved - points) ** 2).sum(axis=1).mean()), rel=1e-3
    )


def test_a_match_that_is_none_is_not_believed():
    rng = np.random.default_rng(1)
    noise = [ndimage.gaussian_filter(rng.random((128, 128)), 1) for _ in range(2)]
    assert "correlation" in find_motion(*noise).reason_to_reject(1000, 0.5)
    pair = SimulatedPairs("microtubules", "test", 1, 256, extras=False)[0]
    far = find_motion(pair.low, displaced(pair.high, Motion(30, 0)))
    assert abs(far.motion.down - 30) < 0.3 and "more than 20 px" in far.reason_to_reject(20, 0.2)


def test_correlation_and_residual_shift_against_numpy():
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 30, 31))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert correlation(a, np.ones_like(a)) == 0
    image = ndimage.gaussian_filter(rng.random((64, 64)), 3)
    assert residual_shift(image, np.roll(image, (2, -3), (0, 1))) == pytest.approx((-2, 3), abs=0.15)
