"""What every method of the benchmark offers to evaluation and restoration.

A method turns a normalised low image into draws of a normalised clean image. A regressor has one draw; a diffusion
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

__all__ = ["Apply", "Method", "draws_of", "whole"]

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
        multiple: Sides of a canvas must be divisible by it.
        deterministic: Whether all draws are equal.
        antithetic: Whether draws 2k and 2k + 1 come from opposite noise: statistics of independent draws count pairs.
        bounds: Range of clean images on the normalised scale.
        evaluations: Network evaluations of one draw.
        preset: How draws are made, in words, for results.
    """

    multiple: int
    deterministic: bool
    antithetic: bool
    bounds: tuple[float, float]

    @property
    def evaluations(self) -> int:
        """Network evaluations of one draw."""

    @property
    def preset(self) -> str:
        """How draws are made, in words."""

    def draw(self, low: Tensor, noise: KeyedNoise, apply: Apply = whole) -> Tensor:
        """Restores images once.

        Args:
            low: Low images with shape (B, 1, H, W), normalised; sides divisible by ``multiple``.
            noise: Source of noise with one row for each image.
            apply: How networks are applied.

        Returns:
            Restored images with shape (B, 1, H, W), normalised.
        """


@torch.inference_mode()
def draws_of(
    method: Method,
    low: Tensor,
    image: str,
    draws: Sequence[int],
    seed: int = 0,
    apply: Apply = whole,
    batch: int | None = None,
    margin: int = 0,
) -> Iterator[Tensor]:
    """Yields draws of one image of any size.

    The canvas is padded by reflection to what the networks need, and cropped again. At the very border networks see
    zeros instead of neighbours, and draws disagree there (by up to twice as much as inside); a margin of reflected
    pixels keeps that off the image. Noise is keyed by the image and the draw, so a draw is the same alone and within
    any batch.

    Args:
        method: A trained method.
        low: The low image with shape (1, 1, H, W), normalised, on the device of the method.
        image: Identity of the image.
        draws: Numbers of the draws; a deterministic method makes the first only.
        seed: Seed of the noise.
        apply: How networks are applied.
        batch: Draws that are computed together; by default as many as make a million pixels.
        margin: Reflected pixels on all sides, as far as the image reaches.

    Yields:
        Draws with shape (1, 1, H, W), in order.
    """
    height, width = low.shape[-2:]
    margin = min(margin, height - 1, width - 1)
    canvas = functional.pad(low, (margin,) * 4, mode="reflect") if margin else low
    canvas = pad_to_multiple(canvas, method.multiple)
    draws = list(draws)[:1] if method.deterministic else list(draws)
    batch = batch or max(1, 2**20 // (canvas.shape[-1] * canvas.shape[-2]))
    for first in range(0, len(draws), batch):
        chosen = draws[first : first + batch]
        noise = KeyedNoise(seed, [image] * len(chosen), chosen)
        restored = method.draw(canvas.expand(len(chosen), -1, -1, -1), noise, apply)
        yield from restored[..., margin : margin + height, margin : margin + width].split(1)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pads bottom and right by reflection until both sides are divisible; repeats the edge of tiny images."""
    height, width = image.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    mode = "reflect" if bottom < height and right < width else "replicate"
    return functional.pad(image, (0, right, 0, bottom), mode=mode) if bottom or right else image
