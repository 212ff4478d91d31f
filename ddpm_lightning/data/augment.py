"""Augmentation: the eight symmetries of the square, the same for both images of a pair; blur of the noisy image."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from ddpm_lightning.utils.settings import Positive, UnitInterval

__all__ = ["SYMMETRIES", "Blur", "symmetry"]

#: Number of symmetries of the square.
SYMMETRIES = 8


def symmetry(image: np.ndarray, which: int) -> np.ndarray:
    """Returns a flipped and rotated view of an image.

    Args:
        image: Array with shape (…, H, W); odd numbers swap its sides.
        which: 0 (the image itself) to 7; from 4 on, the image is flipped first.
    """
    if which >= 4:
        image = image[..., ::-1]
    if which % 2:
        image = image.swapaxes(-2, -1)[..., ::-1, :]  # a rotation by 90°, ten times faster than numpy.rot90
    return image[..., ::-1, ::-1] if which % 4 >= 2 else image


@dataclass(frozen=True)
class Blur:
    """Blurs an image with some probability, as the paper does (arXiv 2409.12078).

    Attributes:
        probability: Probability of blurring.
        sigma: Standard deviation of the Gaussian filter in pixels.
    """

    probability: UnitInterval = 0.5
    sigma: Positive = 3.0

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> None:
        """Blurs an image with shape (H, W) in place, or leaves it as it is."""
        if rng.random() < self.probability:
            gaussian_filter(image, self.sigma, output=image)
