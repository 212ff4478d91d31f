"""How many pairs of crops the loader delivers, for each core and with several workers, against what a GPU needs.

Crops of 256 x 256 pixels are cut from a cached set of planes, flipped, rotated and normalised. The bandwidth of the
memory is given for comparison: each pair moves two crops of 16-bit integers and two of 32-bit floats.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from ddpm_lightning.data.normalise import FixedRange, PairNormalisation
from ddpm_lightning.datasets.folder import FolderData
from experiments.gpu.results import Results, opened

SIDE, BATCH = 256, 32
PLANE = 1024


def write_planes(root: Path, planes: int, side: int) -> None:
    """Writes pairs of planes with Poisson noise."""
    rng = np.random.default_rng(0)
    for split, count in (("train", planes), ("val", 1)):
        for number in range(count):
            for role, mean in (("low", 10), ("high", 100)):
                path = root / split / role / f"{number:05d}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, rng.poisson(mean, (side, side)).astype(np.uint16))


def data_of(root: Path, crop: int, batch: int, crops: int, workers: int = 0, **settings: Any) -> FolderData:
    """Returns the data module of a folder, ready to load."""
    normalisation = PairNormalisation(FixedRange(), FixedRange())
    data = FolderData(
        root, normalisation=normalisation, crop=crop, batch_size=batch, crops_per_image=crops, num_workers=workers,
        fit_images=1, validation_crops=1, **settings,
    )  # fmt: skip
    data.setup("fit")
    return data


def rate(data: FolderData, seconds: float, cpu: bool) -> dict[str, float]:
    """Returns the pairs a second, after a pass that fills the cache.

    Args:
        data: The data.
        seconds: How long it is measured.
        cpu: Whether seconds are those of the processor, for a single process, instead of elapsed ones.
    """
    clock = time.process_time if cpu else time.perf_counter
    loader = data.train_dataloader()
    for _ in loader:
        pass
    pairs, began, taken = 0, clock(), 0.0
    while taken < seconds:
        for batch in loader:
            pairs += len(batch["low"])
        taken = clock() - began
    return {"pairs_per_second": round(pairs / taken, 1)}


def bandwidth(size: int = 2**26) -> dict[str, float]:
    """Returns the rate of a conversion from 16-bit integers to floats, in crops of 256 x 256 pixels a second."""
    torch.set_num_threads(1)
    source = np.zeros(size // 6, np.uint16)
    place = np.zeros(size // 6, np.float32)
    rounds, began = 5, time.process_time()
    for _ in range(rounds):
        np.copyto(place, source, casting="unsafe")
    seconds = (time.process_time() - began) / rounds
    return {"crops_per_second": round(len(source) / SIDE**2 / seconds, 1)}


def measure(results: Results) -> None:
    """Measures the loader."""
    tiny = results.tiny
    side, crop, batch = (64, 32, 4) if tiny else (PLANE, SIDE, BATCH)
    seconds = 0.05 if tiny else 2.0
    torch.set_num_threads(1)
    results.measure("memory bandwidth", lambda: bandwidth(2**16 if tiny else 2**26))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_planes(root, 2 if tiny else 16, side)
        crops = 4 if tiny else 64
        results.measure("one process", lambda: rate(data_of(root, crop, batch, crops), seconds, cpu=True))
        results.measure(
            "one process, without augmentation",
            lambda: rate(data_of(root, crop, batch, crops, augment=False), seconds, cpu=True),
        )
        for workers in () if tiny else (4, min(12, os.cpu_count() or 1)):
            results.measure(
                f"{workers} workers",
                lambda w=workers: rate(data_of(root, crop, batch, 8 * crops, w), seconds, cpu=False),
                needs=5,
            )
    results.write(complete=True)


if __name__ == "__main__":
    measure(opened())
