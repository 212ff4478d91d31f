"""Control: what a model makes of an image without any structure.

Two images are made from the noise of a plane (:mod:`ddpm_lightning.metrics.noise_model`): ``noise``, at its darkest
intensity everywhere, and ``background``, on a smooth copy of its background. They are restored as the plane was, with
its scale of intensities, and measured by the same readouts, with relative thresholds taken from the restored plane.
Whatever is found there is invented.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ddpm_lightning.metrics.noise_model import NoiseModel, fit_noise
from ddpm_lightning.readouts.readout import Readout, find_readouts, measure

__all__ = ["DEFAULT", "control", "inventions", "structureless"]

#: What is measured if nothing else is requested.
DEFAULT = ("count", "puncta", "filament_length")
#: Percentile of the restored plane that is its darkest intensity.
DARK = 5
#: Size in pixels of what is background: all that is wider.
WIDE = 32
#: Share of what is found in the restored plane above which a control gives a warning.
MOST_INVENTED = 0.05


def structureless(low: np.ndarray, restored: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns images that contain noise only, by name, in units of the plane; none if its noise cannot be measured.

    Args:
        low: The plane with shape (H, W).
        restored: Its restoration.
        rng: Source of the noise.
    """
    from scipy import ndimage  # imported here because it is slow to load

    noise = fit_noise(low, restored)
    if noise is None:
        return {}
    image = restored.astype(np.float64)
    background = ndimage.gaussian_filter(
        ndimage.percentile_filter(image[::4, ::4], DARK, WIDE // 4), WIDE / 8
    )
    wide = ndimage.zoom(background, 4, order=1, mode="nearest", grid_mode=True)
    dark = np.percentile(image, DARK)
    images = {"noise": np.full(low.shape, dark), "background": wide[: low.shape[0], : low.shape[1]]}
    # Structure in all bright blocks makes the curve too steep, and the variance in the dark too small.
    least = float(np.var((low - image)[image <= np.percentile(image, 4 * DARK)]))
    return {
        name: expected
        + np.sqrt(np.maximum(noise.variance(expected), least)) * _unit_noise(noise, low.shape, rng)
        for name, expected in images.items()
    }


def _unit_noise(noise: NoiseModel, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Returns noise of variance 1 that correlates as that of the image does, if this could be measured."""
    white = rng.standard_normal(shape)
    if not noise.measurable:
        return white
    covariance = np.zeros(shape)
    for down, right in np.ndindex(3, 3):
        for y, x in {(down, right), (-down, right), (down, -right), (-down, -right)}:
            covariance[y, x] = noise.correlation[down, right]
    power = np.maximum(np.fft.fft2(covariance).real, 0)
    return np.fft.ifft2(np.fft.fft2(white) * np.sqrt(power / power.mean())).real


def control(
    restore: Callable[[np.ndarray], np.ndarray],
    low: np.ndarray,
    restored: np.ndarray,
    readouts: Sequence[Readout] = (),
    pixel_size: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Restores images without structure, and measures what is in them.

    Args:
        restore: Restores an image as the plane was restored.
        low: The plane with shape (H, W).
        restored: Its restoration.
        readouts: What is measured; by default :data:`DEFAULT`.
        pixel_size: Size of a pixel in µm, or ``None``.
        seed: Seed of the noise.

    Returns:
        Numbers in the ``restored`` plane, and in the restored ``noise`` and ``background``, by readout and number;
        without the latter two if the noise cannot be measured.
    """
    readouts = readouts or find_readouts(DEFAULT)
    images = structureless(low, restored, np.random.default_rng(seed))
    results = {"restored": restored, **{name: restore(image) for name, image in images.items()}}
    return {
        name: {
            readout.name: {number: value if np.isfinite(value) else None for number, value in numbers.items()}
            for readout, numbers in zip(readouts, measure(readouts, image, pixel_size, restored), strict=True)
        }
        for name, image in results.items()
    }


def inventions(found: dict[str, Any], readouts: Sequence[Readout] = ()) -> list[str]:
    """Returns a warning for each number that is found in images without structure.

    Args:
        found: Result of :func:`control`.
        readouts: What was measured.
    """
    lines = []
    for readout in readouts or find_readouts(DEFAULT):
        for number, value in found["restored"][readout.name].items():
            if not readout.quantity(number).found:
                continue
            for name in ("noise", "background"):
                invented = found.get(name, {}).get(readout.name, {}).get(number) or 0.0
                if invented > MOST_INVENTED * (value or 0.0):
                    what = {"noise": "noise alone", "background": "the background with noise"}[name]
                    lines.append(
                        f"invented: {number} {invented:.3g} in a restored image of {what} "
                        f"({value or 0.0:.3g} in the restored image itself)"
                    )
    return lines
