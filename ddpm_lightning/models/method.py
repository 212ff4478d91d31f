"""The interface of all methods: what a method minimises, how it restores images, and which properties it has.

A method is a plain ``torch.nn.Module`` around its networks. It knows neither optimiser nor trainer, so it can be
trained by :class:`ddpm_lightning.training.module.LightningMethod` or by your own loop, and used without either.

Deterministic and sampling methods have the same interface: a *sample* is one restored image. A regressor has one
sample; a diffusion model has any number. Only the networks of a method mix information between pixels, and networks are
called only through the argument ``apply``. A different ``apply`` is therefore sufficient to restore an image tile by
tile.

Your own method must define :meth:`Method.loss` and :meth:`Method.sample`; everything else has a default.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.models.presets import ONE_PASS, Preset
from ddpm_lightning.networks.neighbours import NeighbourStem

__all__ = [
    "Apply",
    "Batch",
    "FirstStage",
    "LossKey",
    "Method",
    "Posterior",
    "Reduce",
    "apply_directly",
    "size_divisor_of",
]

#: Maps images (B, C, H, W), and further inputs (B,), to images (B, C', H, W): a network, or a function of one.
Network = Callable[..., Tensor]
#: Applies a network to its inputs.
Apply = Callable[..., Tensor]
#: Reduces a tensor over all processes of a training; the second argument is ``mean`` or ``sum``.
Reduce = Callable[[Tensor, str], Tensor]


def apply_directly(network: Network, *inputs: Tensor) -> Tensor:
    """Applies a network to the whole canvas at once; to restore by tiles, another function is passed in its place.

    Args:
        network: Maps images with shape (B, C, H, W), and further inputs with shape (B,), to images.
        inputs: What it is called with.

    Returns:
        Images with shape (B, C', H, W).
    """
    return network(*inputs)


def size_divisor_of(network: nn.Module) -> int:
    """Returns the number by which the sides of a network's images must be divisible: its ``size_divisor``, else 1."""
    return int(getattr(network, "size_divisor", 1))


class Batch(TypedDict):
    """Training crops of B images.

    Attributes:
        low: Noisy images with shape (B, 1, H, W), normalised; with N neighbours on each side, (B, 1 + 2 N, H, W), in
            the order of :mod:`ddpm_lightning.utils.plane_order`.
        high: Clean images with shape (B, 1, H, W), normalised; methods with ``needs_clean = False`` must not use them.
        name: Identity of each crop, which keys its noise.
    """

    low: Tensor
    high: Tensor
    name: list[str]


@dataclass(frozen=True)
class LossKey:
    """Key of all random numbers in a loss, so that a resumed run computes the same loss.

    Attributes:
        seed: Seed of the run.
        step: Optimiser steps taken so far.
        stream: Seed of a generator, different for each seed, step and process.
    """

    seed: int
    step: int
    stream: int

    @classmethod
    def of_step(cls, seed: int, step: int, process: int = 0) -> "LossKey":
        """Returns the key of a training step."""
        # Prime factors keep the keys of nearby seeds, steps and processes apart.
        return cls(seed, step, (seed * 1_000_003 + step) * 65_537 + process)

    @classmethod
    def of_validation(cls, batch: int) -> "LossKey":
        """Returns the key of a validation batch, by its number: the same in every epoch and run."""
        return cls(0, 0, batch)

    def noise(self, names: list[str]) -> KeyedNoise:
        """Returns noise with a row for each crop, keyed by (seed, crop, step)."""
        return KeyedNoise(self.seed, names, [self.step] * len(names))

    def generator(self) -> torch.Generator:
        """Returns a generator on the CPU, seeded by ``stream``."""
        return torch.Generator().manual_seed(self.stream)


class FirstStage(NamedTuple):
    """The first of two methods, which must be trained before the second, which builds on it.

    Attributes:
        part: Name of the first method, as a setting and as an attribute of the second.
        model: Name of its configuration (``model=NAME``).
        checkpoint_setting: Name of the setting for the checkpoint of a trained first method.
        checkpoint: That checkpoint, or ``None`` to train the first method within the run.
        share: Share of the steps of the run in which it is trained, in (0, 1).
    """

    part: str
    model: str
    checkpoint_setting: str
    checkpoint: str | None
    share: float


class Posterior(NamedTuple):
    """What networks estimate of the posterior, without samples.

    Attributes:
        mean: The mean with shape (B, 1, H, W), normalised.
        std: The standard deviation with the same shape, normalised; ``None`` if it is not estimated.
    """

    mean: Tensor
    std: Tensor | None = None


class Method(nn.Module, ABC):
    """Base of all methods.

    Attributes:
        size_divisor: Sides of a canvas must be divisible by it.
        bounds: Range of clean images on the normalised scale, fitted to the training set.
        averaged: Whether the moving average of the weights (EMA) may replace them. Not so for networks with batch
            normalisation, because their running statistics belong to the latest weights.
        needs_clean: Whether training and validation use clean images.
        stem: Combines a plane of a stack and its neighbours; ``None`` for methods that see single planes only.
    """

    stem: NeighbourStem | None
    size_divisor: int = 1
    bounds: tuple[float, float] = (-1.0, 1.0)
    averaged: bool = True
    needs_clean: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.register_module("stem", None)

    @property
    def deterministic(self) -> bool:
        """Whether all samples are equal."""
        return True

    @property
    def antithetic(self) -> bool:
        """Whether samples 2k and 2k + 1 come from antithetic noise: independent samples are then counted in pairs."""
        return False

    @property
    def evaluations(self) -> int:
        """Network evaluations of one sample, without those of :meth:`posterior`."""
        return 1

    @property
    def mean_evaluations(self) -> int:
        """Network evaluations of :meth:`posterior`; 0 for a method that has none."""
        return 0

    @property
    def predicts_std(self) -> bool:
        """Whether :meth:`posterior` includes the standard deviation."""
        return False

    @property
    def preset(self) -> str:
        """How samples are made, in words, for results."""
        return "one pass"

    @property
    def presets(self) -> Mapping[str, Preset]:
        """Named choices of sampler and number of samples, the default first."""
        return ONE_PASS if self.deterministic else {"one_pass": Preset(15, "the only sampler of this model")}

    @property
    def first_stage(self) -> FirstStage | None:
        """The method that must be trained before this one, if there is one."""
        return None

    @property
    def neighbours(self) -> int:
        """Planes before and after a plane of a stack that the method makes use of."""
        return 0 if self.stem is None else self.stem.neighbours

    def combined(self, low: Tensor, apply: Apply = apply_directly) -> Tensor:
        """Returns images (B, 1, H, W) in which the neighbours of planes are included.

        It is computed once for each image, before :meth:`posterior` and :meth:`sample`, and at the beginning of each
        loss. Without neighbours, images are returned as they are.

        Args:
            low: Planes with their neighbours, normalised; see :class:`Batch`.
            apply: How networks are applied.
        """
        return low if self.stem is None or low.shape[1] == 1 else apply(self.stem, low)

    @abstractmethod
    def sample(self, low: Tensor, noise: KeyedNoise, apply: Apply = apply_directly) -> Tensor:
        """Restores images once.

        Args:
            low: Low images with shape (B, 1, H, W), normalised (:meth:`combined`); sides divisible by ``size_divisor``.
            noise: Source of noise with one row for each image.
            apply: How networks are applied.

        Returns:
            Restored images with shape (B, 1, H, W), normalised.
        """

    def posterior(self, low: Tensor, apply: Apply = apply_directly) -> Posterior | None:
        """Returns what networks estimate of the posterior without samples; all samples of an image share it.

        Args:
            low: Low images with shape (B, 1, H, W), normalised (:meth:`combined`); sides divisible by ``size_divisor``.
            apply: How networks are applied.

        Returns:
            Mean and perhaps standard deviation, or ``None`` for a method without such networks.
        """
        return None

    def sample_around(
        self, posterior: Posterior, low: Tensor, noise: KeyedNoise, apply: Apply = apply_directly
    ) -> Tensor:
        """Restores images once, given the result of :meth:`posterior`; otherwise as :meth:`sample`.

        Args:
            posterior: Estimates of the posterior.
            low: Low images with the same shape, normalised.
            noise: Source of noise with one row for each image.
            apply: How networks are applied.
        """
        return self.sample(low, noise, apply)

    def image_of(self, network: object, output: Tensor) -> Tensor | None:
        """Returns the image that an output of a network stands for, before a restoration is finished.

        Args:
            network: The network.
            output: Its output with shape (B, C, H, W).

        Returns:
            An estimate of the posterior mean with shape (B, 1, H, W), normalised; ``None`` if it is anything else.
        """
        return None

    @abstractmethod
    def loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns what training minimises: a function of the weights, the batch and the key alone.

        Args:
            batch: Training crops.
            key: Key of all random numbers.

        Returns:
            A scalar.
        """

    def validation_loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns the loss by which checkpoints are compared, by default the training loss.

        Args:
            batch: Validation crops.
            key: Key of all random numbers, the same in every epoch.

        Returns:
            A scalar.
        """
        return self.loss(batch, key)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Returns the parameters of each optimiser by the name of its loss.

        If there is one group, :meth:`loss` is minimised; if there are several, the losses of
        :meth:`alternating_losses`, in turn; if there is none, :meth:`calibrate` does all of the training.
        """
        return {"loss": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def alternating_losses(self, batch: Batch, key: LossKey) -> Iterator[tuple[str, Tensor]]:
        """Yields the name of a parameter group and its loss, one after another.

        The optimiser of that group takes a step before the next loss is computed. Together, these steps count as one
        step of the run.

        Args:
            batch: Training crops.
            key: Key of all random numbers.

        Yields:
            Name of the group, and a scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} has several optimisers but no alternating_losses")

    def calibrate(self, batches: Iterable[Batch], reduce: Reduce) -> Tensor | None:
        """Measures properties of the validation crops before the first step.

        Args:
            batches: Validation batches of this process, on the CPU.
            reduce: Reduces a tensor over all processes.

        Returns:
            The least error, a scalar, if there is nothing else to train (no parameter groups); otherwise ``None``.
        """

    def reset_calibration(self) -> None:
        """Removes the result of :meth:`calibrate`, because the weights will be trained on other data."""
