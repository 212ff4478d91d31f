"""The loader against the recipe of the paper's code, re-made: open both files with PIL, grey, resize, to float.

All give batches of 8 pairs of 256 x 256 pixels in [-1, 1], in one process, in turns within one run. Ours serves from
its cache in memory, as it does from the second epoch on; the recipe opens its files in every epoch. The augmentation of
the paper's code has no effect; so like is compared with like without ours, and ours is timed apart.
"""

import statistics
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ddpm_lightning.data.folder import FolderData
from ddpm_lightning.data.normalise import FixedRange, PairNormalisation
from tests.data.miniatures import png, tif

PAIRS, SIDE, BATCH, ROUNDS = 32, 256, 8, 9


class Recipe(Dataset):
    """What the released code does for each item (its augmentation has no effect)."""

    def __init__(self, root, suffix):
        self.files = [[root / role / f"{n:05d}{suffix}" for role in ("low", "high")] for n in range(PAIRS)]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        images = {}
        for role, path in zip(("low", "high"), self.files[index], strict=True):
            with Image.open(path) as file:
                image = file.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(image)).float().div(255)
            images[role] = ((pixels - 0.5) / 0.5)[None]
        return {**images, "name": str(index)}


def write(root):
    rng = np.random.default_rng(0)
    for number in range(PAIRS):
        for role, mean in (("low", 2), ("high", 30)):
            image = rng.poisson(mean, (SIDE, SIDE)).astype(np.uint8)
            png(root / "recipe" / role / f"{number:05d}.png", image)
            tif(root / "recipe" / role / f"{number:05d}.tif", image)
            for split in ("train", "val"):
                if split == "train" or number < 2:
                    tif(root / "ours" / split / role / f"{number:05d}.tif", image)
    return root


def ours(root, **settings):
    normalisation = PairNormalisation(FixedRange(), FixedRange())
    data = FolderData(root, normalisation=normalisation, crop=SIDE, batch_size=BATCH, **settings)
    data.setup("fit")
    return data.train_dataloader()


def seconds(loader):
    began = time.perf_counter()
    count = sum(len(batch["low"]) for batch in loader)
    assert count == PAIRS
    return time.perf_counter() - began


def test_the_loader_is_four_times_as_fast_as_the_released_one(tmp_path, record_property):
    write(tmp_path)
    loaders = {
        "recipe, PNG": DataLoader(Recipe(tmp_path / "recipe", ".png"), BATCH, shuffle=True),
        "recipe, TIFF": DataLoader(Recipe(tmp_path / "recipe", ".tif"), BATCH, shuffle=True),
        "cached": ours(tmp_path / "ours", augment=False),
        "cached and turned": ours(tmp_path / "ours"),
        "from the disk": ours(tmp_path / "ours", augment=False, cache_gb=0.0),
    }
    times = {name: [] for name in loaders}
    for number in range(ROUNDS + 1):
        for name, loader in loaders.items():
            took = seconds(loader)
            if number:  # the first epoch fills caches
                times[name].append(took)
    ratios = {}
    for name in loaders:
        for recipe in ("recipe, PNG", "recipe, TIFF"):
            paired = zip(times[recipe], times[name], strict=True)
            ratios[name, recipe] = statistics.median(slow / fast for slow, fast in paired)
        told = [f"{PAIRS / statistics.median(times[name]):.0f} pairs a second"]
        told += [
            f"{ratios[name, recipe]:.1f} times the {recipe}" for recipe in ("recipe, PNG", "recipe, TIFF")
        ]
        record_property(name, ", ".join(told))
        print(f"{name}: {', '.join(told)}")
    assert ratios["cached", "recipe, PNG"] > 4
    assert ratios["from the disk", "recipe, PNG"] > 3


def test_crops_of_large_frames_cost_their_own_pixels(tmp_path):
    """A stack of 1024 x 1024 frames that is kept nowhere in memory trains in the speed class of one that is."""
    rng = np.random.default_rng(0)
    for split, frames_count in (("train", 4), ("val", 1)):
        for role in ("low", "high"):
            tif(
                tmp_path / split / role / "series.tif",
                rng.integers(0, 999, (frames_count, 1024, 1024)).astype(np.uint16),
            )

    def loader(cache_gb):
        data = FolderData(
            tmp_path, normalisation=PairNormalisation(FixedRange(), FixedRange()), crop=64, crops_per_image=64,
            cache_gb=cache_gb, fit_images=1, validation_crops=1,
        )  # fmt: skip
        data.setup("fit")
        return data.train_dataloader()

    times = {name: [] for name in ("memory", "mapped")}
    loaders = {"memory": loader(4.0), "mapped": loader(0.0)}
    for number in range(4):
        for name, batches in loaders.items():
            began = time.perf_counter()
            batch_count = len(list(batches))
            if number:
                times[name].append((time.perf_counter() - began) / batch_count)
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    print({name: f"{value:.2f} ms a batch" for name, value in medians.items()})
    assert medians["mapped"] < 3 * medians["memory"]
