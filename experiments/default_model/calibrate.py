"""Fits the size of the standard deviation of a model to real pairs of several kinds, and stores it in the model.

python -m experiments.default_model.calibrate MODEL.safetensors DIR…

On simulated images like those of its training, the map of the shipped model is right without a factor; on images of
other microscopes, errors are larger. Each kind of images counts once, however many images there are and however noisy
they are: the factor is the geometric mean of the kinds, and that of a kind the geometric mean of its images. Only pairs
from the split ``train`` are used, which the model was not trained on; the others remain for tests.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ddpm_lightning.checkpoints.calibration import Calibration
from ddpm_lightning.checkpoints.store_calibration import store_calibration
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.protocol import affine_fit
from ddpm_lightning.metrics.std_factor import (
    StdMoments,
    ideal_factor,
    std_coverage,
    std_factor,
    std_moments,
)
from experiments import common

#: Images of each kind, and the side in pixels of their centres.
IMAGES, SIDE = 24, 256


def calibrate(path: Path, folders: Sequence[Path]) -> Calibration:
    """Returns the calibration that was stored.

    Args:
        path: The model, which is changed.
        folders: Folders of real pairs with a split ``train``, each of another kind.
    """
    restorer = Restorer.load(path, "cpu")
    trained = restorer.trained
    kinds = {folder.name: list(_moments(restorer, folder)) for folder in folders}
    factors = {
        name: _geometric_mean([std_factor([image]) for image in images]) for name, images in kinds.items()
    }
    factor = _geometric_mean(list(factors.values()))
    print(", ".join(f"{name}: {value:.3f}" for name, value in factors.items()), f"; together {factor:.3f}")
    samples = 0 if trained.std_by_network else trained.samples
    calibration = Calibration(
        sampling=trained.sampling,
        sampler=trained.sampler,
        samples=samples,
        std_factor=factor,
        ideal_factor=ideal_factor(samples, trained.method.antithetic, trained.mean == "network"),
        coverage=float(np.mean([std_coverage(images, factor) for images in kinds.values()])),
        images=sum(map(len, kinds.values())),
        data=" and ".join(kinds),
        split="train",
    )
    store_calibration(trained, calibration)
    return calibration


def _moments(restorer: Restorer, folder: Path) -> Iterator[StdMoments]:
    """Compares error and standard deviation of images, whose unknown gain and offset are granted."""
    for pair in common.evenly_spaced(common.real(folder, "train"), IMAGES):
        rows, columns = (slice(max(0, (n - SIDE) // 2), (n + SIDE) // 2) for n in pair.low.shape)
        high = pair.high[rows, columns].astype(np.float64)
        restored = restorer.restore(np.ascontiguousarray(pair.low[rows, columns]), image=pair.name)
        gain, offset = affine_fit(torch.from_numpy(restored.mean).double(), torch.from_numpy(high))
        target = (high - offset) / gain
        std = restored.uncalibrated_std
        yield std_moments(
            mean=torch.from_numpy(restored.mean), std=torch.from_numpy(std), target=torch.from_numpy(target)
        )


def _geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    given = parser.parse_args()
    print(calibrate(given.model, given.folders))
