"""Images of the experiment: pairs for calibration and test, and images that a calibration does not apply to."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from ddpm_lightning.data.center_crop import CenterCrops
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.metrics.noise_model import fit_noise
from experiments import common

__all__ = ["ROLES", "altered", "images"]

ROLES = ("calibration", "test")
#: Blur in pixels that about doubles the width of the point-spread functions of the sets.
BLUR = 3.0
#: Blur of independent noise that makes neighbouring pixels correlate by about 0.5.
CORRELATION = 0.6


def images(options: common.Options) -> Iterator[tuple[str, str, Pair]]:
    """Yields set, role and pair, one of each set in turn, so that an interrupted measurement has some of all."""
    size = options.size
    sources: dict[tuple[str, str], Iterator[Pair]] = {}
    for role, split, count in zip(ROLES, ("val", "test"), (size["calibration"], size["test"]), strict=True):
        for name in common.SPECIMENS:
            pairs = common.SimulatedPairs(name, split, count, size["side"], seed=common.DATASET_SEED)
            sources[name, role] = iter(common.evenly_spaced(pairs, count))
        for name, folder in options.pairs.items():
            sources[name, role] = _real(folder, role, count, size["side"])
    while sources:
        for key, pairs in list(sources.items()):
            pair = next(pairs, None)
            if pair is None:
                del sources[key]
            else:
                yield *key, pair


def _real(folder: Any, role: str, count: int, side: int) -> Iterator[Pair]:
    """Yields real pairs of all splits, which the shipped model has not seen; even fields of view are for tests."""
    found = 0
    for split in ("train", "val", "test"):
        source = CenterCrops(common.real(folder, split), side)
        for index in range(len(source)):
            pair = source[index]
            number = int("".join(filter(str.isdigit, pair.field)) or 0)
            if (number % 5 < 2) == (role == "calibration") and found < count:
                found += 1
                yield Pair(pair.low, pair.high, f"{split}_{pair.name}", pair.field, pair.pixel_size)


def altered(pair: Pair, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
    """Returns low images, by name, to which a calibration on images like the pair does not apply.

    The expected low image is the line through the clean image that fits the low image best; its noise follows the
    photon-transfer curve of the low image.
    """
    low, high = (image.astype(np.float64) for image in (pair.low, pair.high))
    gain, offset = np.polyfit(high.ravel(), low.ravel(), 1)
    clean, noise = gain * high + offset, fit_noise(low)
    white = rng.standard_normal(low.shape)
    smooth = ndimage.gaussian_filter(white, CORRELATION, mode="wrap")
    smooth /= smooth.std()
    if noise is None:
        return {}

    def noisy(image: np.ndarray, unit: np.ndarray) -> np.ndarray:
        return image + unit * np.sqrt(noise.variance(image))

    return {
        "blurred": noisy(ndimage.gaussian_filter(clean, BLUR), white),
        "correlated noise": noisy(clean, smooth),
    }
