"""Samples of one image of any size from any method, in batches and in all orientations.

With test-time augmentation, each sample is computed from the image in a different orientation. Averaging the samples
then also averages over eight orientations, and their standard deviation includes the differences between orientations.
Whatever has no samples to average, a deterministic method or a posterior-mean network, is applied in several
orientations, and the results are averaged.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ddpm_lightning.diffusion.randomness import KeyedNoise, Mixture
from ddpm_lightning.diffusion.symmetry import turn, turn_back
from ddpm_lightning.models.method import Apply, Method, Posterior, apply_directly

__all__ = [
    "ORIENTATIONS",
    "Evaluations",
    "ImageSampler",
    "Tta",
    "evaluations_of",
    "orientations_of",
    "pad_to_multiple",
    "samples_of",
]

#: Test-time augmentation: whether it is used, or in how many orientations, from 2 to 8, deterministic networks are
#: applied; ``True`` stands for two.
Tta = bool | Annotated[int, Field(ge=2, le=8)]

#: Orientations of the image for successive samples (:func:`ddpm_lightning.diffusion.symmetry.turn`), unchanged first;
#: successive ones differ much.
ORIENTATIONS = (0, 6, 1, 7, 2, 4, 3, 5)
#: Orientations in which deterministic networks are applied with ``tta=True``. Two have half of the gain of eight,
#: measured on regressors that were trained for minutes: 0.07 of 0.13, 0.13 of 0.24 and 0.17 of 0.32 dB.
FEW_ORIENTATIONS = 2


class ImageSampler:
    """Makes samples of one image of any size.

    The canvas is padded by reflection to a size that the networks accept, and cropped again. At the border, networks
    see zeros instead of neighbouring pixels, and samples disagree up to twice as much as inside; a margin of reflected
    pixels prevents that. Noise is keyed by image and sample, so a sample is the same alone and in any batch.

    Args:
        method: A trained method.
        low: The low image with shape (1, 1, H, W), normalised, on the device of the method; with neighbours
            (1, 1 + 2 N, H, W), in the order of :mod:`ddpm_lightning.utils.plane_order`.
        image: Identity of the image, or the mixture of its noise.
        seed: Seed of the noise.
        apply: How networks are applied.
        margin: Reflected pixels on all sides, fewer than the shorter side has.
        tta: Whether samples are computed from different orientations of the image, for methods trained on augmented
            images. Results of deterministic methods, and of networks of the posterior's mean or standard deviation,
            are averaged over several of them (:data:`Tta`); all samples share the averages.
    """

    def __init__(
        self,
        method: Method,
        low: Tensor,
        image: str | Mixture,
        seed: int = 0,
        apply: Apply = apply_directly,
        margin: int = 0,
        tta: Tta = False,
    ) -> None:
        self.method, self.image, self.seed, self.apply, self.tta = method, image, seed, apply, tta
        height, width = low.shape[-2:]
        margin = min(margin, height - 1, width - 1)
        canvas = functional.pad(low, (margin,) * 4, mode="reflect") if margin else low
        self.canvas = pad_to_multiple(canvas, method.size_divisor)
        self._combined: dict[int, Tensor] = {}
        self._inside = (..., slice(margin, margin + height), slice(margin, margin + width))

    @torch.inference_mode()
    def posterior(self) -> Posterior | None:
        """Returns what networks estimate of the posterior, (1, 1, H, W), without samples; ``None`` without such."""
        if self._posterior is None:
            return None
        mean, std = self._posterior
        return Posterior(mean[self._inside], None if std is None else std[self._inside])

    @torch.inference_mode()
    def samples(self, numbers: Sequence[int], batch: int | None = None) -> Iterator[Tensor]:
        """Yields samples with shape (1, 1, H, W), in order.

        Args:
            numbers: Numbers of the samples, from 0; a deterministic method makes only the first.
            batch: Samples that are computed together; by default as many as fit into a million pixels.
        """
        if self.method.deterministic:
            if numbers:
                yield self._deterministic(numbers[0])[self._inside]
            return
        numbers = list(numbers)
        batch = batch or max(1, 2**20 // (self.canvas.shape[-1] * self.canvas.shape[-2]))
        for first in range(0, len(numbers), batch):
            chosen = numbers[first : first + batch]
            which = [ORIENTATIONS[number % len(ORIENTATIONS)] if self.tta else 0 for number in chosen]
            for restored in self._together(chosen, which):
                yield restored[self._inside]

    @cached_property
    def _posterior(self) -> Posterior | None:
        """The posterior on the canvas, computed once: the average over its orientations."""
        found = []
        for symmetry in ORIENTATIONS[: orientations_of(self.tta)]:
            posterior = self.method.posterior(self._low(symmetry), self.apply)
            if posterior is None:
                return None
            found.append(_each(posterior, partial(turn_back, which=symmetry)))
        stds = [posterior.std for posterior in found if posterior.std is not None]
        return Posterior(_average([posterior.mean for posterior in found]), _average(stds) if stds else None)

    def _low(self, symmetry: int) -> Tensor:
        """Returns the canvas in an orientation with shape (1, 1, H, W), its neighbours included, computed once."""
        if self.canvas.shape[1] == 1:
            return turn(self.canvas, symmetry)
        if symmetry not in self._combined:
            self._combined[symmetry] = self.method.combined(turn(self.canvas, symmetry), self.apply)
        return self._combined[symmetry]

    def _deterministic(self, number: int) -> Tensor:
        """Returns the only sample of a deterministic method on the canvas, averaged over orientations."""
        which = ORIENTATIONS[: orientations_of(self.tta)]
        return _average([self._together([number], [symmetry])[0] for symmetry in which])

    def _together(self, numbers: Sequence[int], which: Sequence[int]) -> list[Tensor]:
        """Returns samples, each in an orientation; those whose canvases have the same shape are one batch."""
        posterior, made = self._posterior, {}
        for odd in (0, 1):
            rows = [row for row, symmetry in enumerate(which) if symmetry % 2 == odd]
            if not rows:
                continue
            turns = [which[row] for row in rows]
            noise = KeyedNoise(self.seed, [self.image] * len(rows), [numbers[row] for row in rows])
            noise, low = noise.oriented(turns), torch.cat([self._low(symmetry) for symmetry in turns])
            if posterior is None:
                restored = self.method.sample(low, noise, self.apply)
            else:
                around = _each(posterior, partial(_in_orientations, turns=turns))
                restored = self.method.sample_around(around, low, noise, self.apply)
            made |= {row: turn_back(restored[k : k + 1], turns[k]) for k, row in enumerate(rows)}
        return [made[row] for row in range(len(numbers))]


class Evaluations(NamedTuple):
    """Network evaluations for an image.

    Attributes:
        mean: Those of its posterior mean.
        samples: Those of all its samples.
    """

    mean: int
    samples: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.mean + self.samples


def evaluations_of(method: Method, samples: int, tta: Tta) -> Evaluations:
    """Returns the network evaluations for an image.

    Args:
        method: The method.
        samples: Number of samples; a deterministic method makes one.
        tta: Test-time augmentation.
    """
    orientations = orientations_of(tta)
    count = orientations if method.deterministic else samples
    return Evaluations(method.mean_evaluations * orientations, count * method.evaluations)


def orientations_of(tta: Tta) -> int:
    """Returns in how many orientations a deterministic network is applied to an image."""
    return FEW_ORIENTATIONS if tta is True else max(int(tta), 1)


def samples_of(
    method: Method,
    low: Tensor,
    image: str,
    samples: Sequence[int],
    *,
    batch: int | None = None,
    **settings: Any,
) -> Iterator[Tensor]:
    """Yields samples of one image: :meth:`ImageSampler.samples` with its settings."""
    return ImageSampler(method, low, image, **settings).samples(samples, batch)


def _average(images: Sequence[Tensor]) -> Tensor:
    return sum(images[1:], images[0]) / len(images)


def _each(posterior: Posterior, change: Callable[[Tensor], Tensor]) -> Posterior:
    """Returns a posterior of which mean and standard deviation were changed in the same way."""
    return Posterior(change(posterior.mean), None if posterior.std is None else change(posterior.std))


def _in_orientations(image: Tensor, turns: Sequence[int]) -> Tensor:
    """Returns an image (1, C, H, W) in several orientations, as (B, C, H, W)."""
    return torch.cat([turn(image, symmetry) for symmetry in turns])


def pad_to_multiple(image: Tensor, size_divisor: int) -> Tensor:
    """Pads bottom and right by reflection until both sides are divisible; repeats the edge of tiny images."""
    height, width = image.shape[-2:]
    bottom, right = -height % size_divisor, -width % size_divisor
    mode = "reflect" if bottom < height and right < width else "replicate"
    return functional.pad(image, (0, right, 0, bottom), mode=mode) if bottom or right else image
