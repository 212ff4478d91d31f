"""Pairs under microscopes drawn at random."""

import numpy as np
import pytest

from ddpm_lightning.data.normalise import PairNormalisation, Percentile
from ddpm_lightning.datasets.simulated_denoising import RandomMicroscopePairs, SimulatedDenoising
from ddpm_lightning.simulation.random_microscope import RandomMicroscope, texture
from ddpm_lightning.simulation.specimens import SPECIMENS
from ddpm_lightning.utils.errors import UserError

PLAIN = RandomMicroscope(
    layers=(1, 1),
    texture=(1e-6, 1e-6),
    zoom=(1, 1),
    blur=(1, 1),
    photons=(50, 50),
    background=(0.3, 0.3),
    read_noise=(2, 2),
    excess=(1, 1),
    bits=(16,),
)


def test_specimens_take_turns_and_nothing_depends_on_the_order_of_access():
    source = RandomMicroscopePairs(list(SPECIMENS), "train", 8, 48)
    first = [source[k] for k in range(8)]
    again = RandomMicroscopePairs(list(SPECIMENS), "train", 8, 48)
    assert np.array_equal(again[5].low, first[5].low) and np.array_equal(again[-3].high, first[5].high)
    assert len({pair.low.tobytes() for pair in first}) == 8
    assert [pair.name for pair in again] == [f"{k:05d}" for k in range(8)]  # iteration ends at the last pair
    assert not np.array_equal(RandomMicroscopePairs(list(SPECIMENS), "test", 8, 48)[0].high, first[0].high)
    assert all(pair.low.shape == pair.high.shape == (48, 48) for pair in first)


def test_the_noise_has_mean_zero_and_the_variance_of_photons_and_read_out():
    low, clean = PLAIN("microtubules", np.random.default_rng(3), 256)
    # Gain and offset follow from the darkest and brightest expected values; the variance is the camera's law.
    residual = low.astype(float) - clean
    assert abs(residual.mean()) < 4 * residual.std() / 256
    dark, bright = clean < np.quantile(clean, 0.2), clean > np.quantile(clean, 0.8)
    slope = (residual[bright].var() - residual[dark].var()) / (clean[bright].mean() - clean[dark].mean())
    offset = clean[dark].mean() - (residual[dark].var() - (2 * slope) ** 2) / slope
    # The slope of variance over mean is the gain; where there is no light only read noise of 2 electrons is left.
    assert 0.2 * (2**16 - 1) / 50 < slope < 2**16 / 50
    assert -0.05 * clean.mean() < offset < 0.15 * clean.mean()


def test_both_images_have_the_same_optics():
    low, clean = PLAIN("synapses", np.random.default_rng(1), 192)
    spectra = [np.fft.fftn(image - image.mean()) for image in (low.astype(float), clean)]
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(192), np.fft.fftfreq(192)))
    for lowest, highest in ((0.01, 0.03), (0.03, 0.06), (0.06, 0.09)):
        ring = (frequency >= lowest) & (frequency < highest)
        transfer = (spectra[0] * spectra[1].conj()).real[ring].sum() / (abs(spectra[1][ring]) ** 2).sum()
        assert transfer == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_a_texture_has_a_power_law_for_a_spectrum(seed):
    image = texture(np.random.default_rng(seed), 256)
    assert image.min() >= 0 and np.percentile(image, 99.5) == pytest.approx(1)
    power = abs(np.fft.fft2(np.log(image + 1e-3) * np.hanning(256) * np.hanning(256)[:, None])) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))
    rings = [power[(frequency >= low) & (frequency < 1.5 * low)].mean() for low in (0.02, 0.06, 0.18)]
    # The ring's mean follows the directions across fibres, where amplitudes fall by f^-0.6 to f^-2.
    slopes = [np.log(rings[k] / rings[k + 1]) / np.log(3) for k in range(2)]
    assert all(0.5 < slope < 6 for slope in slopes)


def test_layers_fill_the_field():
    share = []
    for layers in (1, 3):
        microscope = RandomMicroscope(
            layers=(layers, layers), texture=(1e-6, 1e-6), background=(0, 0), bits=(16,)
        )
        images = [microscope("mitochondria", np.random.default_rng(seed), 128)[1] for seed in range(4)]
        share.append(np.mean([(image > 0.3 * np.percentile(image, 99.5)).mean() for image in images]))
    assert share[1] > 1.1 * share[0]


def test_the_module_keeps_pairs_and_loads_batches(tmp_path):
    percentile = Percentile(1, 99.8, per_image=True)
    data = SimulatedDenoising(
        ["zebrafish"],
        {"train": 2, "val": 1, "test": 1},
        size=48,
        microscope={"photons": [20, 20]},
        cache=tmp_path,
        normalisation=PairNormalisation(percentile, percentile),
        crop=32,
        batch_size=2,
    )
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["low"].shape == (2, 1, 32, 32)
    assert len(list(tmp_path.rglob("*.npz"))) == 3
    assert data.microscope.photons == (20, 20)


def test_an_unknown_specimen_is_refused():
    with pytest.raises(UserError, match="yeast"):
        RandomMicroscopePairs(["yeast"], "train", 1)


@pytest.mark.parametrize(
    "wrong", [{"split": "tset"}, {"count": 0}, {"size": 8}, {"dataset_seed": -1}, {"specimens": ["cats"]}]
)
def test_what_cannot_be_plotted_is_refused(wrong):
    with pytest.raises(UserError):
        RandomMicroscopePairs(**{"specimens": ["synapses"], "split": "test", "count": 2, "size": 48} | wrong)
