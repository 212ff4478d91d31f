import hashlib
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import ddpm_lightning.datasets.simulated as simulated
from ddpm_lightning.data.pairs import PairSource
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.simulation.degradations import LineNoise, ScanJitter
from ddpm_lightning.simulation.detector import Detector
from ddpm_lightning.simulation.optics import FWHM_PER_SIGMA, Psf
from ddpm_lightning.simulation.scene import Canvas
from ddpm_lightning.simulation.specimens import SPECIMENS
from ddpm_lightning.utils.errors import UserError


def digest(pair):
    content = hashlib.sha256(pair.low.tobytes() + pair.high.tobytes())
    for name in ("emitters", "low_second", "high_second"):
        content.update(pair.extra[name].tobytes())
    content.update(pair.extra["truth"]["mask"].tobytes() + repr(pair.extra["parameters"]).encode())
    return content.hexdigest()


def ring_correlation(first, second):
    side = len(first)
    spectra = [np.fft.fft2(image - image.mean()) for image in (first, second)]
    ring = (
        np.rint(side * np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))).astype(int).ravel()
    )

    def total(values):
        return np.bincount(ring, values.ravel())[: side // 2]

    cross, powers = (spectra[0] * spectra[1].conj()).real, [np.abs(s) ** 2 for s in spectra]
    return total(cross) / np.sqrt(np.maximum(total(powers[0]) * total(powers[1]), 1e-12))


def cutoff(correlation, side, threshold=1 / 7):
    smooth = np.convolve(correlation, np.ones(3) / 3, "same")
    below = 3 + int(np.argmax(smooth[3:] < threshold))
    part = (smooth[below - 1] - threshold) / (smooth[below - 1] - smooth[below])
    return (below - 1 + part) / side


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_pairs_look_as_promised(specimen):
    source = SimulatedPairs(specimen, "train", count=3, size=96)
    assert isinstance(source, PairSource) and len(source) == 3
    pair = source[1]
    assert (pair.name, pair.field) == ("00001", "00001")
    assert (
        pair.pixel_size
        == {"microtubules": 0.025, "mitochondria": 0.02, "synapses": 0.095, "zebrafish": 0.2}[specimen]
    )
    assert set(pair.extra) == {"truth", "emitters", "low_second", "high_second", "parameters"}
    for image in (pair.low, pair.high, pair.extra["low_second"], pair.extra["high_second"]):
        assert image.dtype == np.uint16 and image.shape == (96, 96)
    assert pair.extra["emitters"].dtype == np.float32 and pair.extra["emitters"].shape == (96, 96)
    assert not np.array_equal(pair.low, pair.extra["low_second"])
    assert not np.array_equal(pair.high, pair.extra["high_second"])


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_the_clean_image_is_its_expectation_plus_noise_of_the_detector(specimen):
    """Normalised by the law of the detector, what is left over has mean 0 and variance 1."""
    detector, frames = SPECIMENS[specimen].high.detector, SPECIMENS[specimen].high.frames
    for pair in SimulatedPairs(specimen, "val", count=2):
        electrons = (pair.extra["emitters"] - detector.offset) / detector.gain
        variance = (detector.excess * electrons + detector.read_noise**2) * detector.gain**2 / frames
        deviation = (pair.high - pair.extra["emitters"]) / np.sqrt(variance + 1 / 12 * (detector.gain > 1))
        assert deviation.mean() == pytest.approx(0, abs=0.02)
        assert deviation.std() == pytest.approx(1, abs=0.03)


def test_doses_are_those_of_the_published_sets():
    for specimen, ratio in {"microtubules": 17, "mitochondria": 10}.items():
        imaging = SPECIMENS[specimen]
        assert imaging.low.psf == imaging.high.psf
        pair = SimulatedPairs(specimen, "train", 1)[0]
        dark = 256**2 * (imaging.high.detector.dark - ratio * imaging.low.detector.dark)
        assert (pair.high.sum() - dark) / pair.low.sum() == pytest.approx(ratio, rel=0.05)
        assert len(np.unique(pair.low)) < 25 and 50 <= pair.high.max() <= 400
    assert SPECIMENS["zebrafish"].high.frames == 50 and SPECIMENS["zebrafish"].low.frames == 1
    assert SPECIMENS["synapses"].low.psf.widths[0] > 1.5 * SPECIMENS["synapses"].high.psf.widths[0]


def test_dose_is_a_factor_on_the_photons_of_the_low_image_alone():
    one, four = (SimulatedPairs("mitochondria", "train", 1, dose=d)[0] for d in (1.0, 4.0))
    assert four.low.sum() / one.low.sum() == pytest.approx(4, rel=0.05)
    np.testing.assert_array_equal(one.high, four.high)


def test_the_two_recordings_have_independent_noise():
    pair = SimulatedPairs("microtubules", "train", 1)[0]
    noise = [image - pair.extra["emitters"] for image in (pair.high, pair.extra["high_second"])]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.02
    low_noise = pair.low - pair.extra["emitters"] / 17  # dark counts apart, which are the same everywhere
    assert abs(np.corrcoef(low_noise.ravel(), noise[0].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("photons", [20, 100, 1000])
def test_two_recordings_of_points_agree_up_to_the_known_cutoff(photons):
    """Of scattered points of n photons behind a Gaussian of transfer function H, FRC = n H² / (n H² + 1)."""
    rng = np.random.default_rng(photons)
    canvas = Canvas(size=256, pixel=20, margin=0)
    psf = Psf((100.0,))
    image = photons * psf(canvas.splat(rng.uniform(0, 255, (4000, 2))), 20)
    measured = cutoff(ring_correlation(*(Detector()(image, rng) for _ in range(2))), 256)
    sigma = 100 / FWHM_PER_SIGMA / 20
    assert measured == pytest.approx(np.sqrt(np.log(6 * photons)) / (2 * np.pi * sigma), rel=0.04)


@pytest.mark.parametrize("specimen", ["microtubules", "mitochondria"])
def test_two_recordings_of_a_specimen_agree_up_to_the_cutoff_of_its_expectation(specimen):
    """With the power S of the expectation on a ring and N photons in all, FRC = S / (S + N)."""
    frequency = np.fft.fftfreq(256)
    ring = np.rint(256 * np.hypot(frequency, frequency[:, None])).astype(int).ravel()
    ratios = []
    for pair in SimulatedPairs(specimen, "test", 6):
        expectation = pair.extra["emitters"].astype(float)
        power = np.abs(np.fft.fft2(expectation - expectation.mean())) ** 2
        photons = expectation.sum()
        signal = (np.bincount(ring, power.ravel()) / np.bincount(ring))[:128]
        measured = cutoff(ring_correlation(pair.high, pair.extra["high_second"]), 256)
        ratios.append(measured / cutoff(signal / (signal + photons), 256))
    assert np.median(ratios) == pytest.approx(1, abs=0.03)
    assert np.all(np.abs(np.array(ratios) - 1) < 0.1)


def test_order_of_access_does_not_matter():
    forward = [digest(pair) for pair in SimulatedPairs("synapses", "train", 3, size=64)]
    source = SimulatedPairs("synapses", "train", 3, size=64)
    assert [digest(source[i]) for i in (2, 0, 1, 2)] == [forward[i] for i in (2, 0, 1, 2)]
    assert digest(source[-1]) == forward[2]
    with pytest.raises(IndexError):
        source[3]


SCRIPT = """
import sys
sys.path[:0] = {path!r}
from test_simulated import SPECIMENS, SimulatedPairs, digest
for specimen in SPECIMENS:
    print(digest(SimulatedPairs(specimen, "val", 2, size=64, seed=5, cache=sys.argv[1])[1]))
"""


def test_another_process_samples_the_same_and_shares_the_cache(tmp_path, monkeypatch):
    script = SCRIPT.format(path=[os.path.dirname(__file__)])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    here = [digest(SimulatedPairs(s, "val", 2, size=64, seed=5)[1]) for s in SPECIMENS]
    assert ran.stdout.split() == here
    monkeypatch.setattr(simulated, "expose", lambda *_: pytest.fail("drawn again"))
    cached = [digest(SimulatedPairs(s, "val", 2, size=64, seed=5, cache=tmp_path)[1]) for s in SPECIMENS]
    assert cached == here


def test_splits_seeds_and_indices_differ():
    pairs = [
        SimulatedPairs("microtubules", split, 2, size=64, seed=seed)[index]
        for split in ("train", "val", "test")
        for seed in (0, 1)
        for index in (0, 1)
    ]
    assert len({pair.extra["emitters"].tobytes() for pair in pairs}) == 12


def test_extras_do_not_change_the_images_and_a_longer_set_begins_alike():
    full = SimulatedPairs("zebrafish", "train", 2, size=64)[1]
    bare = SimulatedPairs("zebrafish", "train", 50, size=64, extras=False)[1]
    assert bare.extra == {}
    np.testing.assert_array_equal(full.low, bare.low)
    np.testing.assert_array_equal(full.high, bare.high)


def test_degradations_touch_the_low_images_only():
    plain = SimulatedPairs("zebrafish", "train", 1, size=64)[0]
    rough = SimulatedPairs("zebrafish", "train", 1, size=64, degradations=[LineNoise(30), ScanJitter(1.0)])[0]
    np.testing.assert_array_equal(plain.high, rough.high)
    rows = (rough.low.astype(float) - plain.low).mean(1)
    assert rows.std() > 15
    assert rough.low.dtype == np.uint16


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_the_cache_gives_back_what_it_was_given(tmp_path, specimen, monkeypatch):
    fresh = SimulatedPairs(specimen, "train", 2, size=64, cache=tmp_path)[1]
    monkeypatch.setattr(simulated, "expose", lambda *_: pytest.fail("drawn again"))
    cached = SimulatedPairs(specimen, "train", 9, size=64, cache=tmp_path)[1]
    assert digest(cached) == digest(fresh)
    assert cached.extra["parameters"] == fresh.extra["parameters"]
    for name, value in fresh.extra["truth"].items():
        again = cached.extra["truth"][name]
        assert type(again) is type(value) and len(again) == len(value)
        for a, b in zip(again, value, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_damaged_entry_is_generated_again(tmp_path):
    source = SimulatedPairs("microtubules", "train", 1, size=64, cache=tmp_path)
    expected = digest(source[0])
    (entry,) = tmp_path.rglob("*.npz")
    sound = entry.read_bytes()
    rng = np.random.default_rng(0)
    damages = [b"", b"not an archive", sound[: len(sound) // 2], sound[:-30]]
    for place in rng.integers(0, len(sound), 12):
        damages.append(sound[:place] + bytes([sound[place] ^ 0x55]) + sound[place + 1 :])
    for damage in damages:
        entry.write_bytes(damage)
        assert digest(source[0]) == expected
        assert digest(source[0]) == expected
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["00000.npz"]


def test_each_recipe_has_its_own_cache(tmp_path):
    recipes = [
        {},
        {"dose": 0.5},
        {"seed": 1},
        {"size": 48},
        {"degradations": [LineNoise(1.0)]},
        {"extras": False},
    ]
    for recipe in recipes:
        SimulatedPairs("microtubules", "train", 1, cache=tmp_path, **{"size": 32, **recipe})[0]
    SimulatedPairs("microtubules", "val", 1, cache=tmp_path, size=32)[0]
    assert len(list(tmp_path.iterdir())) == len(recipes) + 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(UserError, match="data.cache"):
        SimulatedPairs("microtubules", "train", 1, size=32, cache=blocked)[0]


def test_a_source_travels_to_workers():
    source = SimulatedPairs("synapses", "train", 2, size=48, degradations=[LineNoise()])
    assert digest(pickle.loads(pickle.dumps(source))[1]) == digest(source[1])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"specimen": "yeast"}, "yeast"),
        ({"split": "holdout"}, "holdout"),
        ({"count": 0}, "count=0"),
        ({"size": 8}, "size=8"),
        ({"dose": 0.0}, "dose=0.0"),
        ({"dose": float("nan")}, "dose=nan"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_settings_out_of_range_are_refused(change, named):
    settings = {"specimen": "microtubules", "split": "train", "count": 1} | change
    with pytest.raises(UserError, match=named):
        SimulatedPairs(**settings)
