"""The eight symmetries of the square: quarter turns and flips of images."""

from torch import Tensor

__all__ = ["SYMMETRIES", "turn", "turn_back"]

#: Number of symmetries of the square.
SYMMETRIES = 8


def turn(images: Tensor, which: int) -> Tensor:
    """Returns images rotated by multiples of 90°; odd numbers swap their sides.

    Args:
        images: Tensor with shape (…, H, W).
        which: 0 (as they are) to 7; from 4 on they are mirrored first.
    """
    images = images.flip(-1) if which >= 4 else images
    return images.rot90(which % 4, (-2, -1)) if which % 4 else images


def turn_back(images: Tensor, which: int) -> Tensor:
    """Undoes :func:`turn`."""
    images = images.rot90(-(which % 4), (-2, -1)) if which % 4 else images
    return images.flip(-1) if which >= 4 else images
