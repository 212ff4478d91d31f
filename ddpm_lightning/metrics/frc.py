r"""Fourier ring correlation: up to which frequency do two images of one object agree?

With Fourier transforms :math:`F_1, F_2` on rings of one pixel width in the Fourier plane,

.. math:: \mathrm{FRC}(q) = \frac{\mathrm{Re} \sum_q F_1 F_2^*}{\sqrt{\sum_q |F_1|^2 \sum_q |F_2|^2}}

The resolution is :math:`p / q_c` with the pixel size :math:`p` and the frequency :math:`q_c` (cycles per
pixel) where the smoothed curve falls below a threshold: the constant 1/7, or the correlation expected of a
signal-to-noise ratio (half-bit, one-bit) on a ring of :math:`n` pixels.

What FRC measures depends on which two images are compared:

* :func:`frc_resolution`: two independent noisy images of one object, the resolution of the acquisition;
* :func:`frc_against_target`: a restoration and the noise-free target, the highest frequency at which the restoration is
  faithful;
* :func:`frc_one_image`: sub-images of one raw image with noise independent from pixel to pixel. Applied to the output
  of a network, it measures only smoothness;
* :func:`frc_binomial`: two halves of the photons of one image, exact for photon counts.

Between two samples of a diffusion model it measures agreement, not truth: shared hallucinations correlate.

References:
    Measuring image resolution in optical nanoscopy (Nieuwenhuizen et al., 2013),
    https://doi.org/10.1038/nmeth.2448 Fourier shell correlation threshold criteria (van Heel and Schatz,
    2005), https://doi.org/10.1016/j.jsb.2005.05.009 Fourier ring correlation simplifies image restoration in
    fluorescence microscopy (Koho et al., 2019), https://doi.org/10.1038/s41467-019-11024-z
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import windows

Threshold = Literal["1/7", "half-bit", "one-bit"]
Window = Literal["tukey", "hann", "hamming", "none"]

SMALLEST_SIDE = 32
SKIPPED_RINGS = 3
SMOOTHED_RINGS = 3


@dataclass(frozen=True)
class RingCorrelation:
    """Correlation by spatial frequency.

    Attributes:
        frequency: Frequency of each ring with shape (K,), in cycles per pixel, from 0 up to 0.5.
        correlation: Correlation on each ring with shape (K,), in [-1, 1], not smoothed.
        pixels: Number of Fourier pixels of each ring with shape (K,), both halves of the plane counted.
    """

    frequency: np.ndarray
    correlation: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True)
class FrcResolution:
    """Where the correlation falls below its threshold.

    Attributes:
        resolution: Period of the crossing in the unit of the pixel size; NaN where the curve starts below.
        cutoff: Frequency of the crossing in cycles per pixel; NaN where the curve starts below.
        at_nyquist: Whether the curve never falls below: the resolution is then two pixels, a bound and no
            estimate.
        curve: The correlation that was compared with the threshold.
        smoothed: Running mean of the correlation over three rings with shape (K,).
        threshold: Threshold at each ring with shape (K,).
    """

    resolution: float
    cutoff: float
    at_nyquist: bool
    curve: RingCorrelation
    smoothed: np.ndarray
    threshold: np.ndarray


def fourier_ring_correlation(
    first: np.ndarray, second: np.ndarray, *, window: Window = "tukey"
) -> RingCorrelation:
    """Returns the correlation of two images by spatial frequency, on their central square.

    Args:
        first: Image with shape (H, W), at least 32 pixels in height and width, in any unit.
        second: Image with the same shape, in any unit.
        window: Fade to the mean at the borders: ``tukey`` (an eighth of the side on each), ``hann``,
            ``hamming`` (the root of it along each axis) or ``none``.
    """
    if first.shape != second.shape or first.ndim != 2 or min(first.shape) < SMALLEST_SIDE:
        raise ValueError(
            f"needs two images of one size of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} px, "
            f"got {first.shape} and {second.shape}"
        )
    taper = _taper(min(first.shape), window)
    transforms = []
    for image in (first, second):
        square = _central_square(image.astype(np.float64))
        transforms.append(np.fft.fft2((square - square.mean()) * taper[:, None] * taper))
    side = len(taper)
    index = np.fft.fftfreq(side, 1 / side)
    ring = np.floor(np.hypot(index[:, None], index) + 0.5).astype(int).ravel()
    rings = side // 2 + 1

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(ring, values.ravel(), minlength=rings)[:rings]

    one, two = transforms
    power = total(np.abs(one) ** 2) * total(np.abs(two) ** 2)
    agreement = total((one * two.conj()).real)
    correlation = np.divide(agreement, np.sqrt(power), out=np.zeros(rings), where=power > 0)
    return RingCorrelation(np.arange(rings) / side, correlation, total(np.ones(ring.size)))


def threshold_curve(name: Threshold, pixels: np.ndarray) -> np.ndarray:
    """Returns the correlation that a ring must reach, with shape (K,).

    Args:
        name: ``1/7`` (constant), ``half-bit`` or ``one-bit`` (information per Fourier pixel).
        pixels: Number of Fourier pixels of each ring with shape (K,).
    """
    root = np.sqrt(np.maximum(pixels, 1))
    if name == "1/7":
        return np.full(len(pixels), 1 / 7)
    if name == "half-bit":
        return (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    if name == "one-bit":
        return (0.5 + 2.4142 / root) / (1.5 + 1.4142 / root)
    raise ValueError(f"unknown threshold {name!r}: choose 1/7, half-bit or one-bit")


def crossing(
    curve: RingCorrelation, *, threshold: Threshold = "1/7", pixel_size: float = 1.0
) -> FrcResolution:
    """Finds where a correlation first falls below its threshold, leaving out the three lowest rings.

    Args:
        curve: Correlation by spatial frequency.
        threshold: Name of the threshold.
        pixel_size: Size of a pixel in the unit that the resolution is wanted in; 1 for pixels.
    """
    smoothed = uniform_filter1d(curve.correlation, SMOOTHED_RINGS, mode="nearest")
    wanted = threshold_curve(threshold, curve.pixels)
    excess = (smoothed - wanted)[SKIPPED_RINGS:]
    below = np.flatnonzero(excess < 0)
    if not len(below):
        return FrcResolution(2 * pixel_size, 0.5, True, curve, smoothed, wanted)
    if below[0] == 0:
        return FrcResolution(np.nan, np.nan, False, curve, smoothed, wanted)
    last = below[0] - 1
    part = excess[last] / (excess[last] - excess[last + 1])
    low, high = curve.frequency[SKIPPED_RINGS + last], curve.frequency[SKIPPED_RINGS + last + 1]
    cutoff = float(low + part * (high - low))
    return FrcResolution(pixel_size / cutoff, cutoff, False, curve, smoothed, wanted)


def frc_resolution(
    first: np.ndarray, second: np.ndarray, *, threshold: Threshold = "1/7", pixel_size: float = 1.0
) -> FrcResolution:
    """Estimates the resolution from two images of one object with independent noise.

    Args:
        first: Image with shape (H, W), in any unit.
        second: Image with the same shape, in any unit.
        threshold: ``1/7``, ``half-bit`` or ``one-bit``.
        pixel_size: Size of a pixel in the unit that the resolution is wanted in; 1 for pixels.
    """
    return crossing(fourier_ring_correlation(first, second), threshold=threshold, pixel_size=pixel_size)


def frc_against_target(
    prediction: np.ndarray, target: np.ndarray, *, threshold: Threshold = "1/7", pixel_size: float = 1.0
) -> FrcResolution:
    """Estimates the period down to which a restoration agrees with its target.

    With a noisy target the band is underestimated: its noise does not correlate.

    Args:
        prediction: Restored image with shape (H, W), in any unit.
        target: Clean image with the same shape, in any unit.
        threshold: ``1/7``, ``half-bit`` or ``one-bit``.
        pixel_size: Size of a pixel in the unit that the resolution is wanted in; 1 for pixels.
    """
    return frc_resolution(prediction, target, threshold=threshold, pixel_size=pixel_size)


def frc_one_image(image: np.ndarray, *, pixel_size: float = 1.0) -> FrcResolution:
    r"""Estimates the resolution of one raw image from its checkerboard of sub-images, with the threshold 1/7.

    Two pairs of sub-images of half the size (odd rows and odd columns with even and even; odd and even with
    even and odd) give two curves that are averaged. The pairs are displaced by a diagonal pixel, for which
    the calibration of the authors corrects: with the crossing :math:`\rho` relative to the Nyquist frequency,

    .. math::
        \frac{2 p}{\rho\, c(\rho)}, \quad
        c(\rho) = 0.95988146\, e^{13.90441896 (\rho - 0.97979108)} + 0.55146136

    It needs noise that is independent from pixel to pixel, and some oversampling.

    Args:
        image: Raw image with shape (H, W), at least 64 pixels in height and width, in any unit.
        pixel_size: Size of a pixel in the unit that the resolution is wanted in; 1 for pixels.
    """
    if image.ndim != 2 or min(image.shape) < 2 * SMALLEST_SIDE:
        raise ValueError(
            f"needs an image of at least {2 * SMALLEST_SIDE} px in height and width, got {image.shape}"
        )
    square = _central_square(image.astype(np.float64))
    square = square[: len(square) // 2 * 2, : len(square) // 2 * 2]
    taper = _taper(len(square), "hamming")
    faded = (square - square.mean()) * taper[:, None] * taper
    pairs = (faded[1::2, 1::2], faded[::2, ::2]), (faded[1::2, ::2], faded[::2, 1::2])
    one, two = (fourier_ring_correlation(*pair, window="none") for pair in pairs)
    curve = RingCorrelation(one.frequency, (one.correlation + two.correlation) / 2, one.pixels)
    found = crossing(curve)
    rho = 2 * found.cutoff
    correction = 0.95988146 * np.exp(13.90441896 * (rho - 0.97979108)) + 0.55146136
    resolution = float(2 * pixel_size / rho / correction)
    return FrcResolution(resolution, found.cutoff, found.at_nyquist, curve, found.smoothed, found.threshold)


def binomial_split(counts: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns two images of independent Poisson noise whose sum is the given one.

    Args:
        counts: Photon counts with shape (H, W): whole numbers, not negative.
        seed: Seed of the split.
    """
    if (counts < 0).any() or (counts != np.round(counts)).any():
        raise ValueError("a binomial split needs photon counts: whole numbers that are not negative")
    half = np.random.default_rng(seed).binomial(counts.astype(np.int64), 0.5)
    return half, counts.astype(np.int64) - half


def frc_binomial(
    counts: np.ndarray, *, threshold: Threshold = "1/7", pixel_size: float = 1.0, seed: int = 0
) -> FrcResolution:
    """Estimates the resolution of one image of photon counts from two halves of its photons.

    Args:
        counts: Photon counts with shape (H, W).
        threshold: ``1/7``, ``half-bit`` or ``one-bit``.
        pixel_size: Size of a pixel in the unit that the resolution is wanted in; 1 for pixels.
        seed: Seed of the split.
    """
    return frc_resolution(*binomial_split(counts, seed=seed), threshold=threshold, pixel_size=pixel_size)


def _taper(side: int, window: Window) -> np.ndarray:
    if window == "hamming":
        return np.sqrt(windows.hamming(side))
    tapers = {"tukey": windows.tukey(side, 0.25), "hann": windows.hann(side), "none": np.ones(side)}
    if window not in tapers:
        raise ValueError(f"unknown window {window!r}: choose tukey, hann, hamming or none")
    return tapers[window]


def _central_square(image: np.ndarray) -> np.ndarray:
    side = min(image.shape)
    top, left = ((length - side) // 2 for length in image.shape)
    return image[top : top + side, left : left + side]
