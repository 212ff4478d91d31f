"""What all degradations have in common."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np


class Degradation(Protocol):
    """Degrades an image, as an imperfect microscope does."""

    stage: ClassVar[str]

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Degrades an image with shape (H, W)."""
        ...


def degrade(
    image: np.ndarray, degradations: Sequence[Degradation], rng: np.random.Generator, stage: str | None = None
) -> np.ndarray:
    """Applies degradations in order: those of one stage, or all.

    Args:
        image: Expected photons or recorded values with shape (H, W).
        degradations: The degradations.
        rng: Source of randomness.
        stage: ``photons``, ``image``, or ``None`` for both.
    """
    for degradation in degradations:
        if stage is None or degradation.stage == stage:
            image = degradation(image, rng)
    return image


class Shared:
    """Base of degradations that both images of a pair share: they move, mix, scale or clip values and add no noise.

    The clean image of a pair is the expectation of the noisy one, so it undergoes the same operation: a network that
    learns from such pairs neither sharpens nor shifts anything.
    """

    stage: ClassVar[str] = "image"

    def expected(self, image: np.ndarray) -> np.ndarray:
        """Returns the operation on an image (H, W), which is its expectation if the image is one; float32."""
        raise NotImplementedError(f"{type(self).__name__} does not implement expected")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Applies the operation; the type stays."""
        return like(image, self.expected(image))


def expected(image: np.ndarray, degradations: Sequence[Degradation], stage: str | None = None) -> np.ndarray:
    """Applies to the clean image of a pair those degradations of the noisy image that both share.

    Args:
        image: Clean image with shape (H, W), or its expected photons.
        degradations: The degradations of the noisy image.
        stage: As for :func:`degrade`.

    Returns:
        Image with the same shape and type.
    """
    for degradation in degradations:
        if isinstance(degradation, Shared) and stage in (None, degradation.stage):
            image = like(image, degradation.expected(image))
    return image


def like(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Casts values to the type of an image; integers are rounded and clipped."""
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(image.dtype)


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Rejects a setting that is out of range."""
    if not condition:
        raise ValueError(f"{name} is {value}; it must be {allowed}")
