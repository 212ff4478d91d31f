"""Times the loader against the recipe of the paper's code: ``python experiments/speed/loader.py [RESULTS.md]``.

The recipe, re-made with PIL: open both files, convert to 8-bit grey, resize to 256 x 256, normalise, to tensor.
It opens its files in every epoch; ours serves from its cache in memory, as it does from the second epoch on, or, with
no cache at all, reads the planes or maps them. All give batches of 8 pairs of 256 x 256 pixels in [-1, 1] in one
process and one thread. The augmentation of the released code has no effect, so the recipe has none; ours is timed with
and without.

Each round runs one epoch of every loader in turn, so that a busy machine slows all of them alike. What is reported is
processor time: the median over the rounds, and the median of the ratios within a round.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ddpm_lightning.data.normalise import FixedRange, PairNormalisation
from ddpm_lightning.datasets.folder import FolderData

PAIRS, SIDE, BATCH, ROUNDS = 64, 256, 8, 15
ROLES = ("low", "high")


class Recipe(Dataset):
    """What the released code does for each item.

    Args:
        root: Folder with ``low`` and ``high``.
        suffix: ``.tif`` or ``.png``.
    """

    def __init__(self, root: Path, suffix: str) -> None:
        names = sorted(path.name for path in (root / "low").glob(f"*{suffix}"))
        self.files = [[root / role / name for role in ROLES] for name in names]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict:
        images = {}
        for role, path in zip(ROLES, self.files[index], strict=True):
            with Image.open(path) as file:
                image = file.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(image)).float().div(255)
            images[role] = ((pixels - 0.5) / 0.5)[None]
        return {**images, "name": str(index)}


def write_images(root: Path, pairs: int, dtype: str) -> None:
    """Writes pairs of Poisson noise as TIFF, and as PNG, where the recipe looks for them, and in our layout."""
    rng = np.random.default_rng(0)
    for number in range(pairs):
        for role, mean in zip(ROLES, (2, 30), strict=True):
            image = rng.poisson(mean, (SIDE, SIDE)).astype(dtype)
            folders = ["train", "val"] if number < 2 else ["train"]
            for folder in (root / split / role for split in folders):
                folder.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(folder / f"{number:05d}.tif", image)
            Image.fromarray(image).save(root / "train" / role / f"{number:05d}.png")


def write_stacks(root: Path, pairs: int) -> None:
    """Writes the same number of pairs as the planes of large stacks, which are mapped rather than read."""
    rng = np.random.default_rng(0)
    for split, planes in (("train", pairs // 16), ("val", 1)):
        for role in ROLES:
            (root / split / role).mkdir(parents=True)
            stack = rng.integers(0, 200, (planes, 4 * SIDE, 4 * SIDE)).astype(np.uint16)
            tifffile.imwrite(root / split / role / "series.tif", stack, photometric="minisblack")


def ours(root: Path, **settings: bool | float) -> DataLoader:
    """Returns the training loader of a folder of pairs."""
    normalisation = PairNormalisation(FixedRange(), FixedRange())
    data = FolderData(root, normalisation=normalisation, crop=SIDE, batch_size=BATCH, **settings)
    data.setup("fit")
    return data.train_dataloader()


def paired_times(
    loaders: dict[str, Iterable[dict]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Returns the seconds for each pair, by loader and round; an epoch before fills the caches."""
    times = {name: [] for name in loaders}
    for number in range(rounds + 1):
        for name, loader in loaders.items():
            began = clock()
            count = sum(len(batch["low"]) for batch in loader)
            if number:
                times[name].append((clock() - began) / count)
    return times


def compare(root: Path, pairs: int = PAIRS, rounds: int = ROUNDS) -> tuple[dict, dict]:
    """Times all loaders.

    Returns:
        Pairs a second, by loader, and how many times as fast as a recipe, by (loader, recipe).
    """
    loaders = {}
    for dtype, bits in (("uint8", "8-bit"), ("uint16", "16-bit")):
        write_images(root / dtype, pairs, dtype)
        for suffix in (".png", ".tif"):
            recipe = Recipe(root / dtype / "train", suffix)
            loaders[f"recipe, {bits} {suffix[1:].upper()}"] = DataLoader(recipe, BATCH, shuffle=True)
    write_stacks(root / "stacks", pairs)
    loaders |= {
        "from memory, augmented": ours(root / "uint16"),
        "from memory": ours(root / "uint16", augment=False),
        "read again each time, augmented": ours(root / "uint16", cache_gb=0.0),
        "mapped stacks, augmented": ours(root / "stacks", cache_gb=0.0),
        "stacks from memory, augmented": ours(root / "stacks"),
    }
    times = paired_times(loaders, rounds)
    recipes = [name for name in loaders if name.startswith("recipe")]
    ratios = {
        (name, recipe): statistics.median(
            slow / fast for slow, fast in zip(times[recipe], times[name], strict=True)
        )
        for name in loaders
        for recipe in recipes
    }
    return {name: 1 / statistics.median(values) for name, values in times.items()}, ratios


def table(speeds: dict, ratios: dict) -> str:
    """Returns the result as Markdown."""
    recipes = [name for name in speeds if name.startswith("recipe")]
    lines = [
        f"| loader | pairs a second | {' | '.join(f'times the {name}' for name in recipes)} |",
        f"| --- | --- |{' --- |' * len(recipes)}",
    ]
    for name, speed in speeds.items():
        shares = " | ".join(f"{ratios[name, recipe]:.1f}" for recipe in recipes)
        lines.append(f"| {name} | {speed:.0f} | {shares} |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        text = table(*compare(Path(folder)))
    print(text)
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")
