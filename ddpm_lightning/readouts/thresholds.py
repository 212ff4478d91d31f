"""The brightness above which something counts."""

import numpy as np

__all__ = ["level_of"]


def level_of(image: np.ndarray, threshold: float) -> float:
    """Returns a level between the background of an image and Otsu's threshold.

    It changes with gain and offset as the image does.

    Args:
        image: Image with shape (H, W), in any unit.
        threshold: Height between background (5th percentile) and Otsu's threshold: 1 for the latter.

    Returns:
        The level, in units of the image; infinity for a constant image, in which nothing is brighter than the rest.
    """
    from skimage.filters import threshold_otsu  # imported here because it is slow to load

    if np.ptp(image) == 0:
        return float("inf")
    dark = float(np.percentile(image, 5))
    return dark + threshold * (float(threshold_otsu(image)) - dark)
