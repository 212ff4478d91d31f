"""Pairs after cameras and software at random."""

import hashlib

import numpy as np
import pytest

from ddpm_lightning.datasets.simulated_denoising import RandomMicroscopePairs
from ddpm_lightning.simulation.degradations import Bandwidth, CameraFilter, ColourMosaic, DriftCorrection
from ddpm_lightning.simulation.detector import Detector
from ddpm_lightning.simulation.processing import Binned, Correlated, Median, Processing, Resized, SameForBoth
from ddpm_lightning.simulation.random_processing import MECHANISMS, RandomProcessing
from ddpm_lightning.simulation.specimens import SPECIMENS
from ddpm_lightning.utils.errors import UserError

FOUR = ["microtubules", "mitochondria", "synapses", "zebrafish"]
NOTHING = RandomProcessing(correlated=0, binned=0)
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
        [any(not isinstance(step, Binned) for step in chain) for chain in chains]
    ) == pytest.approx(0.5, abs=0.03)
    assert sum(isinstance(step, Correlated) for step in kinds) == pytest.approx(4000 * 0.5 * 0.4, rel=0.1)
    operations = {type(step.operation) for step in kinds if isinstance(step, SameForBoth)}
    assert operations == {DriftCorrection, ColourMosaic, CameraFilter, Bandwidth}
    assert {type(step) for step in kinds} >= {Median, Resized, Binned, Correlated}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_correlations_lie_in_the_range_of_the_mechanism(mechanism):
    recipe = RandomProcessing(correlated=1, mechanisms={mechanism: 1}, again=0, binned=0)
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
