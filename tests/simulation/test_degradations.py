import numpy as np
import pytest
from scipy import ndimage

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.simulation.degradations import (
    Afterpulsing,
    Bandwidth,
    CameraPattern,
    Crosstalk,
    Dose,
    Flicker,
    LineNoise,
    Misregistration,
    Photobleaching,
    ScanJitter,
    degrade,
)
from ddpm_lightning.simulation.degraded_pairs import DegradedPairs
from ddpm_lightning.simulation.detector import Scmos

ALL = [
    Dose(0.5),
    Photobleaching(),
    Flicker(),
    ScanJitter(),
    Misregistration(),
    LineNoise(),
    Crosstalk(),
    Bandwidth(),
    Afterpulsing(),
    CameraPattern(),
]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def shots(rng, level, side=256):
    return rng.poisson(level, (side, side)).astype(np.uint16)


@pytest.mark.parametrize("degradation", ALL, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_type_and_shape_stay_and_the_image_changes_alike_for_one_seed(degradation, dtype):
    image = np.random.default_rng(1).poisson(20, (48, 40)).astype(dtype)
    before = image.copy()
    first = degradation(image, np.random.default_rng(7))
    second = degradation(image, np.random.default_rng(7))
    assert first.dtype == dtype and first.shape == image.shape
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, before)
    assert not np.array_equal(first, image)


def test_dose_scales_expectations_and_thins_counts(rng):
    assert Dose(0.25)(np.full((4, 4), 8, np.float32), rng).tolist() == np.full((4, 4), 2.0).tolist()
    thinned = Dose(0.25)(shots(rng, 40), rng).astype(float)
    assert thinned.mean() == pytest.approx(10, rel=0.01)
    assert thinned.var() == pytest.approx(10, rel=0.03)  # still Poisson; scaling would have given 2.5


def test_dose_knows_gain_and_offset_and_cannot_add_light(rng):
    image = (100 + 5 * shots(rng, 40)).astype(np.uint16)
    thinned = Dose(0.5, gain=5, offset=100)(image, rng).astype(float)
    assert thinned.mean() == pytest.approx(200, rel=0.01)
    assert thinned.var() == pytest.approx(25 * 20, rel=0.03)
    with pytest.raises(ValueError, match="only lose light"):
        Dose(2.0)(image, rng)
    with pytest.raises(ValueError, match="above 0"):
        Dose(0.0)


def test_bleaching_dims_from_the_first_row_to_the_last(rng):
    image = Photobleaching(before=0.2, during=0.3)(np.ones((101, 8)), rng)
    assert image[0, 0] == pytest.approx(0.8)
    assert image[-1, 0] == pytest.approx(0.8 * 0.7)
    assert image[50, 0] == pytest.approx(0.8 * np.sqrt(0.7))
    two_rates = Photobleaching(0.0, 0.3, fast_share=0.4, fast=5.0).remaining(101)
    assert two_rates[-1] == pytest.approx(0.6 * 0.7 + 0.4 * 0.7**5)


def test_flicker_multiplies_rows(rng):
    image = Flicker(row=0.05)(np.full((20000, 2), 100.0), rng)
    np.testing.assert_array_equal(image[:, 0], image[:, 1])
    assert image[:, 0].std() == pytest.approx(5, rel=0.03)
    frames = [Flicker(row=0, frame=0.1)(np.full((2, 2), 100.0), rng)[0, 0] for _ in range(4000)]
    assert np.std(frames) == pytest.approx(10, rel=0.05)


def test_jitter_shifts_each_row_by_its_own_amount(rng):
    ramp = np.tile(np.arange(200.0), (5000, 1))
    moved = ScanJitter(sigma=0.6)(ramp, rng)
    shift = (ramp - moved)[:, 100]
    assert shift.mean() == pytest.approx(0, abs=0.04)
    assert shift.std() == pytest.approx(0.6, rel=0.04)
    np.testing.assert_allclose((ramp - moved)[:, 50], shift, atol=1e-9)
    odd = ramp - ScanJitter(sigma=0, bidirectional=1.5)(ramp, rng)
    assert odd[::2, 100].tolist() == [0] * 2500 and odd[1::2, 100].tolist() == [1.5] * 2500


def test_jitter_of_recorded_rows_leaves_their_noise(rng):
    image = shots(rng, 5)
    moved = ScanJitter(sigma=1.0)(image, rng)
    assert moved[:, 8:-8].var() == pytest.approx(image.var(), rel=0.03)


def test_misregistration_moves_a_spot_by_at_most_its_range(rng):
    spot = np.zeros((41, 41))
    spot[20, 20] = 1
    spot = ndimage.gaussian_filter(spot, 3)
    centres = np.array([ndimage.center_of_mass(Misregistration(shift=2)(spot, rng)) for _ in range(400)]) - 20
    assert np.abs(centres).max() < 2.01
    np.testing.assert_allclose(centres.std(0), 2 / np.sqrt(3), rtol=0.1)


def test_misregistration_turns_about_the_centre(rng):
    spot = np.zeros((81, 81))
    spot[40, 70] = 1
    spot = ndimage.gaussian_filter(spot, 2)
    tta = [np.subtract(ndimage.center_of_mass(Misregistration(0, 5)(spot, rng)), 40) for _ in range(200)]
    angles = np.rad2deg(np.arctan2(*np.array(tta).T))
    np.testing.assert_allclose(np.hypot(*np.array(tta).T), 30, atol=0.1)
    assert np.abs(angles).max() < 5.1 and angles.std() == pytest.approx(5 / np.sqrt(3), rel=0.12)


@pytest.mark.parametrize("columns", [False, True])
def test_line_noise_is_constant_along_a_line(rng, columns):
    lines = LineNoise(sigma=3, columns=columns)(np.zeros((3000, 3000), np.float32), rng)
    lines = lines.T if columns else lines
    np.testing.assert_array_equal(lines, lines[:, :1] + np.zeros_like(lines))
    assert lines[:, 0].std() == pytest.approx(3, rel=0.05)
    assert abs(np.corrcoef(lines[1:, 0], lines[:-1, 0])[0, 1]) < 0.07


def test_drift_remembers_and_is_stationary(rng):
    runs = np.stack([LineNoise(0, drift=2, memory=0.9)(np.zeros((200, 1)), rng)[:, 0] for _ in range(600)])
    assert runs[:, 0].std() == pytest.approx(2, rel=0.1)
    assert runs[:, -1].std() == pytest.approx(2, rel=0.1)
    lagged = [np.mean(runs[:, k:] * runs[:, : 200 - k]) / np.mean(runs**2) for k in (1, 5)]
    assert lagged == pytest.approx([0.9, 0.9**5], abs=0.05)


def test_crosstalk_keeps_the_mean_and_correlates_noise(rng):
    image = 1000 + 20 * rng.standard_normal((400, 400))
    mixed = Crosstalk(1.0)(image, rng)
    assert mixed.mean() == pytest.approx(image.mean(), rel=1e-4)
    assert mixed.var() == pytest.approx(400 / (4 * np.pi), rel=0.05)  # ∫ kernel² = 1 / 4πσ²
    residue = mixed - mixed.mean()
    assert np.mean(residue[:, 1:] * residue[:, :-1]) / mixed.var() == pytest.approx(np.exp(-1 / 4), abs=0.03)


def test_bandwidth_trails_into_the_following_pixels(rng):
    image = np.zeros((1, 60))
    image[0, 10] = 100
    smeared = Bandwidth(2.0)(image, rng)[0]
    assert smeared[:10].tolist() == [0] * 10
    assert smeared.sum() == pytest.approx(100, rel=1e-6)
    np.testing.assert_allclose(smeared[11:20] / smeared[10:19], np.exp(-0.5))
    np.testing.assert_allclose(Bandwidth(2.0)(np.full((3, 9), 7.0), rng), 7.0)


def test_afterpulses_add_counts_that_follow_their_cause(rng):
    image = shots(rng, 10)
    more = Afterpulsing(0.1, 1.0)(image, rng).astype(float)
    extra = more - image
    assert extra.min() >= 0
    assert extra.mean() == pytest.approx(1.0, rel=0.03)
    cause = image - image.mean()
    forward = np.mean(cause[:, :-1] * extra[:, 1:])
    assert forward == pytest.approx(0.1 * 10 * (1 - np.exp(-1)) * np.exp(-1), rel=0.15)
    assert abs(np.mean(cause[:, 1:] * extra[:, :-1])) < 0.05


def test_camera_pattern_is_fixed_where_its_noise_is_not(rng):
    pattern = CameraPattern(Scmos(camera=2, gain_sd=0.05, offset_sd=4, read_noise=0.5))
    frames = np.stack([pattern(np.full((32, 32), 500.0), rng) for _ in range(300)])
    gain, offset, read_noise, _ = pattern.camera.maps((32, 32))
    expected = 500 * gain / pattern.camera.gain + offset - pattern.camera.offset
    np.testing.assert_allclose(frames.mean(0), expected, atol=0.6)
    assert np.mean(frames.var(0) / (gain * read_noise) ** 2) == pytest.approx(1, abs=0.03)


def test_stages_are_applied_apart_and_in_order(rng):
    image = np.full((8, 8), 10.0)
    chain = [LineNoise(sigma=0, drift=0), Dose(0.5), Photobleaching(before=0.5, during=0)]
    np.testing.assert_allclose(degrade(image, chain, rng, "photons"), 2.5)
    np.testing.assert_allclose(degrade(image, chain, rng, "image"), 10)
    np.testing.assert_allclose(degrade(image, chain, rng), 2.5)


def test_any_source_can_be_degraded_the_same_way_each_time(rng):
    images = [shots(rng, 9, 32) for _ in range(3)]
    source = [Pair(image, image, f"{i}", "f", 0.1, {"k": i}) for i, image in enumerate(images)]
    degraded = DegradedPairs(source, [Dose(0.5), LineNoise(2.0)], seed=4)
    backwards = [degraded[i] for i in (2, 1, 0)][::-1]
    assert len(degraded) == 3
    for original, pair, again in zip(source, backwards, degraded, strict=True):
        np.testing.assert_array_equal(pair.low, again.low)
        assert not np.array_equal(pair.low, original.low)
        assert pair.high is original.high
        assert (pair.name, pair.field, pair.pixel_size, pair.extra) == (
            original.name,
            original.field,
            original.pixel_size,
            original.extra,
        )
