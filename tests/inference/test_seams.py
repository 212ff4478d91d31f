"""Tiles that are joined at every step leave neither seams nor overlaps without texture."""

import numpy as np
import pytest
from scipy.ndimage import laplace

from ddpm_lightning.inference.restorer import Restorer
from tests.trained import write_checkpoint

TILE, OVERLAP, SIDE = 64, 16, 256


def blobs(seed):
    """Structure of all sizes under Poisson noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.full((SIDE, SIDE), 8.0)
    for _ in range(150):
        cy, cx, width = *rng.uniform(0, SIDE, 2), rng.uniform(1, 5)
        image += 60 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
    return rng.poisson(image)


def edges(starts):
    """Pixels beside which a tile begins or ends, along one side of an image without its margin."""
    inner = [at for start in starts for at in (start, start + TILE)]
    return sorted({at for at in inner if 0 < at < SIDE})


def seam(image, lines):
    """Mean gradient across the borders of tiles over that elsewhere."""
    found = []
    for across in (image, image.T):
        steps = np.abs(np.diff(across, axis=0)).mean(1)
        on = np.isin(np.arange(1, SIDE), lines)
        found.append(steps[on].mean() / steps[~on].mean())
    return np.mean(found)


def texture(image, starts):
    """Power of the Laplacian where tiles overlap over that where they do not."""
    covered = sum((np.arange(SIDE) >= start) & (np.arange(SIDE) < start + TILE) for start in starts) > 1
    inside = covered[:, None] | covered[None]
    power = laplace(image.astype(np.float64)) ** 2
    return power[inside].mean() / power[~inside].mean()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt")


@pytest.mark.slow
def test_single_samples_show_no_tiles(model):
    tiled, whole, pasted = [], [], []
    for seed in range(2):
        image = blobs(seed)
        for found, tile, overlap in ((tiled, TILE, OVERLAP), (whole, None, 0), (pasted, TILE, 0)):
            restorer = Restorer.load(model, "cpu", tile=tile, overlap=overlap, margin=0)
            (sample,) = restorer.samples(image, 1, str(seed))
            starts = Restorer.load(model, "cpu", tile=TILE, overlap=overlap, margin=0).tiler.starts(SIDE)
            of_tiles = Restorer.load(model, "cpu", tile=TILE, overlap=OVERLAP, margin=0).tiler.starts(SIDE)
            lines = edges(of_tiles if overlap or tile is None else starts)
            found.append((seam(sample, lines), texture(sample, of_tiles)))
    seams, textures = np.mean(tiled, 0) / np.mean(whole, 0)
    assert seams <= 1.03 and textures >= 0.97, (seams, textures)
    # The measure sees the borders of tiles that do not overlap, faint as they are with weights that learnt nothing.
    assert np.mean(pasted, 0)[0] / np.mean(whole, 0)[0] > seams + 0.01
