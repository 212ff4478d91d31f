"""Pairs after cameras and software at random."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from ddpm_lightning.datasets.simulated_denoising import RandomMicroscopePairs
from ddpm_lightning.simulation.degradations import Bandwidth, CameraFilter, ColourMosaic, DriftCorrection
from ddpm_lightning.simulation.detector import Detector
from ddpm_lightning.simulation.processing import (
    Binned,
    Correlated,
    FileFormat,
    Median,
    Processing,
    Resized,
    SameForBoth,
    UnequalPixels,
)
from ddpm_lightning.simulation.random_processing import FRACTIONS, MECHANISMS, RandomProcessing
from ddpm_lightning.simulation.specimens import SPECIMENS
from ddpm_lightning.utils.errors import UserError

FOUR = ["microtubules", "mitochondria", "synapses", "zebrafish"]
NOTHING = RandomProcessing(**dict.fromkeys(FRACTIONS, 0.0))
STEPS = [
    Correlated(0.5, 0.3, 0.7),
    Median(),
    Binned(2),
    Resized(0.6),
    Resized(1.7, "cubic", smooth=False),
    *map(SameForBoth, (DriftCorrection(), ColourMosaic("red"), CameraFilter(), Bandwidth(1.0))),
]


@pytest.mark.parametrize("processing", [None, NOTHING], ids=["none", "nothing"])
def test_without_processing_pairs_are_those_of_earlier_versions(processing):
    # Hashes of the pairs of version 0.1, whose models were trained on them.
    for size, known in ((48, "acfa189d01ce5877"), (128, "cc32cf09ba11d7ab")):
        digest = hashlib.sha256()
        for pair in RandomMicroscopePairs(FOUR, "train", 8, size, processing=processing):
            digest.update(pair.low.tobytes() + pair.high.tobytes() + str(pair.low.dtype).encode())
        assert digest.hexdigest().startswith(known)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_the_clean_image_is_the_expectation_of_the_noisy_one(step):
    rng, detector, processing = (
        np.random.default_rng(1),
        Detector(gain=40, offset=100),
        Processing(steps=(step,)),
    )
    side = processing.side(40)
    ramp = np.add.outer(np.linspace(20, 60, side), 10 * np.cos(np.arange(side) / 5))
    clean = detector.expected(ramp).astype(np.float32)
    pairs = [processing(detector(ramp, rng), clean, detector, rng, 40) for _ in range(150)]
    lows, highs = (np.mean([pair[k] for pair in pairs], 0) for k in (0, 1))
    assert lows.shape == highs.shape == (40, 40) and pairs[0][0].dtype == np.uint16
    noise = np.std([low - highs for low, _ in pairs])
    # The median of photon counts is a third of a count below their mean.
    tolerance = 15 if isinstance(step, Median) else 0
    np.testing.assert_allclose(lows, highs, atol=5 * noise / np.sqrt(150) + tolerance)
    assert abs((lows - highs).mean()) < noise / 30 + tolerance


def test_steps_are_applied_in_order_and_sizes_add_up():
    rng, detector = np.random.default_rng(0), Detector(bits=8)
    for factor in np.linspace(0.5, 1.8, 27):
        processing = Processing(steps=(Resized(float(factor)), Binned(2), Resized(1.3)))
        side = processing.side(64)
        low, clean = processing(
            np.ones((side, side), np.uint8), np.ones((side, side), np.float32), detector, rng, 64
        )
        assert low.shape == clean.shape == (64, 64) and low.dtype == np.uint8
        np.testing.assert_allclose(clean, 1, rtol=1e-5)


def test_half_of_the_images_have_correlated_noise_by_all_mechanisms():
    rng, recipe = np.random.default_rng(2), RandomProcessing()
    chains = [recipe.sample(rng).steps for _ in range(4000)]
    kinds = [step for chain in chains for step in chain]
    assert np.mean(
        [any(not isinstance(step, Binned | UnequalPixels) for step in chain) for chain in chains]
    ) == pytest.approx(0.5, abs=0.03)
    assert sum(isinstance(step, Correlated) for step in kinds) == pytest.approx(4000 * 0.5 * 0.4, rel=0.1)
    operations = {type(step.operation) for step in kinds if isinstance(step, SameForBoth)}
    assert operations == {DriftCorrection, ColourMosaic, CameraFilter, Bandwidth}
    assert {type(step) for step in kinds} >= {Median, Resized, Binned, Correlated}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_correlations_lie_in_the_range_of_the_mechanism(mechanism):
    recipe = replace(NOTHING, correlated=1, mechanisms={mechanism: 1})
    lags = []
    for seed in range(40):
        rng, detector = np.random.default_rng(seed), Detector(offset=50)
        processing = recipe.sample(rng)
        side = processing.side(128)
        clean = np.full((side, side), 150, np.float32)
        low, high = processing(detector(clean - 50, rng), clean, detector, rng, 128)
        noise = (low - high)[4:-4, 4:-4]
        lags.append(np.mean(noise[:, 1:] * noise[:, :-1]) / noise.var())
    lowest, highest = (-0.12, 0.86) if mechanism == "zoom" else (-0.12, 0.8)
    assert lowest < min(lags) and max(lags) < highest
    assert np.median(lags) > 0.1


def test_processing_depends_on_the_index_only_and_changes_the_pairs():
    plain = RandomMicroscopePairs(FOUR, "val", 6, 48)
    first, again = (
        RandomMicroscopePairs(FOUR, "val", 6, 48, processing=RandomProcessing(1.0)) for _ in range(2)
    )
    backwards = [again[k] for k in (5, 4, 3, 2, 1, 0)][::-1]
    assert all(np.array_equal(a.low, b.low) for a, b in zip(first, backwards, strict=True))
    assert not any(np.array_equal(a.low, b.low) for a, b in zip(first, plain, strict=True))
    assert all(pair.low.shape == pair.high.shape == (48, 48) for pair in first)


@pytest.mark.parametrize(
    "wrong",
    [
        {"correlated": 1.5},
        {"binned": -0.1},
        {"mechanisms": {"blur": 1}},
        {"mechanisms": {"zoom": 0}},
        {"mechanisms": {}},
        {"correlation": (0.5, 1.2)},
        {"jpeg": 2},
        {"quality": (0, 50)},
        {"effective_bits": (7, 4)},
    ],
    ids=str,
)
def test_settings_out_of_range_are_rejected(wrong):
    with pytest.raises(UserError) as error:
        RandomProcessing(**wrong)
    assert error.value.subject == f"data.processing.{next(iter(wrong))}"


def test_all_specimens_can_be_processed():
    pairs = RandomMicroscopePairs(list(SPECIMENS), "test", len(SPECIMENS), 48, processing=RandomProcessing())
    assert all(np.isfinite(pair.high).all() and pair.low.std() > 0 for pair in pairs)


def test_other_artefacts_occur_as_often_as_asked():
    rng, recipe = np.random.default_rng(3), RandomProcessing()
    chains = [recipe.sample(rng) for _ in range(4000)]

    def share(test):
        return np.mean([test(chain) for chain in chains])

    assert share(lambda c: c.file.quality is not None) == pytest.approx(0.1, abs=0.02)
    assert all(60 <= c.file.quality <= 95 and c.file.bits == 8 for c in chains if c.file.quality)
    assert share(lambda c: c.file.effective_bits is not None) == pytest.approx(0.07, abs=0.02)
    assert share(lambda c: c.excess == 2) == pytest.approx(0.08, abs=0.02)
    assert share(lambda c: bool(c.light)) == pytest.approx(1 - 0.88**2, abs=0.03)
    cameras = [step for c in chains for step in c.steps if isinstance(step, UnequalPixels)]
    assert len(cameras) / 4000 == pytest.approx(1 - 0.9 * 0.92, abs=0.03)
    assert all(c.steps[0] in cameras for c in chains if set(c.steps) & set(cameras))


def test_unequal_pixels_change_the_noisy_image_only():
    rng, detector = np.random.default_rng(0), Detector(gain=10, offset=100)
    clean = np.full((200, 200), 1100, np.float32)
    low, high = UnequalPixels(5, gain_sd=0.05, offset_sd=3)(clean, clean, detector, rng)
    assert high is clean
    assert low.std() == pytest.approx(np.hypot(0.05 * 1000, 3 * 10), rel=0.03)
    low, _ = UnequalPixels(5, hot=0.01, dead=0.02, level=0)(clean, clean, detector, rng)
    assert np.mean(low == 100) == pytest.approx(0.02, rel=0.2)


def test_a_file_format_scales_both_images_alike():
    rng, detector = np.random.default_rng(0), Detector(gain=10, bits=12)
    light = np.tile(np.linspace(20, 200, 300), (300, 1))
    recorded = detector(light, rng).astype(np.float32)
    clean = detector.expected(light).astype(np.float32)
    plain, high = FileFormat()(recorded, clean, detector, rng)
    np.testing.assert_array_equal(plain, recorded)
    np.testing.assert_array_equal(high, clean)
    low, high = FileFormat(8, (0.1, 0.995))(recorded, clean, detector, rng)
    assert low.dtype == np.uint8 and np.mean(low == 0) == pytest.approx(0.1, abs=0.01)
    inside = (high > 20) & (high < 200)
    slope, offset = np.polyfit(high[inside], low[inside], 1)
    assert slope == pytest.approx(1, abs=0.03) and abs(offset) < 2
    assert high.min() == 0 and high.max() <= 255
    few, _ = FileFormat(8, (0.0, 1.0), effective_bits=4)(recorded, clean, detector, rng)
    assert 15 <= len(np.unique(few)) <= 17
    constant, _ = FileFormat(8, (0.0, 1.0))(np.ones((8, 8), np.float32), clean[:8, :8], detector, rng)
    assert np.isfinite(constant).all()


def test_sparse_structures_are_not_lost_by_limits():
    low = np.zeros((100, 100), np.float32)
    low[::20, ::20] = 200
    stored, _ = FileFormat(8, (0.3, 0.99))(low, low, Detector(bits=8), np.random.default_rng(0))
    assert stored.max() == 255 and (stored > 0).sum() == 25


def test_haze_and_vignetting_are_in_both_images():
    recipe = replace(NOTHING, vignetted=1, hazy=1, corner=(0.4, 0.4), haze=(0.5, 0.5))
    plain, dimmed = (RandomMicroscopePairs(FOUR, "train", 4, 96, processing=one) for one in (None, recipe))
    for before, after in zip(plain, dimmed, strict=True):
        assert not np.allclose(before.high, after.high, rtol=0.05)
        residual = after.low - after.high
        assert abs(residual.mean()) < 0.3 * residual.std()
