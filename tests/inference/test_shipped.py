"""The models that come with the package."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy import ndimage

from ddpm_lightning.checkpoints.safetensors_file import shipped_models
from ddpm_lightning.datasets.folder import FolderPairs
from ddpm_lightning.datasets.simulated_denoising import RandomMicroscopePairs
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.collection import score

MODELS = shipped_models()


def psnr(image, target):
    planes = (torch.from_numpy(np.asarray(plane, np.float32))[None, None] for plane in (image, target))
    return score(*planes, "affine").values["psnr"]


def blurred(image, sigma):
    return ndimage.gaussian_filter(image.astype(np.float32), sigma)


def test_there_is_a_default():
    assert "default" in MODELS


@pytest.mark.parametrize("name", MODELS)
def test_files_are_small_and_name_authors_but_no_machine(name):
    assert MODELS[name].stat().st_size < 10_000_000
    with safe_open(MODELS[name], framework="pt") as file:
        text = file.metadata()["card"]
    card = json.loads(text)
    assert card["about"]["authors"] and card["about"]["license"] == "BSD-3-Clause"
    assert card["provenance"]["machine"] is None and "=/" not in text and '"/' not in text


@pytest.fixture(scope="module")
def restorer():
    return Restorer.load("default", bfloat16=False)


def test_outputs_stay_the_same():
    """Numbers of an earlier commit."""
    y, x = np.mgrid[:64, :96] / 8
    clean = np.exp(-4 * (np.sin(x) + np.cos(y + x / 3)) ** 2)
    image = np.random.default_rng(0).poisson(20 * clean + 4).astype(np.uint16)
    restored = Restorer.load("default", "cpu", bfloat16=False, seed=1).restore(image, 2, "golden")
    golden = json.loads(Path(__file__).with_name("golden_default.json").read_text("utf-8"))
    mean, std = restored.mean, restored.std
    tolerance = 1e-5 * np.ptp(mean)  # processors round differently
    for name, array in (("mean", mean), ("std", std)):
        np.testing.assert_allclose(array[28:36, 40:48], golden[name], rtol=0, atol=tolerance)
    found = [mean.mean(dtype=float), mean.std(dtype=float), std.mean(dtype=float), std.max()]
    np.testing.assert_allclose(found, list(golden["statistics"].values()), rtol=0, atol=tolerance)


def test_the_standard_deviation_of_its_default_preset_is_calibrated(restorer):
    calibration = restorer.trained.calibration(restorer.trained.samples)
    assert calibration is not None and 0.8 < calibration.std_factor < 1.25


def test_it_restores_what_it_learnt_better_than_any_blur(restorer):
    source = RandomMicroscopePairs(["microtubules", "zebrafish"], "test", 4, 128, dataset_seed=1000)
    for pair in (source[k] for k in range(4)):
        best = max(psnr(blurred(pair.low, sigma), pair.high) for sigma in (0.7, 1, 1.5, 2, 3, 4))
        assert psnr(restorer.restore_plane(pair.low, image=pair.name).mean, pair.high) > best


@pytest.mark.slow
def test_real_zebrafish_cells_that_it_has_never_seen(restorer, shared):
    pairs = FolderPairs(shared / "data" / "fmd", "test")
    found = []
    for pair in (pairs[k] for k in range(len(pairs))):
        ours = psnr(restorer.restore_plane(pair.low, image=pair.name).mean, pair.high)
        found.append((ours, max(psnr(blurred(pair.low, sigma), pair.high) for sigma in (1, 1.25, 1.5, 1.75))))
    ours, blur = np.mean(found, axis=0)
    assert ours > 27.8 and ours > blur + 0.5
