r"""Four reasons why the noise of neighbouring pixels correlates, each with a strength that gives a wanted correlation.

``Gaussian filter``
    The noise is filtered, the structure is not.
``drift correction``
    Image and noise are shifted by a fraction of a pixel with linear interpolation; beyond half a pixel, which gives a
    correlation of 0.5, a second shift follows.
``zoom``
    Image and noise are reduced or enlarged with linear interpolation.
``colour mosaic``
    Image and noise are recorded through a Bayer pattern and interpolated: the green image has a correlation of 0.4, the
    red one of 2/3; values between come from mixing them with each other, or the green one with the recorded pixels.

The strength for a correlation :math:`\rho` is found on independent noise. All operations are linear, and the noise is
scaled to its former standard deviation: what is compared are images with equally strong noise. (An interpolated image
of the same specimen has weaker noise, so the scaled one corresponds to a recording with less light.) They are written
for this test, and share nothing with those that models are trained on.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import ndimage, optimize

__all__ = ["MECHANISMS", "correlation", "degraded"]

_FIELD = 384
_CROSS = np.array([[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]])
_TENT = np.array([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]])
Operation = Callable[[np.ndarray, float], np.ndarray]


def _filtered(image: np.ndarray, strength: float) -> np.ndarray:
    return ndimage.gaussian_filter(image, strength, mode="wrap")


def _shifted(image: np.ndarray, strength: float) -> np.ndarray:
    once = ndimage.shift(image, min(strength, 0.5), order=1, mode="nearest")
    return ndimage.shift(once, strength - 0.5, order=1, mode="nearest") if strength > 0.5 else once


def _zoomed(image: np.ndarray, strength: float) -> np.ndarray:
    return np.asarray(ndimage.zoom(image, 0.6 + 2 * strength, order=1, mode="nearest", grid_mode=True))


def _mosaic(image: np.ndarray, strength: float) -> np.ndarray:
    rows, columns = np.indices(image.shape)
    green = ndimage.correlate(image * ((rows + columns) % 2), _CROSS, mode="mirror")
    if strength <= 0.5:
        return image + 2 * strength * (green - image)
    red = ndimage.correlate(image * ((rows % 2 == 0) & (columns % 2 == 0)), _TENT, mode="mirror")
    return green + (2 * strength - 1) * (red - green)


MECHANISMS: dict[str, Operation] = {
    "Gaussian filter": _filtered,
    "drift correction": _shifted,
    "zoom": _zoomed,
    "colour mosaic": _mosaic,
}


def correlation(noise: np.ndarray) -> float:
    """Returns the correlation of neighbours, mean over both directions, for noise (H, W) with mean 0."""
    pairs = [(noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])]
    return float(np.mean([(one * other).mean() for one, other in pairs]) / noise.var())


def degraded(
    mechanism: str, wanted: float, expected: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Makes noise correlate.

    Args:
        mechanism: One of :data:`MECHANISMS`.
        wanted: Correlation of neighbours, 0 to 0.65; 0 changes nothing.
        expected: Image without noise, with shape (H, W).
        noise: Its independent noise with the same shape.

    Returns:
        The noisy image and its expectation; a zoom changes their size.
    """
    if wanted == 0:
        return expected + noise, expected
    strength, deviation = _strength(mechanism, wanted)
    operation = MECHANISMS[mechanism]
    noise = operation(noise, strength) / deviation
    expected = expected if operation is _filtered else operation(expected, strength)
    return expected + noise, expected


@cache
def _strength(mechanism: str, wanted: float) -> tuple[float, float]:
    """Returns the strength that gives a correlation, and the standard deviation that it leaves of 1."""
    white, operation = np.random.default_rng(0).normal(size=(_FIELD, _FIELD)), MECHANISMS[mechanism]

    def excess(strength: float) -> float:
        return correlation(operation(white, strength)) - wanted

    found = optimize.root_scalar(excess, bracket=(0.01, 1), xtol=1e-3).root
    return found, float(operation(white, found).std())
