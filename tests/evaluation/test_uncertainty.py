"""Samples from known posteriors: every measure of the spread says what is true of them."""

import numpy as np
import pytest

from ddpm_lightning.evaluation import restored_pair
from ddpm_lightning.evaluation.summary import averaging, calibration, conformal_coverage, conformal_of
from ddpm_lightning.metrics.collection import SAMPLE_METRICS
from tests.evaluation.gaussian import SIGMA, gaussian_scores


@pytest.fixture(scope="module")
def honest():
    return gaussian_scores()


@pytest.fixture(scope="module")
def narrow():
    return gaussian_scores(width=0.5)


def test_samples_from_the_posterior_are_calibrated(honest):
    found = calibration(honest)
    numbers = found["numbers"]
    assert numbers["coverage"]["mean"] == pytest.approx(0.9, abs=0.01)
    assert numbers["spread_skill"]["mean"] == pytest.approx(1, abs=0.02)
    assert np.array(found["curves"]["ranks"]) * 16 == pytest.approx(np.ones(16), abs=0.08)
    assert found["curves"]["coverage"] == pytest.approx(found["curves"]["levels"], abs=0.01)
    assert found["samples"] == 15 and found["unit"] == "range of the target"


def test_every_measure_detects_a_halved_standard_deviation(honest, narrow):
    one, other = (calibration(scores)["numbers"] for scores in (honest, narrow))
    assert other["coverage"]["mean"] < 0.75 and other["spread_skill"]["mean"] < 0.6
    for name in ("ece", "ence", "crps", "rank_divergence"):
        assert other[name]["mean"] > 1.02 * one[name]["mean"], name


def test_the_law_of_samples_from_the_posterior(honest):
    found = averaging(honest)
    assert found["ratio"] == pytest.approx(1, rel=0.05)
    assert found["ratio_interval"][0] < 1 < found["ratio_interval"][1]
    assert found["gain_db"] == pytest.approx(10 * np.log10(2 / (1 + 1 / 15)), abs=0.1)
    # b/a = 1: 43 samples come within 0.1 dB of the limit.
    assert found["samples_needed"] == pytest.approx(43, abs=2) and not found["suffices"]
    reach = np.mean([1 / (image.rows[0].facts["data_range"]) ** 2 for image in honest])
    assert found["a"] == pytest.approx(SIGMA**2 * reach, rel=0.05)
    for number in (1, 2, 7, 15):
        assert found["mse"][number] == pytest.approx(found["a"] + found["b"] / number, rel=0.03)
    assert list(found["metrics"]["psnr"]) == [1, 2, 4, 8, 15]
    assert list(found["metrics"]) == ["mae", "psnr", "nrmse", "pearson"]


def test_narrow_samples_have_a_small_ratio(narrow):
    found = averaging(narrow)
    assert found["ratio"] == pytest.approx(0.25, rel=0.05)
    # 10^0.01 - 1 = 0.0233 of a may remain, and 0.25 a / N remains.
    assert found["samples_needed"] == pytest.approx(0.25 / 0.0233, abs=1) and found["suffices"]


def test_opposite_noise_is_counted_in_pairs():
    scores = gaussian_scores(antithetic=True)
    law, spread = averaging(scores), calibration(scores)
    # The mean of a pair is free of noise: it has the error of the limit at once.
    assert law["together"] == 2 and law["ratio"] == pytest.approx(0, abs=1e-6)
    assert law["mse"][2] == pytest.approx(law["a"], rel=1e-6) and law["mse"][1] > 1.8 * law["a"]
    # Every second draw is an honest draw.
    assert spread["samples"] == 8 and spread["numbers"]["coverage"]["mean"] == pytest.approx(0.9, abs=0.01)


def test_conformal_intervals_cover_fresh_images():
    for width in (0.3, 1.0):
        conformal = conformal_of(gaussian_scores(images=20, samples=5, side=48, width=width), 0.9)
        covered = conformal_coverage(
            gaussian_scores(images=20, samples=5, side=48, seed=7, width=width), conformal
        )
        assert np.mean(covered) == pytest.approx(0.9, abs=0.05) and np.mean(covered) > 0.88
    with pytest.raises(ValueError, match="at least 9"):
        conformal_of(gaussian_scores(images=4, samples=3, side=32), 0.9)


def test_one_sample_has_no_standard_deviation():
    scores = gaussian_scores(images=1, samples=1, side=32)
    assert scores[0].uncertainty is None and "at least 2 samples" in scores[0].no_uncertainty
    assert averaging(scores) is None and calibration(scores) is None


def test_large_images_are_thinned(monkeypatch):
    whole = gaussian_scores(images=1, side=96)[0]
    monkeypatch.setattr(restored_pair, "KEPT_PIXELS", 2000)
    thinned = gaussian_scores(images=1, side=96)[0]
    one, other = (image.uncertainty.measures.values() for image in (whole, thinned))
    assert one["coverage"] == pytest.approx(other["coverage"], abs=0.03) and one != other
    for before, after in zip(whole.rows, thinned.rows, strict=True):
        assert before.values["crps"] == pytest.approx(after.values["crps"], rel=0.1)
        for name in before.values.keys() - set(SAMPLE_METRICS):
            assert before.values[name] == after.values[name]


def test_of_large_images_whole_windows_are_kept(monkeypatch):
    monkeypatch.setattr(restored_pair, "KEPT_PIXELS", 500)
    image = np.arange(40 * 56).reshape(40, 56)
    found = restored_pair.windows_of(image)
    assert found.shape == (16, 24)
    for row, column in np.ndindex(2, 3):
        window = found[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        top, left = np.argwhere(image == window[0, 0])[0]
        assert (top % 24, left % 24) == (0, 0)
        assert np.array_equal(window, image[top : top + 8, left : left + 8])
    monkeypatch.setattr(restored_pair, "KEPT_PIXELS", image.size)
    assert restored_pair.windows_of(image) is image


def test_half_of_the_variance():
    """Noise in a quarter of the pixels: half of it in about a seventh of all for squares of a normal number."""
    rng = np.random.default_rng(0)
    from ddpm_lightning.evaluation.uncertainty import sample_uncertainty

    samples = np.zeros((200, 40, 40))
    samples[:, :20, :20] = rng.normal(size=(200, 20, 20))
    target = rng.normal(size=(40, 40))
    found = sample_uncertainty(
        samples=samples, target=target, antithetic=False, level=0.9, gain=1.0, full_range=5.0
    )
    assert found.concentration == pytest.approx(0.125, abs=0.01)


def test_what_the_protocol_grants_is_no_error_of_the_samples(honest):
    """Samples on another scale are calibrated under ``affine`` alone; intervals for files are not granted the scale."""
    wrong = {
        protocol: gaussian_scores(protocol=protocol, gain=0.5, offset=30.0)
        for protocol in ("range", "affine")
    }
    numbers = {protocol: calibration(scores)["numbers"] for protocol, scores in wrong.items()}
    assert numbers["range"]["coverage"]["mean"] < 0.6
    assert numbers["affine"]["coverage"]["mean"] == pytest.approx(0.9, abs=0.02)
    assert numbers["affine"]["spread_skill"]["mean"] == pytest.approx(1, abs=0.04)
    assert averaging(wrong["affine"])["mse"][15] == pytest.approx(averaging(honest)["mse"][15], rel=0.05)
    factors = [conformal_of(scores, 0.5).factor for scores in (honest, *wrong.values())]
    assert factors[1] == factors[2] > 1.5 * factors[0]
