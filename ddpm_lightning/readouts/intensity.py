"""Intensities: of regions, of whole planes, and how they vary (texture)."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Count

__all__ = ["profile", "regions", "texture"]

#: Grey levels of the co-occurrence matrix.
LEVELS = 32


def profile(image: np.ndarray, pixel_size: float = 1.0) -> dict[str, float]:
    """Returns the mean intensity of a plane; over the planes of a stack, this is its profile along depth or time.

    Returns:
        ``intensity``, in units of the image.
    """
    del pixel_size
    return {"intensity": float(image.mean(dtype=np.float64))}


def regions(image: np.ndarray, pixel_size: float = 1.0, *, labels: Path | np.ndarray) -> dict[str, float]:
    """Returns the mean intensity of each region.

    Args:
        image: Image with shape (H, W).
        pixel_size: Of no importance.
        labels: Label image with the same shape, or its file: 0 is background, and each other integer a region.

    Returns:
        ``region_1`` and so on, by label, in units of the image.

    Raises:
        UserError: If the label image does not match the image.
    """
    del pixel_size
    found = _read(labels)
    if found.shape != image.shape or found.dtype.kind not in "biu":
        raise UserError(
            "readout=regions",
            f"has labels of shape {found.shape} and type {found.dtype}",
            allowed=f"integers with the shape of the image, {image.shape}",
        )
    numbers = np.unique(found[found != 0])
    means = ndimage.mean(image.astype(np.float64), found, numbers)
    return {
        f"region_{number}": float(mean) for number, mean in zip(numbers, np.atleast_1d(means), strict=True)
    }


def _read(labels: Path | str | np.ndarray) -> np.ndarray:
    if isinstance(labels, np.ndarray):
        return labels
    from skimage.io import imread  # imported here because it is slow to load

    try:
        return np.squeeze(imread(labels))
    except Exception as error:  # whatever the reader of a damaged file raises
        raise UserError(labels, f"cannot be read as a label image: {error}") from error


def texture(image: np.ndarray, pixel_size: float = 1.0, *, distance: Count = 1) -> dict[str, float]:
    """Describes the texture of an image by its grey-level co-occurrence matrix (Haralick et al., 1973).

    The intensities from the 1st to the 99th percentile are divided into 32 levels, so gain and offset are of no
    importance. All numbers are means over four directions, and have no unit.

    Args:
        image: Image with shape (H, W).
        pixel_size: Of no importance.
        distance: Distance of the pixels that are compared, in pixels.

    Returns:
        ``contrast``, the mean squared difference of their levels; ``homogeneity``, from 0 to 1; and ``correlation``,
        from -1 to 1. NaN for a constant image.
    """
    del pixel_size
    from skimage.feature import graycomatrix, graycoprops  # imported here because it is slow to load

    names = ("contrast", "homogeneity", "correlation")
    low, high = np.percentile(image, (1, 99))
    if high <= low:
        return dict.fromkeys(names, float("nan"))
    levels = np.clip((image - low) / (high - low) * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    matrix = graycomatrix(levels, [distance], angles, levels=LEVELS, symmetric=True, normed=True)
    return {name: float(graycoprops(matrix, name).mean()) for name in names}
