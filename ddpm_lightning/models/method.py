"""The contract of all methods: what a method minimises, how it restores images, and what its users must know of it.

A method is a plain ``torch.nn.Module`` around its networks. It knows neither optimiser nor trainer, so it can be
trained by :class:`ddpm_lightning.training.module.LightningMethod` or by a loop of one's own, and used without either.

One-pass and sampling methods have the same form: a *sample* is one restored image. A regressor has one sample; a
diffusion model has as many as one asks for. Methods combine pixels of different places only inside of their networks,
and apply networks only through the ``apply`` that they are given. Restoring a canvas tile by tile is therefore only a
matter of *how a network is applied*.

A method of one's own must define :meth:`Method.loss` and :meth:`Method.sample`; all else has a default.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.models.presets import ONE_PASS, Preset

__all__ = ["Apply", "Batch", "FirstStage", "LossKey", "Method", "Reduce", "apply_directly", "size_divisor_of"]

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
    """Returns what the sides of a network's images must be divisible by: its ``size_divisor``, or 1 without one."""
    return int(getattr(network, "size_divisor", 1))


class Batch(TypedDict):
    """Training crops of B images.

    Attributes:
        low: Noisy images with shape (B, 1, H, W), normalised.
        high: Clean images with the same shape, normalised; methods with ``needs_clean = False`` must not look at them.
        name: Identity of each crop, which keys its noise.
    """

    low: Tensor
    high: Tensor
    name: list[str]


@dataclass(frozen=True)
class LossKey:
    """Key of everything random in one loss, so that a resumed run computes the same one.

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
        # Each factor is a prime beyond the range of the others, so that nearby runs, steps and processes do not meet.
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
    """A method that must be trained before the method that builds on it.

    Attributes:
        part: Name of the first method as a setting and as an attribute of the second.
        model: Name of its configuration (``model=NAME``).
        checkpoint_setting: Name of the setting that gives a trained first method.
        checkpoint: That checkpoint; ``None`` trains the first method within the run.
        share: Share of the steps of a run that train it, in (0, 1).
    """

    part: str
    model: str
    checkpoint_setting: str
    checkpoint: str | None
    share: float


class Method(nn.Module, ABC):
    """Base of all methods.

    Attributes:
        size_divisor: Sides of a canvas must be divisible by it.
        bounds: Range of clean images on the normalised scale, fitted to the training set.
        averaged: Whether the moving average of the weights (EMA) may replace them. Networks with batch normalisation
            say no: their running statistics belong to the latest weights.
        needs_clean: Whether it learns from clean images, and is validated with them.
    """

    size_divisor: int = 1
    bounds: tuple[float, float] = (-1.0, 1.0)
    averaged: bool = True
    needs_clean: bool = True

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
        """Network evaluations of one sample."""
        return 1

    @property
    def preset(self) -> str:
        """How samples are made, in words, for results."""
        return "one pass"

    @property
    def presets(self) -> Mapping[str, Preset]:
        """Named choices of sampler and number of samples, the default first."""
        return (
            ONE_PASS if self.deterministic else {"one_pass": Preset(15, "samples of the only kind there is")}
        )

    @property
    def first_stage(self) -> FirstStage | None:
        """The method that must be trained before this one, if there is one."""
        return None

    @abstractmethod
    def sample(self, low: Tensor, noise: KeyedNoise, apply: Apply = apply_directly) -> Tensor:
        """Restores images once.

        Args:
            low: Low images with shape (B, 1, H, W), normalised; sides divisible by ``size_divisor``.
            noise: Source of noise with one row for each image.
            apply: How networks are applied.

        Returns:
            Restored images with shape (B, 1, H, W), normalised.
        """

    @abstractmethod
    def loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns what training minimises, a scalar: a function of the weights, the batch and the key alone."""

    def validation_loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns the loss by which checkpoints are compared, a scalar; by default the training loss."""
        return self.loss(batch, key)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Returns the parameters of each optimiser by the name of its loss.

        With one group, :meth:`loss` is minimised. With several, the losses of :meth:`alternating_losses` are, in turn.
        Without any, :meth:`calibrate` does all of the training.
        """
        return {"loss": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def alternating_losses(self, batch: Batch, key: LossKey) -> Iterator[tuple[str, Tensor]]:
        """Yields the name of a parameter group and its loss, one after another.

        The optimiser of that group takes a step before the next loss is computed. All of them together count as one
        step of the run.
        """
        raise NotImplementedError(f"{type(self).__name__} has several optimisers but no alternating_losses")

    def calibrate(self, batches: Iterable[Batch], reduce: Reduce) -> Tensor | None:
        """Measures before the first step what the validation crops are needed for.

        Args:
            batches: Validation batches of this process, on the CPU.
            reduce: Reduces a tensor over all processes.

        Returns:
            The least error where there is nothing else to train (no parameter groups), else ``None``.
        """

    def reset_calibration(self) -> None:
        """Forgets what :meth:`calibrate` measured: the weights will be trained on other data."""
