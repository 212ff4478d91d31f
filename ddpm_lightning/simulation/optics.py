r"""Point-spread functions as sums of Gaussians, applied in Fourier space.

A point-spread function :math:`h(r) = \sum_k a_k \exp(-4 \ln 2\, r^2 / d_k^2)` is given by its amplitudes
:math:`a_k` and widths :math:`d_k` (full width at half maximum, FWHM, in nm). Its energy is 1: no light is
lost. One component describes confocal and Airyscan images; stimulated emission depletion (STED)
has a sharp core on a pedestal of confocal width where depletion is imperfect; light from out of focus is a
wide, weak component.

A confocal image has :math:`d = 0.51\, \lambda / NA`. Depletion by a doughnut that grows as :math:`r^2` near
its centre sharpens it to :math:`d / \sqrt{1 + I / I_s}`.

References:
    Breaking the diffraction resolution limit by stimulated emission (Hell and Wichmann, 1994), Opt. Lett. 19,
    780. Resolution scaling in STED microscopy (Harke et al., 2008), Opt. Express 16, 4154.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
from scipy import fft

FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


@dataclass(frozen=True)
class Psf:
    """A sum of Gaussians.

    Attributes:
        widths: Full widths at half maximum of the components in nm, the core first.
        amplitudes: Their heights relative to the core.
    """

    widths: tuple[float, ...]
    amplitudes: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.amplitudes) or min(self.widths) <= 0:
            raise ValueError(
                f"a PSF needs one positive width per amplitude, got {self.widths} and {self.amplitudes}"
            )

    @property
    def energies(self) -> np.ndarray:
        """Fractions of the light in the components; they sum to 1."""
        energies = np.multiply(self.amplitudes, np.square(self.widths))
        return energies / energies.sum()

    def profile(self, radius: np.ndarray) -> np.ndarray:
        """Returns the height at a radius in nm, relative to that at 0."""
        radius = np.asarray(radius, float)[..., None]
        heights = np.array(self.amplitudes) * np.exp(-4 * np.log(2) * (radius / np.array(self.widths)) ** 2)
        return heights.sum(-1) / sum(self.amplitudes)

    def __call__(self, emitters: np.ndarray, pixel: float) -> np.ndarray:
        """Images a map of emitters.

        Borders wrap around; the margins of maps allow for that.

        Args:
            emitters: Non-negative map with shape (S, S) as :meth:`Canvas.splat` makes it.
            pixel: Size of a pixel in nm.

        Returns:
            Expected image with shape (S, S), float32.
        """
        return image_of(spectrum_of(emitters), emitters.shape, pixel, self)


def spectrum_of(emitters: np.ndarray) -> np.ndarray:
    """Returns the Fourier transform of a map of emitters with shape (S, S), complex64, with shape (S, S // 2 + 1)."""
    return cast("np.ndarray", fft.rfft2(emitters.astype(np.float32)))


def image_of(spectrum: np.ndarray, shape: tuple[int, int], pixel: float, psf: Psf) -> np.ndarray:
    """Images emitters given by :func:`spectrum_of`, which is computed once for several microscopes."""
    image = cast("np.ndarray", fft.irfft2(spectrum * transfer(psf, shape, pixel), shape))
    return np.maximum(image, 0, out=image)


@lru_cache(maxsize=32)
def transfer(psf: Psf, shape: tuple[int, int], pixel: float) -> np.ndarray:
    """Returns the transfer function for maps of bilinear points, with shape (S, S // 2 + 1).

    A point shared bilinearly by four pixels is, on average over its position, already blurred by a triangle
    of two pixels' width, whose transfer function is sinc². It is divided out, so that the image of a point
    has the requested width.
    """
    rows, columns = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None]
    frequency = (rows**2 + columns**2) / pixel**2
    sigmas = np.array(psf.widths) / FWHM_PER_SIGMA
    gaussians = np.exp(-2 * np.pi**2 * sigmas[:, None, None] ** 2 * frequency)
    result = np.tensordot(psf.energies, gaussians, 1) / (np.sinc(rows) * np.sinc(columns)) ** 2
    return result.astype(np.float32)


def confocal(wavelength: float, aperture: float) -> Psf:
    """Returns the confocal PSF for an emission wavelength in nm and a numerical aperture."""
    return Psf((0.51 * wavelength / aperture,))


def airyscan(wavelength: float, aperture: float, gain: float = 1.7) -> Psf:
    """Returns the Airyscan PSF: reassigned and deconvolved, ``gain`` times sharper than the confocal one."""
    return Psf((0.51 * wavelength / aperture / gain,))


def sted(diffraction: Psf, saturation: float, pedestal: float = 0.05) -> Psf:
    """Returns the STED PSF.

    Args:
        diffraction: PSF without depletion.
        saturation: Depletion intensity in units of the saturation intensity, I / I_s.
        pedestal: Height of the component that was not depleted, relative to the core.
    """
    width = diffraction.widths[0]
    return Psf((width / np.sqrt(1 + saturation), width), (1.0, pedestal))


def with_haze(psf: Psf, width: float, energy: float) -> Psf:
    """Adds a wide component with a width in nm that contains the fraction ``energy`` of the light."""
    rest = np.dot(psf.amplitudes, np.square(psf.widths))
    amplitude = energy / (1 - energy) * rest / width**2
    return Psf((*psf.widths, width), (*psf.amplitudes, float(amplitude)))
