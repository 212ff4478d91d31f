"""Square regions of images, and their means."""

import numpy as np

__all__ = ["means", "tiles"]


def tiles(image: np.ndarray, side: int) -> np.ndarray:
    """Returns the whole squares of an image, row by row, with shape (N, side, side), without a remainder at the border.

    Args:
        image: Image with shape (H, W).
        side: Side of the squares in pixels.
    """
    rows, columns = (size // side for size in image.shape)
    whole = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return whole.swapaxes(1, 2).reshape(-1, side, side)


def means(image: np.ndarray, side: int) -> np.ndarray:
    """Returns the mean of each of these squares, with shape (N,)."""
    return tiles(image, side).mean(axis=(1, 2), dtype=np.float64)
