"""Puncta: maxima of the negative Laplacian of a Gaussian; and nuclei, which are searched for beside brighter walls."""

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from ddpm_lightning.utils.settings import NonNegative, Positive

__all__ = ["blobs", "nearest_neighbour", "nuclei", "puncta", "spots"]

#: Scale of a punctum in pixels.
WIDTH = 1.2
#: Least strength of a punctum, as a fraction of the percentile ``STRONG`` of the strengths of all pixels.
THRESHOLD, STRONG = 0.3, 99.5
#: Radius in pixels of what is thin, and scale on which noise is smoothed first.
THIN, SMOOTHING = 4, 1.5
#: Scale of the surroundings of a nucleus, in those of the nucleus.
AROUND = 2.5


def spots(
    image: np.ndarray,
    width: float = WIDTH,
    threshold: float = THRESHOLD,
    level: float | None = None,
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """Finds spots.

    Args:
        image: Image with shape (H, W).
        width: Scale of the Gaussian in pixels.
        threshold: Least strength of a spot, as a fraction of the 99.5th percentile of the strengths of all pixels.
        level: This strength itself, in units of the image; it takes precedence.
        reference: Image that ``threshold`` is taken from; by default the image itself.

    Returns:
        Places with shape (N, 2), as (row, column).
    """
    from skimage.feature import peak_local_max  # imported here because it is slow to load

    strength = _strength(image, width)
    if level is None:
        seen = strength if reference is None else _strength(reference, width)
        level = threshold * float(np.percentile(seen, STRONG))
    return peak_local_max(strength, min_distance=1, threshold_abs=level, exclude_border=False).astype(float)


def _strength(image: np.ndarray, width: float) -> np.ndarray:
    return -ndimage.gaussian_laplace(image.astype(np.float64), width)


def nearest_neighbour(places: np.ndarray) -> float:
    """Returns the mean distance from each place to the nearest other one, NaN for fewer than two places.

    Args:
        places: Places with shape (N, 2).
    """
    if len(places) < 2:
        return float("nan")
    return float(KDTree(places).query(places, k=2)[0][:, 1].mean())


def puncta(
    image: np.ndarray,
    pixel_size: float = 1.0,
    *,
    width: Positive = WIDTH,
    threshold: NonNegative = THRESHOLD,
    level: float | None = None,
    reference: np.ndarray | None = None,
) -> dict[str, float]:
    """Counts puncta and measures their distances; for the arguments see :func:`spots`.

    Returns:
        ``puncta``, their number, and ``nearest_distance``, the mean distance from each to the nearest other one, NaN
        for fewer than two, in units of ``pixel_size``.
    """
    found = spots(image, width, threshold, level, reference)
    return {"puncta": len(found), "nearest_distance": nearest_neighbour(found) * pixel_size}


def blobs(image: np.ndarray, width: float = 6.0, walls: float = 0.5, threshold: float = 0.03) -> np.ndarray:
    """Finds nuclei beside brighter membranes: thin structures are removed, and blobs are searched for in the rest.

    Args:
        image: Image with shape (H, W).
        width: Scale of a nucleus in pixels, about half of its radius.
        walls: Height from which what is thin is a wall, in units of Otsu's threshold of these heights.
        threshold: Least brightness of a nucleus above its surroundings, as a fraction of the contrast of the image.

    Returns:
        Places with shape (N, 2), as (row, column).
    """
    from skimage.feature import peak_local_max  # imported here because they are slow to load
    from skimage.filters import threshold_otsu
    from skimage.morphology import disk, opening

    smooth = ndimage.gaussian_filter(image.astype(np.float64), SMOOTHING)
    dark, bright = np.percentile(smooth, (2, 98))
    if bright <= dark:
        return np.empty((0, 2))
    thick = opening(smooth, disk(THIN))
    thin = smooth - thick
    kept = np.logical_not(ndimage.binary_dilation(thin > walls * threshold_otsu(thin), iterations=2))

    def mean(scale: float) -> np.ndarray:
        # Without walls: otherwise each would darken the cells beside it.
        weight = ndimage.gaussian_filter(kept.astype(np.float64), scale)
        return ndimage.gaussian_filter(thick * kept, scale) / np.maximum(weight, 1e-3)

    above = np.where(kept, mean(width) - mean(AROUND * width), 0.0)
    least, distance = threshold * (bright - dark), int(1.2 * width)
    found = peak_local_max(above, min_distance=distance, threshold_abs=least, exclude_border=False)
    return found.astype(float)


def nuclei(
    image: np.ndarray,
    pixel_size: float = 1.0,
    *,
    width: Positive = 6.0,
    walls: NonNegative = 0.5,
    threshold: NonNegative = 0.03,
) -> dict[str, float]:
    """Counts nuclei beside brighter membranes; for the arguments see :func:`blobs`.

    Returns:
        ``nuclei``: their number.
    """
    del pixel_size
    return {"nuclei": len(blobs(image, width, walls, threshold))}
