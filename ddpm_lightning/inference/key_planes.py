r"""Noise that changes along a stack as fast as its content does.

If the samples of neighbouring planes have independent noise, a sample of a stack flickers: what one plane adds, the
next does not. If all planes have the same noise, a sample of a deep stack has the same errors from top to bottom. Here
noise follows the content. A *key plane* is the first plane, or one whose content correlates by less than
:data:`LEAST_CORRELATION` with that of the key plane before. A plane whose content correlates by r with the last key
plane has the noise

.. math:: z = r z_{key} + \sqrt{1 - r^2} z_{next key}.

A movie of something that does not move thus has the same noise in all frames, and unrelated planes have independent
noise.

The correlation is that of details of a few pixels: images are filtered by a difference of two Gaussians, and the
variance that white noise has after this filter is subtracted. Its standard error due to noise is added, because samples
should not flicker only because the images are noisy.
"""

from bisect import bisect_right
from math import pi, sqrt
from typing import NamedTuple

import numpy as np

from ddpm_lightning.data.normalise import without_offset
from ddpm_lightning.inference.distribution_shift import central_part

__all__ = ["Details", "KeyPlanes", "correlation", "details_of"]

#: Correlation with the last key plane below which a plane becomes the next one.
LEAST_CORRELATION = 0.5
#: Standard errors of the variance of noise by which details must exceed it.
SIGNIFICANT = 3.0
#: Standard deviations in pixels of the two Gaussians.
FINE, COARSE = 2.0, 8.0
#: Variance of white noise after the filter, as a fraction of its variance before.
NOISE_PASSED = 1 / (4 * pi * FINE**2) + 1 / (4 * pi * COARSE**2) - 1 / (pi * (FINE**2 + COARSE**2))


class Details(NamedTuple):
    """Details of a plane.

    Attributes:
        image: The filtered plane with shape (H, W), with a mean of 0.
        total: Its variance.
        variance: Its variance without that of the noise.
    """

    image: np.ndarray
    total: float
    variance: float

    @property
    def independent(self) -> float:
        """Number of independent values of filtered noise."""
        return self.image.size / (2 * pi * FINE**2)

    @property
    def visible(self) -> bool:
        """Whether there is more than noise."""
        return self.variance > SIGNIFICANT * self.total * sqrt(2 / self.independent)


def details_of(plane: np.ndarray) -> Details:
    """Returns the details of a plane with shape (H, W); of a large one, those of its centre."""
    from scipy.ndimage import gaussian_filter  # imported here because it is slow to load

    plane, _ = without_offset(central_part(plane))
    image = gaussian_filter(plane, FINE, mode="reflect") - gaussian_filter(plane, COARSE, mode="reflect")
    image -= image.mean()
    # Not a robust estimate: noise of bright structures counts, and what they add to it is little.
    diagonal = plane[1:, 1:] - plane[1:, :-1] - plane[:-1, 1:] + plane[:-1, :-1]
    noise = np.square(diagonal, dtype=np.float64).mean() / 4
    total = float(np.square(image, dtype=np.float64).mean())
    return Details(image, total, total - NOISE_PASSED * float(noise))


def correlation(first: Details, second: Details) -> float:
    """Returns the correlation of the details of two planes without their noise, in [0, 1]; 1 if none are visible."""
    if not (first.visible and second.visible):
        return 1.0
    variance = first.variance * second.variance
    covariance = np.multiply(first.image, second.image, dtype=np.float64).mean()
    error = sqrt(max(first.total * second.total - variance, 0) / first.independent)
    return float(np.clip((covariance + error) / sqrt(variance), 0, 1))


class KeyPlanes:
    """Finds the key planes along an axis; the details of one plane are kept.

    Attributes:
        found: For each plane, the place of its key plane, and the correlation with it.
    """

    def __init__(self) -> None:
        self.found: list[tuple[int, float]] = []
        self._key: Details | None = None

    def add(self, details: Details | None) -> None:
        """Adds the next plane; ``None`` is a plane without content, which is treated as the one before."""
        place, similarity = self.found[-1] if self.found else (0, 1.0)
        if details is not None:
            similarity = 0.0 if self._key is None else correlation(self._key, details)
            if similarity < LEAST_CORRELATION:
                place, similarity, self._key = len(self.found), 1.0, details
        self.found.append((place, similarity))

    @property
    def count(self) -> int:
        """Number of key planes."""
        return len({place for place, _ in self.found})

    def weights(self, place: int) -> dict[int, float]:
        """Returns the key planes that a plane's noise is made of, by their places, with the weights of their noise."""
        key, similarity = self.found[place]
        if similarity == 1:
            return {key: 1.0}
        # The places of key planes never decrease, and each key plane is its own.
        after = bisect_right(self.found, key, key=lambda one: one[0])
        return {key: similarity, after: sqrt(1 - similarity**2)}
