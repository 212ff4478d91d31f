"""Power spectrum of each version of an image, and its agreement with the target at each spatial frequency."""

from dataclasses import dataclass

import numpy as np
import torch

from ddpm_lightning.metrics.frc import SMALLEST_SIDE, crossing, fourier_ring_correlation
from ddpm_lightning.metrics.spectrum import radial_power_spectrum

__all__ = ["FREQUENCIES", "Spectra", "finest_octave", "spectra_of"]

#: Common grid for images of all sizes, in cycles per pixel.
FREQUENCIES = (np.arange(64) + 0.5) / 128
#: The power of the target beyond this frequency counts as its noise: optics seldom reach it.
NOISE_FROM = 0.45
#: Power of structure relative to the noise of the target, at least.
CONTRAST = 4


@dataclass(frozen=True)
class Spectra:
    """Curves of one image on the grid ``FREQUENCIES``.

    Attributes:
        power: Radial power of each version with shape (64,), relative to the mean power of the target.
        correlation: Fourier ring correlation of each version with the target, shape (64,); empty for tiny images.
        cutoff: Frequency in cycles per pixel up to which a version agrees with the target (threshold 1/7); NaN where
            it agrees nowhere.
        octave: Ends of the finest octave in which the target stands out from its noise, in cycles per pixel; or
            ``None``.
        octave_ratio: Power of each version over that of the target in this octave, geometric mean over frequencies.
    """

    power: dict[str, np.ndarray]
    correlation: dict[str, np.ndarray]
    cutoff: dict[str, float]
    octave: tuple[float, float] | None
    octave_ratio: dict[str, float]


def spectra_of(versions: dict[str, np.ndarray]) -> Spectra | None:
    """Returns the curves of all versions of one image, or ``None`` if there are no finite ones of a varied target.

    Args:
        versions: Images with shape (H, W) by name, one of them ``target``.
    """
    target = versions["target"].astype(np.float64)
    if np.ptp(target) == 0 or not all(np.isfinite(image).all() for image in versions.values()):
        return None
    power = {}
    for name, image in versions.items():
        spectrum = radial_power_spectrum(torch.from_numpy(image.astype(np.float64))[None, None])
        power[name] = np.interp(FREQUENCIES, spectrum.frequency.numpy(), spectrum.power[0].numpy())
    unit = power["target"].mean()
    power = {name: curve / unit for name, curve in power.items()}
    correlation, cutoff = {}, {}
    if min(target.shape) >= SMALLEST_SIDE:
        for name in versions.keys() - {"target"}:
            ring = fourier_ring_correlation(versions[name], target)
            correlation[name] = np.interp(FREQUENCIES, ring.frequency, ring.correlation)
            cutoff[name] = crossing(ring).cutoff
    octave = finest_octave(power["target"])
    ratio = {}
    if octave:
        band = (octave[0] <= FREQUENCIES) & (octave[1] >= FREQUENCIES)
        ratio = {
            name: float(np.exp(np.log(np.maximum(curve, 1e-30) / power["target"])[band].mean()))
            for name, curve in power.items()
        }
        ratio.pop("target")
    return Spectra(power, correlation, cutoff, octave, ratio)


def finest_octave(power: np.ndarray) -> tuple[float, float] | None:
    """Returns the ends of the finest octave in which an image stands out from its noise, in cycles per pixel.

    Args:
        power: Radial power on the grid ``FREQUENCIES``.
    """
    noise = power[FREQUENCIES >= NOISE_FROM].mean()
    lost = np.flatnonzero(power <= CONTRAST * noise)
    last = lost[0] - 1 if len(lost) else len(power) - 1
    if last < 3:
        return None
    return float(FREQUENCIES[last] / 2), float(FREQUENCIES[last])
