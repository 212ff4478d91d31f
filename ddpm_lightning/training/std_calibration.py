"""Measures at the end of a training how large the error of the model is, in standard deviations of its samples.

This is done for the samples that ``restore`` makes by default, on the centres of validation images, within a small
share of the time that the training took. The factor is written into the card of the best checkpoint.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ddpm_lightning.checkpoints.load import Trained, load
from ddpm_lightning.data.center_crop import CenterCrops
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.evaluation.calibrate import calibrate_std
from ddpm_lightning.evaluation.restored_pair import restore_pair, std_moments_of
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.std_factor import StdMoments
from ddpm_lightning.models.method import Method
from ddpm_lightning.utils.allowed_classes import Trust
from ddpm_lightning.utils.errors import UserError, is_out_of_memory

__all__ = ["calibrate_default_preset"]

#: Fewest and most validation images.
FEWEST, MOST = 2, 32
#: Side in pixels of the centre of each image; larger if the training crops are.
SIDE = 192
#: Share of the time of the training that the measurement may take. Trainings that leave less than the least seconds
#: for it are mere trials; more than the most are not needed.
SHARE, LEAST_SECONDS, MOST_SECONDS = 0.05, 1.0, 60.0


def calibrate_default_preset(
    checkpoint: Path, method: Method, data: PairDataModule, device: torch.device, seconds: float, trust: Trust
) -> None:
    """Calibrates the standard deviation of a trained model for its default preset, if there is one.

    No random number of the training is used or changed. If there is not enough time or data, nothing is written.

    Args:
        checkpoint: The checkpoint, in whose card the factor is written.
        method: The method that was trained.
        data: The data that it was trained on.
        device: Where to compute.
        seconds: Duration of the training.
        trust: Packages whose classes the checkpoint may name.
    """
    seconds = min(SHARE * seconds, MOST_SECONDS)
    if seconds < LEAST_SECONDS or next(iter(method.presets.values())).samples < 2 or not data.paired("val"):
        return
    try:
        with torch.random.fork_rng(devices=[]):  # building a network takes random numbers
            trained = load(checkpoint, device, trust=trust)
        if trained.method.deterministic or trained.calibration(trained.samples) is not None:
            return
        moments = list(_moments(trained, data, seconds))
        if len(moments) < FEWEST:
            return
        found = calibrate_std(moments, trained, trained.samples, data.name, "val")
    except (ValueError, UserError, RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        print(f"the standard deviation was not calibrated: {' '.join(str(error).split())}")
        return
    print(
        f"standard deviation ({found.sampling}): the error is {found.std_factor:.2f} times "
        f"as large (measured on {found.origin}); `restore` multiplies by this factor"
    )


def _moments(trained: Trained, data: PairDataModule, seconds: float) -> Iterator[StdMoments]:
    """Yields how large standard deviation and error of validation images are, for about this many seconds."""
    restorer, began = Restorer(trained), time.monotonic()
    numbers = [1] if trained.std_by_network else [1, trained.samples]
    for number, pair in enumerate(_centres(data)):
        if number == 0 and not _affordable(restorer, pair, numbers[-1], seconds):
            return
        taken = time.monotonic() - began
        if number >= FEWEST and taken * (number + 1) / number > seconds:
            return
        try:
            yield std_moments_of(restorer, restore_pair(restorer, pair, numbers))
        except UserError:  # such as a constant image
            continue


def _affordable(restorer: Restorer, pair: Pair, samples: int, seconds: float) -> bool:
    """Says whether the fewest images can be restored in this many seconds, by the time of one sample."""
    began = time.monotonic()
    for _ in restorer.samples(pair.low, 1, pair.name):
        pass
    return (time.monotonic() - began) * samples * FEWEST <= seconds


def _centres(data: PairDataModule) -> Iterator[Pair]:
    """Yields the centres of validation images, as recorded."""
    source, side = data.pairs("val").source, max(SIDE, data.crop)
    centres = CenterCrops(source, side)
    for index in np.unique(np.linspace(0, len(source) - 1, MOST).round().astype(int)):
        pair = source[int(index)]
        yield pair if min(pair.low.shape) < side else centres[int(index)]
