"""Samples of one image of any size from any method, in batches and in all orientations.

With test-time augmentation, each sample is computed from the image in a different orientation. Averaging the samples
then also averages over eight orientations, and their standard deviation includes the differences between orientations.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.diffusion.symmetry import turn, turn_back
from ddpm_lightning.models.method import Apply, Method, apply_directly

__all__ = ["ORIENTATIONS", "pad_to_multiple", "samples_of"]

#: Orientations of the image for successive samples (:func:`ddpm_lightning.diffusion.symmetry.turn`), unchanged first;
#: successive ones differ much.
ORIENTATIONS = (0, 6, 1, 7, 2, 4, 3, 5)


@torch.inference_mode()
def samples_of(
    method: Method,
    low: Tensor,
    image: str,
    samples: Sequence[int],
    seed: int = 0,
    apply: Apply = apply_directly,
    batch: int | None = None,
    margin: int = 0,
    tta: bool = False,
) -> Iterator[Tensor]:
    """Yields samples of one image of any size.

    The canvas is padded by reflection to a size that the networks accept, and cropped again. At the border, networks
    see zeros instead of neighbouring pixels, and samples disagree up to twice as much as inside; a margin of reflected
    pixels prevents that. Noise is keyed by image and sample, so a sample is the same alone and in any batch.

    Args:
        method: A trained method.
        low: The low image with shape (1, 1, H, W), normalised, on the device of the method.
        image: Identity of the image.
        samples: Numbers of the samples, from 0; a deterministic method makes only the first.
        seed: Seed of the noise.
        apply: How networks are applied.
        batch: Samples that are computed together; by default as many as fit into a million pixels.
        margin: Reflected pixels on all sides, fewer than the shorter side has.
        tta: Whether each sample sees the image in another orientation; for methods trained on augmented images.

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
        for restored in _together(method, canvas, image, samples[first : first + batch], seed, apply, tta):
            yield restored[inside]


def _together(
    method: Method, canvas: Tensor, image: str, samples: Sequence[int], seed: int, apply: Apply, tta: bool
) -> list[Tensor]:
    """Returns samples that are computed together, those whose canvases have the same shape in one batch."""
    which = [ORIENTATIONS[sample % len(ORIENTATIONS)] if tta else 0 for sample in samples]
    made: dict[int, Tensor] = {}
    for odd in (0, 1):
        rows = [row for row, symmetry in enumerate(which) if symmetry % 2 == odd]
        if not rows:
            continue
        turns = [which[row] for row in rows]
        noise = KeyedNoise(seed, [image] * len(rows), [samples[row] for row in rows]).oriented(turns)
        # Samples of an unturned image share its memory, which tells a method to compute what they share only once.
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
