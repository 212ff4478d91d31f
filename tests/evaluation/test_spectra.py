"""Curves by frequency against known powers and correlations."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ddpm_lightning.evaluation.spectra import FREQUENCIES, finest_octave, spectra_of

rng = np.random.default_rng(0)
STRUCTURE = gaussian_filter(rng.normal(size=(128, 160)), 2) * 20
TARGET = 100 + STRUCTURE + rng.normal(size=(128, 160)) * 0.02


def found(**versions):
    return spectra_of({**versions, "target": TARGET})


def test_a_gaussian_blur_takes_its_transfer_function_from_the_power():
    curves = found(blurred=100 + gaussian_filter(STRUCTURE, 1.5, mode="wrap"))
    band = (FREQUENCIES > 0.03) & (FREQUENCIES < 0.15)
    transfer = np.exp(-2 * (np.pi * FREQUENCIES * 1.5) ** 2) ** 2
    ratio = curves.power["blurred"] / curves.power["target"]
    assert ratio[band] == pytest.approx(transfer[band], rel=0.25)
    assert curves.octave_ratio["blurred"] < 0.4


def test_the_target_itself_has_all_power_and_agrees_everywhere():
    curves = found(same=TARGET.copy(), twice=2 * TARGET)
    assert curves.octave_ratio["same"] == pytest.approx(1) and curves.octave_ratio["twice"] == pytest.approx(
        4
    )
    assert curves.correlation["same"] == pytest.approx(np.ones(64)) and curves.cutoff["same"] == 0.5


def test_the_octave_ends_where_the_noise_begins():
    """Power of the structure falls as exp(-(2 pi q 2)^2); the noise is flat."""
    curves = found(same=TARGET)
    low, high = curves.octave
    assert high == pytest.approx(2 * low)
    above = STRUCTURE + rng.normal(size=STRUCTURE.shape)
    noisier = spectra_of({"same": above, "target": above})
    assert noisier.octave[1] < high


def test_noise_has_no_octave_and_tiny_images_no_correlation():
    noise = rng.normal(size=(64, 64))
    assert spectra_of({"same": noise, "target": noise}).octave is None
    assert finest_octave(np.ones(64)) is None
    tiny = rng.normal(size=(20, 20))
    assert spectra_of({"same": tiny, "target": tiny}).correlation == {}


def test_nothing_is_said_of_constant_or_broken_images():
    assert spectra_of({"a": TARGET, "target": np.ones((40, 40))}) is None
    assert spectra_of({"a": np.full((128, 160), np.nan), "target": TARGET}) is None
