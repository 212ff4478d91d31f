"""What every method of the benchmark offers to evaluation and restoration.

A method turns a normalised low image into samples of a normalised clean image. A regressor has one sample; a diffusion
model has as many as one asks for. Methods touch pixels of different places only inside of their networks, and apply
networks only through the ``apply`` that they are given. Restoring a canvas tile by tile is therefore a matter of
*how a network is applied* and of nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.diffusion.symmetry import turn, turn_back

__all__ = ["Apply", "Method", "samples_of", "whole"]

#: Symmetries in which samples see the image, in turn: the first is the image itself, neighbours are far from each
#: other.
TURNS = (0, 6, 1, 7, 2, 4, 3, 5)

#: Maps images (B, C, H, W), and further inputs (B,), to images (B, C', H, W): a network, or a function of one.
Network = Callable[..., Tensor]
#: Applies a network to its inputs.
Apply = Callable[..., Tensor]


def whole(network: Network, *inputs: Tensor) -> Tensor:
    """Applies a network to the whole canvas at once."""
    return network(*inputs)


class Method(Protocol):
    """A trained method of restoration.

    Attributes:
        size_divisor: Sides of a canvas must be divisible by it.
        deterministic: Whether all samples are equal.
        antithetic: Whether samples 2k and 2k + 1 come from antithetic noise: statistics of independent samples count
            pairs.
        tta: Whether each sample sees the image turned another way: the average of the samples is then that of eight
            networks as well, and their spread knows how far these disagree. For methods that learnt on turned images.
        bounds: Range of clean images on the normalised scale.
        evaluations: Network evaluations of one sample.
        preset: How samples are made, in words, for results.
    """

    size_divisor: int
    deterministic: bool
    antithetic: bool
    tta: bool
    bounds: tuple[float, float]

    @property
    def evaluations(self) -> int:
        """Network evaluations of one sample."""

    @property
    def preset(self) -> str:
        """How samples are made, in words."""

    def sample(self, low: Tensor, noise: KeyedNoise, apply: Apply = whole) -> Tensor:
        """Restores images once.

        Args:
            low: Low images with shape (B, 1, H, W), normalised; sides divisible by ``size_divisor``.
            noise: Source of noise with one row for each image.
            apply: How networks are applied.

        Returns:
            Restored images with shape (B, 1, H, W), normalised.
        """


@torch.inference_mode()
def samples_of(
    method: Method,
    low: Tensor,
    image: str,
    samples: Sequence[int],
    seed: int = 0,
    apply: Apply = whole,
    batch: int | None = None,
    margin: int = 0,
) -> Iterator[Tensor]:
    """Yields samples of one image of any size.

    The canvas is padded by reflection to what the networks need, and cropped again. At the very border networks see
    zeros instead of neighbours, and samples disagree there (by up to twice as much as inside); a margin of reflected
    pixels keeps that off the image. Noise is keyed by the image and the sample, so a sample is the same alone and
    within any batch.

    Args:
        method: A trained method.
        low: The low image with shape (1, 1, H, W), normalised, on the device of the method.
        image: Identity of the image.
        samples: Numbers of the samples; a deterministic method makes the first only.
        seed: Seed of the noise.
        apply: How networks are applied.
        batch: Samples that are computed together; by default as many as make a million pixels.
        margin: Reflected pixels on all sides, as far as the image reaches.

    Yields:
        Samples with shape (1, 1, H, W), in order.
    """
    height, width = low.shape[-2:]
    margin = min(margin, height - 1, width - 1)
    canvas = functional.pad(low, (margin,) * 4, mode="reflect") if margin else low
    canvas = pad_to_multiple(canvas, method.size_divisor)
    samples = list(samples)[:1] if method.deterministic else list(samples)
    batch = batch or max(1, 2**20 // (canvas.shape[-1] * canvas.shape[-2]))
    inside = (..., slice(margin, margin + height), slice(margin, margin + width))
    for first in range(0, len(samples), batch):
        for restored in _together(method, canvas, image, samples[first : first + batch], seed, apply):
            yield restored[inside]


def _together(
    method: Method, canvas: Tensor, image: str, samples: Sequence[int], seed: int, apply: Apply
) -> list[Tensor]:
    """Returns samples that are computed together, as far as their canvases have one shape."""
    which = [TURNS[sample % len(TURNS)] if method.tta else 0 for sample in samples]
    made: dict[int, Tensor] = {}
    for odd in (0, 1):
        rows = [row for row, symmetry in enumerate(which) if symmetry % 2 == odd]
        if not rows:
            continue
        turns = [which[row] for row in rows]
        noise = KeyedNoise(seed, [image] * len(rows), [samples[row] for row in rows]).oriented(turns)
        # Samples that see the same image share its memory, and with it what a method computes but once.
        low = torch.cat([turn(canvas, symmetry) for symmetry in turns]) if any(turns) else canvas
        restored = method.sample(low.expand(len(rows), -1, -1, -1), noise, apply).split(1)
        made |= {row: turn_back(restored[k], turns[k]) for k, row in enumerate(rows)}
    return [made[row] for row in range(len(samples))]


def pad_to_multiple(image: Tensor, size_divisor: int) -> Tensor:
    """Pads bottom and right by reflection until both sides are divisible; repeats the edge of tiny images."""
    height, width = image.shape[-2:]
    bottom, right = -height % size_divisor, -width % size_divisor
    mode = "reflect" if bottom < height and right < width else "replicate"
    return functional.pad(image, (0, right, 0, bottom), mode=mode) if bottom or right else image
