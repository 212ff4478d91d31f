"""The models that come with the package."""

import json

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
        low, high = pair.low[128:-128, 128:-128], pair.high[128:-128, 128:-128]
        ours = psnr(restorer.restore_plane(low, image=pair.name).mean, high)
        found.append((ours, max(psnr(blurred(low, sigma), high) for sigma in (1, 1.25, 1.5, 1.75))))
    ours, blur = np.mean(found, axis=0)
    assert ours > 27.1 and ours > blur + 0.7
