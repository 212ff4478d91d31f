import numpy as np
import pytest

from ddpm_lightning.simulation.detector import Detector, Scmos, digitise

LEVELS = np.array([2.0, 5, 10, 20, 40, 80])


def recorded(detector, levels=LEVELS, pixels=40000, frames=1, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([detector(np.full((pixels, 1), level), rng, frames) for level in levels]).astype(float)


@pytest.mark.parametrize(
    "detector",
    [
        Detector(),
        Detector(gain=5, offset=100, read_noise=2),
        Detector(gain=20, offset=300, read_noise=0.3, excess=1.3),
        Detector(gain=30, offset=200, excess=2.0, efficiency=0.9, dark=1.0),
    ],
)
def test_variance_is_gain_times_signal_plus_read_noise(detector):
    values = recorded(detector)
    mean, variance = values.mean((1, 2)), values.var((1, 2))
    expected = detector.gain * (detector.efficiency * LEVELS + detector.dark) + detector.offset
    np.testing.assert_allclose(mean, expected, rtol=0.02)
    np.testing.assert_allclose(detector.expected(LEVELS), expected)
    law = (
        detector.gain * detector.excess * (mean - detector.offset)
        + (detector.gain * detector.read_noise) ** 2
    )
    np.testing.assert_allclose(variance, law, rtol=0.04)
    slope, intercept = np.polyfit(mean - detector.offset, variance, 1)
    assert slope == pytest.approx(detector.gain * detector.excess, rel=0.03)


def test_photon_counts_are_poisson():
    counts = recorded(Detector(), levels=[1.5], pixels=200000)[0]
    share = np.bincount(counts.astype(int).ravel(), minlength=8)[:8] / counts.size
    expected = np.exp(-1.5) * 1.5 ** np.arange(8) / np.array([1, 1, 2, 6, 24, 120, 720, 5040])
    np.testing.assert_allclose(share, expected, atol=0.003)


def test_the_mean_of_frames_has_its_variance_divided():
    detector = Detector(gain=12, offset=100, read_noise=1, excess=1.3)
    one, fifty = recorded(detector, [8.0])[0], recorded(detector, [8.0], frames=50)[0]
    assert fifty.mean() == pytest.approx(one.mean(), rel=0.01)
    assert fifty.var() - 1 / 12 == pytest.approx(one.var() / 50, rel=0.04)


@pytest.mark.parametrize(
    ("bits", "dtype", "top"), [(8, np.uint8, 255), (12, np.uint16, 4095), (16, np.uint16, 65535)]
)
def test_values_are_rounded_and_clipped_to_the_depth(bits, dtype, top):
    values = digitise(np.array([-3.0, 0.4, 1.6, 1e6]), bits)
    assert values.dtype == dtype
    assert values.tolist() == [0, 0, 2, top]


def test_a_camera_keeps_its_maps():
    camera = Scmos(camera=3, hot=0.0)
    gain, offset, read_noise, dark = camera.maps((48, 64))
    rng = np.random.default_rng(0)
    frames = np.stack([camera(np.zeros((48, 64)), rng) for _ in range(400)]).astype(float)
    noise = np.sqrt((gain * read_noise) ** 2 + 1 / 12)
    np.testing.assert_array_less(np.abs(frames.mean(0) - offset) / (noise / 20), 5.5)
    assert np.corrcoef(frames.std(0).ravel(), noise.ravel())[0, 1] > 0.95
    assert np.median(read_noise) == pytest.approx(camera.read_noise, rel=0.05)
    assert np.log(read_noise**2).std() == pytest.approx(camera.log_read_variance_sd, rel=0.05)
    np.testing.assert_array_equal(Scmos(camera=3, hot=0.0).maps((48, 64))[0], gain)
    assert not np.array_equal(Scmos(camera=4).maps((48, 64))[0], gain)
    assert not dark.any() and Scmos(hot=0.5).maps((48, 64))[3].any()


def test_a_camera_obeys_the_photon_transfer_law_in_every_pixel():
    camera = Scmos(camera=1, efficiency=1.0, hot=0.0)
    rng = np.random.default_rng(0)
    gain, _, read_noise, _ = camera.maps((32, 32))
    frames = np.stack([camera(np.full((32, 32), 30.0), rng) for _ in range(500)]).astype(float)
    law = gain**2 * (30 + read_noise**2) + 1 / 12
    assert np.mean(frames.var(0, ddof=1) / law) == pytest.approx(1, abs=0.01)
    error = np.sqrt(law / 500)
    np.testing.assert_array_less(
        np.abs(frames.mean(0) - camera.expected(np.full((32, 32), 30.0))) / error, 5.5
    )


def test_impossible_detectors_are_refused():
    with pytest.raises(ValueError, match="excess"):
        Detector(excess=0.5)
    with pytest.raises(ValueError, match="bits"):
        Detector(bits=17)
