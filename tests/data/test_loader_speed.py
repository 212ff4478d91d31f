"""The loader against the recipe of the paper's code, as ``experiments/speed/loader.py`` times it, in small."""

import importlib.util
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from ddpm_lightning.data.normalise import FixedRange, PairNormalisation
from ddpm_lightning.datasets.folder import FolderData
from tests.datasets.miniatures import tif

SCRIPT = Path(__file__).resolve().parents[2] / "experiments/speed/loader.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("loader_speed", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_loader_is_four_times_as_fast_as_the_released_one(tmp_path, script, record_property):
    script.write_images(tmp_path, 32, "uint16")
    loaders = {
        f"recipe, {suffix}": DataLoader(script.Recipe(tmp_path / "train", suffix), 8, shuffle=True)
        for suffix in (".png", ".tif")
    } | {
        "from memory": script.ours(tmp_path, augment=False),
        "from memory, augmented": script.ours(tmp_path),
        "read again each time, augmented": script.ours(tmp_path, cache_gb=0.0),
    }
    times = script.paired_times(loaders, 9)

    def ratio(name, recipe):
        paired = zip(times[f"recipe, {recipe}"], times[name], strict=True)
        found = statistics.median(slow / fast for slow, fast in paired)
        record_property(f"{name} against {recipe}", round(found, 1))
        return found

    # Seen: 14, 9.3, 7.4, 4.9 and 7.7; what is asserted leaves room for a busy machine.
    assert ratio("from memory", ".png") > 6
    assert ratio("from memory, augmented", ".png") > 4
    assert ratio("from memory", ".tif") > 4
    assert ratio("from memory, augmented", ".tif") > 3
    assert ratio("read again each time, augmented", ".png") > 4


def test_the_recipe_makes_what_ours_makes(tmp_path, script):
    """Equal images from both, so that equal work is timed."""
    script.write_images(tmp_path, 8, "uint8")
    (recipe,) = DataLoader(script.Recipe(tmp_path / "train", ".tif"), 8)
    (batch,) = script.ours(tmp_path, augment=False, shuffle=False)
    for role in script.ROLES:
        np.testing.assert_allclose(batch[role].numpy(), recipe[role].numpy(), atol=1e-6)


@pytest.mark.slow
def test_crops_of_large_frames_cost_their_own_pixels(tmp_path):
    """A stack of 1024 x 1024 frames that is kept nowhere in memory trains in the speed class of one that is.

    Those read from the disk hold hot pixels as well. The first pass is not timed: in it, each frame is read whole and
    searched for defects, which happens once. Later crops, timed here, cost no more than their own pixels.
    """
    rng = np.random.default_rng(0)
    for split, frames_count in (("train", 4), ("val", 1)):
        for role in ("low", "high"):
            frames = rng.poisson(200, (frames_count, 1024, 1024)).astype(np.uint16)
            tif(tmp_path / "memory" / split / role / "series.tif", frames)
            if role == "low":
                frames[:, 40::64, 40::64] = 65535
            tif(tmp_path / "mapped" / split / role / "series.tif", frames)

    def loader(name, cache_gb):
        data = FolderData(
            tmp_path / name, normalisation=PairNormalisation(FixedRange(), FixedRange()), crop=64, crops_per_image=64,
            cache_gb=cache_gb, fit_images=1, validation_crops=1,
        )  # fmt: skip
        data.setup("fit")
        return data.train_dataloader()

    times = {name: [] for name in ("memory", "mapped")}
    loaders = {"memory": loader("memory", 4.0), "mapped": loader("mapped", 0.0)}
    for number in range(4):
        for name, batches in loaders.items():
            began = time.process_time()
            batch_count = len(list(batches))
            if number:
                times[name].append((time.process_time() - began) / batch_count)
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    print({name: f"{value:.2f} ms a batch" for name, value in medians.items()})
    assert medians["mapped"] < 3 * medians["memory"]
