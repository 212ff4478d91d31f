"""The versions of an image that are scored: the recorded image, one sample, and averages of samples."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ddpm_lightning.data.defects import repaired
from ddpm_lightning.data.normalise import PairNormalisation, without_offset
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.diffusion.ensemble import Ensemble
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.energy_score import WINDOW
from ddpm_lightning.metrics.std_factor import StdMoments, std_moments

__all__ = [
    "Restored",
    "clean_like_restored",
    "full_scale",
    "raw_on_target_scale",
    "restore_pair",
    "std_moments_of",
    "windows_of",
]

#: Samples that are kept for panels.
SHOWN = 3
#: Pixels of each sample that are kept to compare their standard deviation with their error; of larger images, windows
#: on a regular grid.
KEPT_PIXELS = 2**18


@dataclass(frozen=True)
class Restored:
    """All versions of one image with shape (H, W), float32, on the scale of the target less its ``offset``.

    Attributes:
        pair: The pair.
        low: The low image as the network sees it, in intensities of its file: without defective pixels.
        high: The clean image.
        offset: What was subtracted from all others but ``pair`` and ``low``, because float32 could not hold it with
            their contrast; 0 for nearly all images.
        raw: The low image.
        average: The restored image, as ``restore`` writes it: the mean of all samples or, if the preset says so, the
            output of the posterior-mean network.
        posterior_mean: The output of the posterior-mean network, or ``None`` if the method has none.
        means: Mean of the first N samples, by N.
        std: Standard deviation, without calibration: that of a network, or the population standard deviation over all
            samples.
        std_by_network: Whether it is that of a network.
        samples: Number of samples.
        shown: The first few samples.
        kept: The part of all samples that is compared with their error, with shape (N, h, w): all pixels, or of large
            images the windows of :func:`windows_of`.
        gain: Intensities for each unit of the normalised scale.
    """

    pair: Pair
    low: np.ndarray
    high: np.ndarray
    offset: float
    raw: np.ndarray
    average: np.ndarray
    posterior_mean: np.ndarray | None
    means: dict[int, np.ndarray]
    std: np.ndarray
    std_by_network: bool
    samples: int
    shown: list[np.ndarray]
    kept: np.ndarray
    gain: float

    @property
    def predicted(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The part of mean and standard deviation that is compared with the error, if both are those of networks."""
        return (windows_of(self.average), windows_of(self.std)) if self.std_by_network else None

    @property
    def single(self) -> np.ndarray:
        """The first sample."""
        return self.means[1]


def restore_pair(
    restorer: Restorer,
    pair: Pair,
    numbers: list[int],
    on_sample: Callable[[int, np.ndarray], None] | None = None,
) -> Restored:
    """Makes all versions of one image.

    Args:
        restorer: A loaded model.
        pair: The pair.
        numbers: How many samples are averaged, in rising order; the last is the number of samples.
        on_sample: Called with the number of each sample and the sample itself, as :attr:`Restored.average` but with
            its offset.
    """
    prepared = restorer.prepared(pair.low)
    low = prepared.plane
    high, offset = without_offset(pair.high)
    ensemble, means, shown, kept = Ensemble(), {}, [], []
    scale = restorer.input_scale(low)
    output = restorer.normalisation.output_scale(scale)
    around = [None if plane is None else restorer.prepared(plane).plane for plane in pair.neighbours]
    sampler = restorer.sampler(low, scale, pair.name, around)

    def on_target_scale(image: torch.Tensor) -> np.ndarray:
        return (output.restore(image[0, 0].cpu().numpy()) - offset).astype(np.float32)

    for sample in map(on_target_scale, sampler.samples(restorer.numbers(numbers[-1]), restorer.batch)):
        if on_sample:
            on_sample(ensemble.count, sample + np.float64(offset) if offset else sample)
        ensemble.update(torch.from_numpy(sample))
        if ensemble.count in numbers or restorer.method.deterministic:
            means[ensemble.count] = ensemble.mean.float().numpy()
        if len(shown) < SHOWN:
            shown.append(sample)
        kept.append(windows_of(sample))
    average, posterior = means[ensemble.count], sampler.posterior()
    posterior_mean = None if posterior is None else on_target_scale(posterior.mean)
    std = posterior.std if posterior is not None and restorer.trained.std_by_network else None
    raw = raw_on_target_scale(restorer, pair, low)
    return Restored(
        pair,
        low,
        high,
        offset,
        (raw - offset).astype(np.float32),
        posterior_mean if posterior_mean is not None and restorer.trained.mean == "network" else average,
        posterior_mean,
        means,
        (ensemble.std if std is None else std[0, 0].cpu() * output.gain).float().numpy(),
        std is not None,
        ensemble.count,
        shown,
        np.stack(kept),
        output.gain,
    )


def windows_of(image: np.ndarray) -> np.ndarray:
    """Returns an image of at most about ``KEPT_PIXELS`` pixels as it is, of a larger one windows on a regular grid.

    Args:
        image: Image with shape (H, W).
    """
    stride = int(np.ceil(np.sqrt(image.size / KEPT_PIXELS)))
    rows, columns = (np.flatnonzero(np.arange(side) // WINDOW % stride == 0) for side in image.shape)
    return image if stride == 1 else image[np.ix_(rows, columns)]


def std_moments_of(restorer: Restorer, restored: Restored) -> StdMoments:
    """Compares the standard deviation of an image with the error of its mean, on the normalised scale.

    The clean image is normalised as in training: if it was fitted there to the brightness of its noisy partner, so it
    is here, because a restored image has that brightness.
    """
    normalisation, low, high = restorer.normalisation, restored.low, restored.pair.high
    scale = restorer.input_scale(low)
    mean = restored.average + np.float64(restored.offset) if restored.offset else restored.average
    return std_moments(
        mean=torch.from_numpy(normalisation.output_scale(scale).normalise(mean)),
        std=torch.from_numpy(restored.std / np.float32(restored.gain)),
        target=torch.from_numpy(normalisation.target_scale(scale, low, high).normalise(high)),
    )


def clean_like_restored(restorer: Restorer, restored: Restored) -> np.ndarray:
    """Returns the clean image with shape (H, W) in intensities of the restored one, whose brightness may be its own."""
    normalisation, low, high = restorer.normalisation, restored.low, restored.pair.high
    scale = restorer.input_scale(low)
    return normalisation.output_scale(scale).restore(
        normalisation.target_scale(scale, low, high).normalise(high)
    )


def raw_on_target_scale(restorer: Restorer, pair: Pair, low: np.ndarray | None = None) -> np.ndarray:
    """Returns the low image in units of the high one, by the same maps that a restored image passes through.

    Args:
        restorer: A loaded model, which knows the maps.
        pair: The pair.
        low: The low image as the network sees it, which sets the scale; found here where it is not given.
    """
    scale = restorer.input_scale(repaired(pair.low)[0] if low is None else low)
    return restorer.normalisation.output_scale(scale).restore(scale.normalise(pair.low))


def full_scale(normalisation: PairNormalisation, pair: Pair) -> tuple[float, float]:
    """Returns black and white of the paper's protocol: 0 to 255 for 8-bit targets, else the target's stored scale."""
    if pair.high.dtype == np.uint8:
        return 0.0, 255.0
    _, scale = normalisation.scales(pair.low, pair.high)
    return scale.low, scale.high
