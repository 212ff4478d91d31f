"""Filters of 3 x 3 pixels that cameras and acquisition software apply unasked."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ddpm_lightning.simulation.degradations.base import Shared, require

_SMOOTHING = 9


@dataclass(frozen=True)
class CameraFilter(Shared):
    """The mean or the median of each pixel and its eight neighbours.

    The mean leaves 1/9 of the variance of independent noise, and correlations of 2/3 along rows and columns. The median
    is not linear; what it does to an image without noise is the expectation only where the noise is weak: see
    :func:`expected_median`.

    Attributes:
        kind: ``mean`` or ``median``.
    """

    kind: str = "mean"

    def __post_init__(self) -> None:
        require(self.kind in ("mean", "median"), "filter", self.kind, "mean or median")

    def expected(self, image: np.ndarray) -> np.ndarray:
        """Filters the image; its border is reflected."""
        image = image.astype(np.float32)
        return ndimage.median_filter(image, 3) if self.kind == "median" else ndimage.uniform_filter(image, 3)


def expected_median(clean: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """Estimates the expectation of the 3 x 3 median of a noisy image.

    Where the noise is weak compared with the differences of the nine expected values, it is their median. Where it is
    strong, every pixel is equally likely to be the middle one, so it is their mean. In between, the two are weighted by
    the variances, which agrees with simulation better than either.

    Args:
        clean: Expectation of the noisy image with shape (H, W), float32.
        noisy: Noisy image with shape (H, W), from which the variance of its noise is estimated.

    Returns:
        Image with shape (H, W), float32.
    """
    noise = ndimage.uniform_filter((noisy - clean) ** 2, _SMOOTHING)
    median, mean = ndimage.median_filter(clean, 3), ndimage.uniform_filter(clean, 3)
    structure = np.maximum(ndimage.uniform_filter(clean**2, 3) - mean**2, 0)
    weight = noise / np.maximum(noise + structure, 1e-12)
    return median + weight * (mean - median)
