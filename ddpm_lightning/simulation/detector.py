r"""Detectors: from expected photons to the integers of a file.

.. math:: ADU = \mathrm{round}\big(g\, [M(\mathrm{Poisson}(q \mu + d)) + N(0, \sigma^2)] + o\big)
          \ \text{clipped to}\ [0, 2^b - 1]

with gain :math:`g` (ADU per electron), quantum efficiency :math:`q`, dark electrons :math:`d`, read noise
:math:`\sigma` (electrons), offset :math:`o` and :math:`b` bits. :math:`M` is the noise of multiplication in a
photomultiplier or an EMCCD: a Gamma variable of mean :math:`n` and variance :math:`(F^2 - 1)\, n` for
:math:`n` electrons, with the excess factor :math:`F^2` (1 for counting detectors, 1.2 to 1.5 for
photomultipliers, 2 for EMCCDs). Away from the clipping limits, and up to 1/12 of rounding,

.. math:: \mathrm{var} = g F^2\, (\mathrm{mean} - o) + (g \sigma)^2 .

References:
    Photon Transfer (Janesick, 2007), SPIE Press. Video-rate nanoscopy using sCMOS camera-specific
    single-molecule localization algorithms (Huang et al., 2013), Nat. Methods 10, 653.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np


class Recorder(Protocol):
    """Records expected photons."""

    def __call__(self, photons: np.ndarray, rng: np.random.Generator, frames: int = 1) -> np.ndarray:
        """Records the mean of some frames of an image of expected photons with shape (H, W)."""
        ...

    def expected(self, photons: np.ndarray) -> np.ndarray:
        """Returns the expectation of a recorded image before clipping, with shape (H, W)."""
        ...


@dataclass(frozen=True)
class Detector:
    """A point detector (photon counter, photomultiplier) or a camera with equal pixels.

    Attributes:
        gain: ADU per electron.
        offset: ADU without light.
        read_noise: Standard deviation in electrons.
        excess: Excess noise factor F², 1 or more.
        efficiency: Quantum efficiency.
        dark: Dark electrons per pixel and frame.
        bits: Depth; up to 8 gives uint8, more gives uint16.
    """

    gain: float = 1.0
    offset: float = 0.0
    read_noise: float = 0.0
    excess: float = 1.0
    efficiency: float = 1.0
    dark: float = 0.0
    bits: int = 16

    def __post_init__(self) -> None:
        if self.excess < 1 or not 1 <= self.bits <= 16:
            raise ValueError(
                f"a detector needs excess >= 1 and 1 to 16 bits, got {self.excess} and {self.bits}"
            )

    def __call__(self, photons: np.ndarray, rng: np.random.Generator, frames: int = 1) -> np.ndarray:
        """Records an image, or the mean of several frames of it.

        Args:
            photons: Expected photons per frame with shape (H, W).
            rng: Source of the noise.
            frames: Number of frames whose mean is stored, rounded once.

        Returns:
            Image with shape (H, W), uint8 or uint16.
        """
        electrons = _electrons(self.efficiency * photons + self.dark, rng, frames, self.excess)
        if self.read_noise:
            noise = rng.standard_normal(photons.shape, np.float32)
            electrons = electrons + noise * np.float32(self.read_noise / np.sqrt(frames))
        return digitise(self.gain * electrons + self.offset, self.bits)

    def expected(self, photons: np.ndarray) -> np.ndarray:
        """Returns the expectation of a recorded image before clipping, with shape (H, W)."""
        return self.gain * (self.efficiency * photons + self.dark) + self.offset


@dataclass(frozen=True)
class Scmos:
    """A scientific CMOS camera: every pixel has its own gain, offset and read noise.

    Attributes:
        camera: Serial number, which determines the maps: all images of one camera share them.
        gain: Mean ADU per electron.
        gain_sd: Relative standard deviation of the gain (photo-response non-uniformity).
        offset: Mean ADU without light.
        offset_sd: Standard deviation of the offset in ADU.
        read_noise: Median read noise in electrons.
        log_read_variance_sd: Standard deviation of the logarithm of the read variance.
        efficiency: Quantum efficiency.
        hot: Fraction of hot pixels, whose dark current adds ``hot_electrons`` on average.
        hot_electrons: Mean dark electrons of a hot pixel.
        bits: Depth; up to 8 gives uint8, more gives uint16.
    """

    camera: int = 0
    gain: float = 2.2
    gain_sd: float = 0.02
    offset: float = 100.0
    offset_sd: float = 1.5
    read_noise: float = 1.3
    log_read_variance_sd: float = 0.65
    efficiency: float = 0.8
    hot: float = 0.002
    hot_electrons: float = 20.0
    bits: int = 16

    def maps(self, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns gain, offset, read noise and dark electrons of each pixel, each with shape (H, W)."""
        return _camera_maps(self, shape)

    def __call__(self, photons: np.ndarray, rng: np.random.Generator, frames: int = 1) -> np.ndarray:
        """Records an image, or the mean of several frames; see :meth:`Detector.__call__`."""
        gain, offset, read_noise, dark = self.maps(photons.shape)
        electrons = _electrons(self.efficiency * photons + dark, rng, frames, 1.0)
        electrons = electrons + rng.standard_normal(photons.shape, np.float32) * read_noise / np.sqrt(frames)
        return digitise(gain * electrons + offset, self.bits)

    def expected(self, photons: np.ndarray) -> np.ndarray:
        """Returns the expectation of a recorded image before clipping, with shape (H, W)."""
        gain, offset, _, dark = self.maps(photons.shape)
        return gain * (self.efficiency * photons + dark) + offset


def digitise(values: np.ndarray, bits: int) -> np.ndarray:
    """Rounds and clips to the range of ``bits`` bits, as uint8 or uint16."""
    dtype = np.uint8 if bits <= 8 else np.uint16
    return np.clip(np.rint(values), 0, 2**bits - 1).astype(dtype)


def _electrons(expected: np.ndarray, rng: np.random.Generator, frames: int, excess: float) -> np.ndarray:
    """Samples the mean electrons of some frames; a sum of Poisson variables is a Poisson variable."""
    counts = rng.poisson(frames * expected)
    return (multiplied(counts, excess, rng) if excess > 1 else counts) / frames


def multiplied(counts: np.ndarray, excess: float, rng: np.random.Generator) -> np.ndarray:
    """Samples what leaves a multiplier of gain 1 with the excess noise factor F² > 1; the mean is ``counts``."""
    shape = (counts / (excess - 1)).astype(np.float32)
    return (excess - 1) * rng.standard_gamma(shape, dtype=np.float32)


@lru_cache(maxsize=8)
def _camera_maps(
    camera: Scmos, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([camera.camera, 0x5C])
    gain = camera.gain * (1 + camera.gain_sd * rng.standard_normal(shape))
    offset = camera.offset + camera.offset_sd * rng.standard_normal(shape)
    read = camera.read_noise * np.exp(camera.log_read_variance_sd / 2 * rng.standard_normal(shape))
    dark = camera.hot_electrons * (rng.random(shape) < camera.hot) * rng.exponential(1.0, shape)
    maps = (np.maximum(gain, 0), offset, read, dark)
    for values in maps:
        values.flags.writeable = False
    return maps
