"""Degradations in amplifiers and cameras: line noise, crosstalk, limited bandwidth, afterpulses, fixed patterns."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import ndimage, signal

from ddpm_lightning.simulation.degradations.base import like, require
from ddpm_lightning.simulation.detector import Scmos, multiplied


@dataclass(frozen=True)
class LineNoise:
    """An offset for every row: white noise plus a drift that follows an autoregressive process.

    Attributes:
        sigma: Standard deviation of the white part in grey values.
        drift: Standard deviation of the drift in grey values.
        memory: Correlation of the drift between neighbouring rows.
        columns: Whether the lines are columns, as with the column amplifiers of a camera.
    """

    sigma: float = 1.0
    drift: float = 0.0
    memory: float = 0.95
    columns: bool = False
    stage: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        require(0 <= self.memory < 1, "memory", self.memory, "[0, 1)")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Adds the offsets."""
        count = image.shape[1] if self.columns else image.shape[0]
        white, kicks = rng.standard_normal((2, count))
        # The first value has the stationary distribution, and the kicks are scaled to keep its variance.
        kicks[1:] *= np.sqrt(1 - self.memory**2)
        lines = self.sigma * white + self.drift * np.asarray(signal.lfilter([1], [1, -self.memory], kicks))
        return like(image, image + (lines if self.columns else lines[:, None]))


@dataclass(frozen=True)
class Crosstalk:
    """Neighbouring pixels share their signal, and so their noise.

    Attributes:
        sigma: Standard deviation of the Gaussian kernel in pixels.
    """

    sigma: float = 0.7
    stage: ClassVar[str] = "image"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Convolves the image; its mean is preserved."""
        return like(image, ndimage.gaussian_filter(image.astype(np.float32), self.sigma, mode="reflect"))


@dataclass(frozen=True)
class Bandwidth:
    """A slow amplifier: each pixel leaks into the next ones of its row with an exponential decay.

    Attributes:
        length: Decay length in pixels.
    """

    length: float = 1.0
    stage: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        require(self.length > 0, "decay length", self.length, "above 0")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Smears the rows; their mean is preserved except for the part beyond their end."""
        return like(image, _trail(image, self.length))


@dataclass(frozen=True)
class Afterpulsing:
    """Detector counts that trigger further counts shortly afterwards, in the same row.

    Attributes:
        probability: Mean number of afterpulses of a count.
        length: Mean delay in pixels.
        gain: Grey values of one count.
        offset: Grey value without light.
    """

    probability: float = 0.05
    length: float = 1.0
    gain: float = 1.0
    offset: float = 0.0
    stage: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        require(
            self.length > 0 and self.probability >= 0,
            "delay and probability",
            (self.length, self.probability),
            "above 0",
        )

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Adds the afterpulses."""
        counts = np.maximum((image.astype(np.float64) - self.offset) / self.gain, 0)
        extra = rng.poisson(self.probability * _trail(counts, self.length))
        return like(image, image + self.gain * extra)


@dataclass(frozen=True)
class ExcessNoise:
    """The noise of multiplication in an EMCCD or a photomultiplier, for an image of a detector that only counts.

    The variance of a mean of n counts rises from n to F² n.

    Attributes:
        excess: Excess noise factor F²: 2 for EMCCDs, 1.2 to 1.5 for photomultipliers.
        gain: Grey values of one count.
        offset: Grey value without light.

    References:
        The noise performance of electron multiplying charge-coupled devices (Robbins and Hadwen, 2003), IEEE Trans.
        Electron Devices 50, 1227.
    """

    excess: float = 2.0
    gain: float = 1.0
    offset: float = 0.0
    stage: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        require(
            self.excess > 1 and self.gain > 0, "excess and gain", (self.excess, self.gain), "above 1 and 0"
        )

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Multiplies the counts."""
        counts = np.maximum((image.astype(np.float32) - self.offset) / self.gain, 0)
        return like(image, image + self.gain * (multiplied(counts, self.excess, rng) - counts))


@dataclass(frozen=True)
class HotPixels:
    """Pixels with a high dark current, and pixels that record nothing.

    Attributes:
        hot: Fraction of hot pixels.
        dead: Fraction of dead pixels.
        level: Mean of what is added to hot pixels in grey values; it is distributed exponentially.
        black: Grey value of dead pixels.
    """

    hot: float = 0.001
    dead: float = 0.0005
    level: float = 100.0
    black: float = 0.0
    stage: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        parts = (self.hot, self.dead)
        require(min(parts) >= 0 and sum(parts) <= 1, "fractions of pixels", parts, "0 or more, 1 together")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Replaces the values of these pixels."""
        place = rng.random(image.shape)
        glowing = image + self.level * rng.exponential(1.0, image.shape) * (place < self.hot)
        return like(image, np.where(place > 1 - self.dead, self.black, glowing))


@dataclass(frozen=True)
class CameraPattern:
    """The fixed pattern and the read noise of an sCMOS camera, for an image of another detector.

    Each pixel is scaled by its relative gain and shifted by its relative offset, and has its own read noise.

    Attributes:
        camera: The camera whose maps are used.
    """

    camera: Scmos = Scmos()
    stage: ClassVar[str] = "image"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Applies the maps of the camera."""
        gain, offset, read_noise, _ = self.camera.maps(image.shape)
        noise = gain * read_noise * rng.standard_normal(image.shape)
        return like(image, image * (gain / self.camera.gain) + (offset - self.camera.offset) + noise)


def _trail(image: np.ndarray, length: float) -> np.ndarray:
    """Smooths rows exponentially in the direction of the scan, starting from the steady state of their first pixel."""
    keep = np.exp(-1 / length)
    values = image.astype(np.float64)
    return signal.lfilter([1 - keep], [1, -keep], values, axis=1, zi=keep * values[:, :1])[0]
