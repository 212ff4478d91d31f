"""A trained model as one TorchScript file: from an image in intensities to mean and standard deviation.

The file contains the complete restoration with normalisation, sampler and a fixed number of samples, not only a
network. The noise of the samples is part of the file (keyed by seed and sample), so the same image gives the same
result everywhere. The trace is valid for images of any size.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.data.normalise import NO_FLOOR, Normaliser, Percentile
from ddpm_lightning.metrics.noise_level import noise_level
from ddpm_lightning.models.method import Method
from ddpm_lightning.models.sampling import ImageSampler
from ddpm_lightning.utils.atomic import atomic_write
from ddpm_lightning.utils.errors import UserError

__all__ = ["RestorationModule", "check_trained", "divisor", "save", "traced"]

#: scipy's Gaussian filter ends at this many standard deviations.
TRUNCATE = 4.0
#: Module of the filters, which have no network that could be traced.
FILTERS = "ddpm_lightning.models.classical"


def check_trained(method: nn.Module) -> None:
    """Rejects a classical filter, which cannot be exported.

    Raises:
        UserError: If the method is one.
    """
    if type(method).__module__ == FILTERS:
        raise UserError(
            "checkpoint",
            f"is a classical filter ({method.preset}), which runs outside PyTorch and has no trained network,"
            " so there is nothing to export",
            allowed="a checkpoint of a trained model",
            remedy="use the filter of SciPy or scikit-image with this strength, or ddpm-lightning restore",
        )


class RestorationModule(nn.Module):
    """Restored image and standard deviation as a function of an image; of a single sample, the sample alone.

    Args:
        trained: A trained method.
        samples: Number of samples; a deterministic method makes one.
        seed: Seed of the samples.
        margin: Reflected pixels around the image, rounded up to what the network takes.

    Attributes:
        size_divisor: Sides of images must be divisible by it.
        has_std: Whether there is a standard deviation.
        calibration: By which the standard deviation is scaled, or ``None``.
    """

    def __init__(self, trained: Trained, samples: int, seed: int = 0, margin: int = 16) -> None:
        super().__init__()
        method = trained.method.requires_grad_(False)
        # A trace includes the weights of submodules.
        self.parts = nn.ModuleList(_networks(method))
        self._method, self._normalisation = [method], [trained.normalisation]
        self.most_noise, self.tta = trained.most_noise, trained.tta
        self.by_network = trained.mean == "network"
        self.samples, self.seed = trained.sample_count(samples, requested=False), seed
        self.has_std = trained.has_std(self.samples)
        self.calibration = trained.calibration(self.samples)
        self.size_divisor: int = divisor(method)
        self.margin = -(-margin // self.size_divisor) * self.size_divisor

    @property
    def made(self) -> str:
        """What the restored image is, in words."""
        if self.by_network:
            return "the output of a posterior-mean network"
        return f"the mean of {self.samples} samples" if self.samples > 1 else "a single result"

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Restores an image.

        Args:
            image: Low image with shape (1, 1, H, W), in intensities; both sides divisible by ``size_divisor`` and
                larger than ``margin``.

        Returns:
            Restored image and standard deviation with shape (1, 1, H, W), in intensities, the latter multiplied by the
            factor of the model's calibration if there is one; a single sample has no standard deviation, and is
            returned alone.
        """
        (method,), (normalisation,) = self._method, self._normalisation
        low, high = scale_of(normalisation.input, image, self.most_noise)
        normalised = (image - low) * (2 / (high - low)) - 1
        # Padded here by a fixed number of pixels, because a trace cannot depend on the size of the image.
        padded = functional.pad(normalised, (self.margin,) * 4, mode="reflect") if self.margin else normalised
        sampler = ImageSampler(method, padded, "", self.seed, tta=self.tta)
        mean, std = self._moments(sampler)
        if normalisation.target is not None and not normalisation.target.per_image:
            low, high = scale_of(normalisation.target, image)
        gain = (high - low) / 2
        restored = ((mean + 1) * gain + low).float()
        if std is None:
            return restored
        return restored, (std * gain * (self.calibration.std_factor if self.calibration else 1)).float()

    def _moments(self, sampler: ImageSampler) -> tuple[Tensor, Tensor | None]:
        """Returns mean and standard deviation without the margin, float64."""

        def inside(image: Tensor) -> Tensor:
            return functional.pad(image.double(), (-self.margin,) * 4)

        posterior = sampler.posterior() if self.by_network else None
        if posterior is not None and posterior.std is not None:
            return inside(posterior.mean), inside(posterior.std)
        made = inside(torch.cat(list(sampler.samples(range(self.samples), batch=self.samples))))
        average = made.mean(0, keepdim=True)
        std = (made - average).square().mean(0, keepdim=True).sqrt() if self.samples > 1 else None
        return average if posterior is None else inside(posterior.mean), std


def divisor(method: nn.Module) -> int:
    """Returns what sides of images must be divisible by in a trace.

    A network that pads its input itself (``stride``) pads each size in its own way, which a trace cannot.
    """
    strides = [getattr(part, "stride", 1) for part in _networks(method)]
    divisors = [method.size_divisor, *strides]
    return max(divisor for divisor in divisors if isinstance(divisor, int))


def _networks(method: nn.Module) -> Iterator[nn.Module]:
    """Yields the parts of a method without the methods themselves, because TorchScript looks into their training."""
    for part in method.children():
        if isinstance(part, Method):
            yield from _networks(part)
        else:
            yield part


def scale_of(normaliser: Normaliser, image: Tensor, most_noise: float | None = None) -> tuple[Tensor, Tensor]:
    """Returns the intensities that become -1 and 1, as ``normaliser.scale`` does for arrays.

    Args:
        normaliser: A fitted normaliser.
        image: Image with shape (1, 1, H, W), in intensities.
        most_noise: Most noise on the normalised scale; ``None`` for no limit.
    """
    if isinstance(normaliser, Percentile) and normaliser.per_image:
        return _percentiles(normaliser, image, most_noise)
    common = normaliser.scale(np.zeros((1, 1)))
    return image.new_tensor(common.low), image.new_tensor(common.high)


def _percentiles(normaliser: Percentile, image: Tensor, most_noise: float | None) -> tuple[Tensor, Tensor]:
    ordered = _blurred(image, normaliser.blur).flatten().sort().values

    def percentile(percent: float) -> Tensor:
        place = torch.ones_like(ordered).sum().sub(1) * (percent / 100)
        below = ordered[place.floor().long()]
        above = ordered[place.ceil().long()]
        return below + (above - below) * (place - place.floor())

    low, high = percentile(normaliser.lower), percentile(normaliser.upper)
    if normaliser.fitted is None:
        raise ValueError("the normalisation was not fitted")
    least, floor = torch.zeros_like(low), normaliser.floor * (normaliser.fitted.high - normaliser.fitted.low)
    if most_noise:
        least = 2 * noise_level(image) / most_noise
    if normaliser.floor > NO_FLOOR:
        least = least.clamp(min=floor)
    else:
        rounding = NO_FLOOR * torch.maximum(low.abs(), high.abs())
        least = torch.where(torch.maximum(least, high - low) > rounding, least, least.clamp(min=floor))
    return low, torch.maximum(high, low + least)


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Blurs by a Gaussian as scipy does with ``mode="nearest"``."""
    if not sigma:
        return image
    radius = int(TRUNCATE * sigma + 0.5)
    place = torch.arange(-radius, radius + 1, device=image.device, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (place / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(image)[None, None]
    padded = functional.pad(image, (radius,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel[..., None]), kernel[:, :, None])


@torch.no_grad()
def traced(restoration: RestorationModule, example: Tensor) -> Any:
    """Traces a restoration.

    Args:
        restoration: What to trace.
        example: An image with shape (1, 1, H, W), in intensities.

    Raises:
        UserError: If the method is a classical filter.
    """
    check_trained(*restoration._method)
    with warnings.catch_warnings():
        # Comparisons of sizes and keys of the noise become constants of the trace. This is intended: the sides of all
        # images are divisible by ``size_divisor``, and their noise is the same.
        warnings.filterwarnings("ignore", module=r"ddpm_lightning\.")
        return torch.jit.trace(restoration.eval(), example, check_trace=False)


def save(module: Any, path: Path) -> None:
    """Writes a traced module."""
    with atomic_write(path) as partial:
        torch.jit.save(module, str(partial))
