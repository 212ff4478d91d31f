"""Connected pieces of a mask."""

from typing import Any

import numpy as np
from scipy import ndimage

__all__ = ["AROUND", "label", "without_specks"]

#: All eight neighbours of a pixel, and itself.
AROUND = np.ones((3, 3), bool)


def label(mask: np.ndarray, connected: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Numbers the pieces of a mask.

    Args:
        mask: Mask with shape (H, W).
        connected: Which neighbours are connected, with shape (3, 3); by default those that share an edge.

    Returns:
        The number of each pixel from 1, with shape (H, W), 0 outside of the mask; and the number of pieces.
    """
    found: Any = ndimage.label(mask, connected)  # what scipy declares is far wider
    return found


def without_specks(mask: np.ndarray, smallest: int, connected: np.ndarray | None = None) -> np.ndarray:
    """Returns a mask with shape (H, W) without its pieces of fewer pixels."""
    numbers, _ = label(mask, connected)
    large = np.bincount(numbers.ravel()) >= smallest
    large[0] = False
    return large[numbers]
