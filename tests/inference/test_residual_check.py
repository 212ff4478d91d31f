"""Warnings about noise that is left and structure that is removed."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.inference.residual_check import ResidualCheck
from tests.trained import write_checkpoint


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt")


@pytest.fixture(scope="module")
def clean():
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(192, 192)), 6)
    return (100 + 50 * np.clip(smooth / smooth.std() - 0.5, 0, None)).astype(np.float32)


def noise(blur, seed=1):
    made = gaussian_filter(np.random.default_rng(seed).normal(size=(192, 192)), blur)
    return (10 * made / made.std()).astype(np.float32)


def warnings(trained, *pairs):
    check = ResidualCheck(trained)
    return check.warnings([found for pair in pairs if (found := check.test(*pair))])


def test_a_good_restoration_passes(path, clean):
    assert warnings(load(path), (clean + noise(0), clean)) == []
    assert warnings(load(path), (clean + noise(0.7), clean)) == []


def test_noise_that_is_left_is_named_with_its_share_and_the_planes(path, clean):
    low = clean + noise(0)
    (line,) = warnings(load(path), (low, (low + clean) / 2), (low, clean))
    assert line.startswith("noise left: about 5") and line.endswith("(in 1 of 2 planes)")


def test_correlated_noise_is_explained_by_the_training(path, clean, tmp_path):
    low = clean + noise(0.8)
    pair = low, clean + 0.35 * gaussian_filter(low - clean, 0.5)
    (line,) = warnings(load(path), pair)
    assert line.startswith("noise left: about 2") and "correlates by 0.6" in line and "in training" in line
    content = torch.load(path, weights_only=True)
    assert max(content["card"]["inputs"]["correlation"]) < 0.1
    content["card"]["inputs"]["correlation"] = [0.0, 0.8]
    torch.save(content, tmp_path / "correlated.ckpt")
    (line,) = warnings(load(tmp_path / "correlated.ckpt"), pair)
    assert line.startswith("noise left") and "in training" not in line
    del content["card"]["inputs"]["correlation"]
    torch.save(content, tmp_path / "older.ckpt")
    assert "(at most 0.10 in training)" in warnings(load(tmp_path / "older.ckpt"), pair)[0]


def test_removed_spots_are_counted(path, clean):
    points = np.zeros_like(clean)
    points[30:-30:60, 30:-30:60] = 1
    spots = gaussian_filter(points, 1.4)
    (line,) = warnings(load(path), (clean + 60 * spots / spots.max() + noise(0), clean))
    assert line.startswith("structure removed: ") and f"{points.sum():.0f} spots" in line


@pytest.mark.parametrize(
    ("strength", "words"), [(0.5, "of the regions"), (1.5, "neighbouring pixels correlate by")]
)
def test_smoothed_structure_is_named(path, clean, strength, words):
    lines = warnings(load(path), (clean + strength * noise(0), gaussian_filter(clean, 6)))
    (line,) = (line for line in lines if line.startswith("structure removed: "))
    assert words in line


def test_nothing_removed_is_noise_left(path, clean):
    low = clean + noise(0)
    (line,) = warnings(load(path), (low, low))
    assert line.startswith("noise left: about 100%")


def test_small_and_noiseless_planes_cannot_be_tested(path, clean):
    check = ResidualCheck(load(path))
    assert check.test(clean[:40, :40], clean[:40, :40]) is None
    assert check.test(np.zeros((192, 192)), np.zeros((192, 192))) is None
    assert check.warnings([]) == []
