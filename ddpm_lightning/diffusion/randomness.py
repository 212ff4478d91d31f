r"""Noise as a pure function of its key (seed, image, sample, step).

A stateful generator gives numbers that depend on what was drawn before: on the batch, the tile, the process, and on
whether a job was interrupted. Here the noise of one pixel is the value of a counter-based generator, Philox4x32-10,
at a counter made of the pixel and the step, under a 64-bit key hashed from (seed, image, sample). It can be computed
anywhere, in any order, on any device, and is always the same.

Uniform integers become normal numbers by the Box-Muller transform in float64.

References:
    Salmon, Moraes, Dror, Shaw. *Parallel random numbers: as easy as 1, 2, 3* (SC 2011), doi 10.1145/2063384.2063405.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from ddpm_lightning.diffusion.symmetry import turn

__all__ = ["KeyedNoise", "Mixture", "philox4x32"]

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox4x32(counter: Sequence[Tensor], key: Sequence[Tensor], rounds: int = 10) -> list[Tensor]:
    """Returns four words of 32 random bits for each counter.

    Args:
        counter: Four int64 tensors holding 32-bit words, broadcastable with each other and with the key.
        key: Two int64 tensors holding 32-bit words.
        rounds: Number of rounds; 10 is the standard.

    Returns:
        Four int64 tensors with values in [0, 2^32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        # The 64-bit product wraps as a signed number, but its bits are right: shift, then mask.
        product_0, product_1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        high_0, high_1 = (product_0 >> 32) & _MASK, (product_1 >> 32) & _MASK
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, product_1 & _MASK, high_0 ^ c3 ^ k1, product_0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return [c0, c1, c2, c3]


class Mixture(NamedTuple):
    """Noise of an image that is a sum of the noise of other images, with which it is therefore correlated.

    The correlation of the noise of two mixtures is the sum of the products of their weights of equal names.

    Attributes:
        names: Identities of the images.
        weights: Their weights; the sum of their squares is 1, so the noise remains standard normal.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]


class KeyedNoise:
    """Standard normal noise for a batch of samples, keyed by (seed, image, sample, step).

    Args:
        seed: Seed of the run.
        images: Identity of the image of each row of the batch, or the mixture of its noise.
        samples: Number of the sample of each row of the batch.

    Raises:
        ValueError: If there are not as many images as samples.
    """

    def __init__(self, seed: int, images: Sequence[str | Mixture], samples: Sequence[int]) -> None:
        if len(images) != len(samples):
            raise ValueError(
                f"{len(images)} images but {len(samples)} samples: each row of a batch needs both"
            )
        self.seed, self.images, self.samples = seed, list(images), list(samples)
        mixtures = [Mixture((image,), (1.0,)) if isinstance(image, str) else image for image in images]
        parts = max((len(mixture.names) for mixture in mixtures), default=1)
        # Rows with fewer parts than others get parts without weight.
        words = [
            self._words(seed, mixture.names[min(part, len(mixture.names) - 1)], sample)
            for part in range(parts)
            for mixture, sample in zip(mixtures, self.samples, strict=True)
        ]
        weights = [[*mixture.weights, *[0.0] * (parts - len(mixture.weights))] for mixture in mixtures]
        self._keys = torch.tensor(words, dtype=torch.int64).reshape(parts, -1, 2)
        self._weights = torch.tensor(weights, dtype=torch.float64).reshape(-1, parts).T[..., None]
        self._mirrored = torch.zeros(len(self.samples), 1, dtype=torch.bool)
        self._which = [0] * len(self.samples)

    def oriented(self, which: Sequence[int]) -> "KeyedNoise":
        """Returns this noise for rotated or flipped images, each in its own way: it is transformed with them.

        Args:
            which: Symmetry of each row (:func:`ddpm_lightning.diffusion.symmetry.turn`), all odd or all even.
        """
        oriented = KeyedNoise(self.seed, self.images, self.samples)
        oriented._keys, oriented._mirrored, oriented._which = self._keys, self._mirrored, list(which)
        return oriented

    def antithetic(self) -> "KeyedNoise":
        """Returns this noise in pairs: all noise of sample 2k + 1 is minus that of sample 2k.

        A sampler without other noise turns the pair into two samples whose mean is free of all that is odd in the
        noise. Partners are not independent of each other: what needs independent samples must count pairs.
        """
        paired = KeyedNoise(self.seed, self.images, [sample - sample % 2 for sample in self.samples])
        paired.samples, paired._which = self.samples, self._which
        paired._mirrored = torch.tensor(
            [[sample % 2 == 1] for sample in self.samples], dtype=torch.bool
        ).reshape(-1, 1)
        return paired

    @staticmethod
    def _words(seed: int, image: str, sample: int) -> tuple[int, int]:
        digest = hashlib.blake2b(f"{seed}\0{image}\0{sample}".encode(), digest_size=8).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")

    def __len__(self) -> int:
        return len(self.samples)

    def __call__(self, step: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Returns the noise of one step.

        Args:
            step: Step of the sampler that uses the noise, at least 0.
            shape: Shape of one image, (C, H, W).
            device: Where the noise is computed.

        Returns:
            Standard normal numbers with shape (B, C, H, W), float32.
        """
        normal = self._mixed(step, math.prod(shape), device).float()
        return self._field(torch.where(self._mirrored.to(device), -normal, normal), shape)

    def uniform_field(self, step: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Returns uniform numbers inside of (0, 1) with shape (B, C, H, W), float64; see :meth:`uniform`."""
        return self._field(self.uniform(step, math.prod(shape), device), shape)

    def _field(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        """Arranges numbers (B, N) as images without rotation or flip, and then transforms these."""
        if not any(self._which):
            return values.reshape(len(self), *shape)
        *channels, height, width = shape
        upright = (width, height) if self._which[0] % 2 else (height, width)
        rows = values.reshape(len(self), *channels, *upright).split(1)
        return torch.cat([turn(row, which) for row, which in zip(rows, self._which, strict=True)])

    def uniform(self, step: int, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Returns uniform numbers inside of (0, 1) with shape (B, count), float64; the normal ones are made of them.

        The mirror image of a uniform number u is 1 - u. Those of mixtures are the normal distribution function of the
        mixed normal numbers.
        """
        uniform = self._uniform(self._keys[0], step, count, device)
        if len(self._keys) > 1:
            mixed = (self._weights[1:] != 0).any(0).to(device)
            uniform = torch.where(mixed, torch.special.ndtr(self._mixed(step, count, device)), uniform)
        return torch.where(self._mirrored.to(device), 1 - uniform, uniform)

    def _mixed(self, step: int, count: int, device: torch.device | str) -> Tensor:
        """Returns standard normal numbers (B, count), float64: those of the parts of each row, added."""
        weights = self._weights.to(device)
        total = weights[0] * self._normal(self._keys[0], step, count, device)
        for part in range(1, len(self._keys)):
            total += weights[part] * self._normal(self._keys[part], step, count, device)
        return total

    def _normal(self, key: Tensor, step: int, count: int, device: torch.device | str) -> Tensor:
        uniform = self._uniform(key, step, (count + 3) // 4 * 4, device)
        radius = torch.sqrt(-2 * torch.log(uniform[:, 0::2]))
        angle = 2 * math.pi * uniform[:, 1::2]
        pairs = [radius * torch.cos(angle), radius * torch.sin(angle)]
        return rearrange(pairs, "part b n -> b (n part)")[:, :count]

    @staticmethod
    def _uniform(key: Tensor, step: int, count: int, device: torch.device | str) -> Tensor:
        blocks = torch.arange((count + 3) // 4, device=device)[None]
        zero = torch.zeros_like(blocks)
        key = key.to(device)
        words = philox4x32((blocks & _MASK, blocks >> 32, zero + step, zero), (key[:, :1], key[:, 1:]))
        return (rearrange(list(words), "word b n -> b (n word)")[:, :count].double() + 0.5) / 2**32
