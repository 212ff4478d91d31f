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
of the same specimen has weaker noise, so the scaled one corresponds to a recording with less light.)
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import ndimage, optimize

from ddpm_lightning.simulation.degradations.mosaic import ColourMosaic
from ddpm_lightning.simulation.degradations.resampling import DriftCorrection, resized

__all__ = ["MECHANISMS", "correlation", "degraded"]

_FIELD = 384
Operation = Callable[[np.ndarray, float], np.ndarray]


def _filtered(image: np.ndarray, strength: float) -> np.ndarray:
    return ndimage.gaussian_filter(image, strength, mode="wrap")


def _shifted(image: np.ndarray, strength: float) -> np.ndarray:
    for shift in (min(strength, 0.5), strength - 0.5):
        image = DriftCorrection((shift, shift)).expected(image) if shift > 0 else image
    return image


def _zoomed(image: np.ndarray, strength: float) -> np.ndarray:
    side = round((0.6 + 2 * strength) * len(image))
    return resized(image, (side, side), "linear", smooth=False)


def _mosaic(image: np.ndarray, strength: float) -> np.ndarray:
    green = ColourMosaic("green").expected(image)
    if strength <= 0.5:
        return image + 2 * strength * (green - image)
    return green + (2 * strength - 1) * (ColourMosaic("red").expected(image) - green)


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
