"""What happens to the two images of a pair between the sensor and the file.

The noisy image is processed as cameras, software and file formats do it. The clean image remains its expectation in the
same geometry, so a network that learns from such pairs neither sharpens nor shifts anything:

- linear operations (interpolation, binning, averaging, limited bandwidth) are applied to both images;
- the median is not linear: the clean image becomes an estimate of the expectation of the filtered one;
- noise, rounding and compression affect the noisy image only;
- limits of the grey scale hold for both: values beyond them are lost.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ddpm_lightning.simulation.degradations.base import Degradation
from ddpm_lightning.simulation.degradations.camera_filter import CameraFilter, expected_median
from ddpm_lightning.simulation.degradations.correlated_noise import correlated
from ddpm_lightning.simulation.degradations.electronics import CameraPattern, HotPixels
from ddpm_lightning.simulation.degradations.file_format import Jpeg, Quantisation
from ddpm_lightning.simulation.degradations.resampling import binned, resampled
from ddpm_lightning.simulation.detector import Detector, Scmos, digitise

__all__ = [
    "Binned",
    "Correlated",
    "FileFormat",
    "Median",
    "Processing",
    "Resized",
    "SameForBoth",
    "Step",
    "UnequalPixels",
]

Images = tuple[np.ndarray, np.ndarray]


class Step(Protocol):
    """A step of the processing of a pair."""

    def __call__(
        self, low: np.ndarray, clean: np.ndarray, detector: Detector, rng: np.random.Generator
    ) -> Images:
        """Processes a noisy image and its expectation, both float32 with shape (H, W)."""
        ...


@dataclass(frozen=True)
class SameForBoth:
    """An operation on both images that is linear and has no randomness."""

    operation: Degradation

    def __call__(
        self, low: np.ndarray, clean: np.ndarray, detector: Detector, rng: np.random.Generator
    ) -> Images:
        """Applies the operation."""
        return self.operation(low, rng), self.operation(clean, rng)


@dataclass(frozen=True)
class Median:
    """A 3 x 3 median of the noisy image, and its estimated expectation."""

    def __call__(
        self, low: np.ndarray, clean: np.ndarray, detector: Detector, rng: np.random.Generator
    ) -> Images:
        """Filters the images."""
        return CameraFilter("median").expected(low), expected_median(clean, low)


@dataclass(frozen=True)
class Correlated:
    """Noise that correlates, whatever the cause: the noise of the detector is filtered, the structure is not.

    Attributes:
        rows: Correlation of neighbours in a column.
        columns: Correlation of neighbours in a row.
        amplitude: Factor on the standard deviation of the noise.
    """

    rows: float
    columns: float
    amplitude: float = 1.0

    def __call__(
        self, low: np.ndarray, clean: np.ndarray, detector: Detector, rng: np.random.Generator
    ) -> Images:
        """Replaces the noise."""
        noise = low - clean
        bias = noise.mean()  # of noise that was clipped; the kernel would amplify it
        return clean + bias + self.amplitude * correlated(noise - bias, self.rows, self.columns), clean


@dataclass(frozen=True)
class Resized:
    """Both images enlarged or reduced.

    Attributes:
        factor: Factor on the number of pixels along each axis.
        interpolation: ``linear`` or ``cubic``.
        smooth: Whether a reduction averages over the pixels that it leaves out.
    """

    factor: float
    interpolation: str = "linear"
    smooth: bool = True

    def side_before(self, side: int) -> int:
        """Returns the side of the image before this step, for a side after it."""
        return int(np.ceil(side / self.factor))

    def __call__(
        self, low: np.ndarray, clean: np.ndarray, detector: Detector, rng: np.random.Generator
    ) -> Images:
        """Resizes the images."""
        width = max(1 / self.factor, 1) if self.smooth else 1
        rows, columns = (
            (np.arange(int(n * self.factor + 1e-6)) + 0.5) / self.factor - 0.5 for n in low.shape
        )
        low, clean = (
            resampled(image, rows, columns, self.interpolation, width, width) for image in (low, clean)
        )
        return low, clean


@dataclass(frozen=True)
class Binned:
    """Blocks of pixels averaged in both images.

    Attributes:
        factor: Side of the blocks.
    """

    factor: int

    def side_before(self, side: int) -> int:
        """Returns the side of the image before this step, for a side after it."""
        return side * self.factor

    def __call__(
        self, low: np.ndarray, clean: np.ndarray, detector: Detector, rng: np.random.Generator
    ) -> Images:
        """Bins the images."""
        return binned(low, self.factor), binned(clean, self.factor)


@dataclass(frozen=True)
class UnequalPixels:
    """Pixels of an sCMOS camera in the noisy image: gain, offset and read noise differ, and some are defective.

    Attributes:
        serial: Serial number of the camera.
        gain_sd: Relative standard deviation of the gain.
        offset_sd: Standard deviation of the offset in electrons.
        read_noise: Median of the additional read noise in electrons.
        hot: Fraction of hot pixels.
        dead: Fraction of dead pixels.
        level: Mean of what is added to hot pixels, relative to the range of the clean image.
    """

    serial: int
    gain_sd: float = 0.0
    offset_sd: float = 0.0
    read_noise: float = 0.0
    hot: float = 0.0
    dead: float = 0.0
    level: float = 1.0

    def __call__(
        self, low: np.ndarray, clean: np.ndarray, detector: Detector, rng: np.random.Generator
    ) -> Images:
        """Degrades the noisy image."""
        maps = Scmos(
            self.serial,
            detector.gain,
            self.gain_sd,
            0,
            detector.gain * self.offset_sd,
            self.read_noise,
            hot=0,
        )
        low = CameraPattern(maps)(low - detector.offset, rng) + detector.offset
        defects = HotPixels(self.hot, self.dead, self.level * float(np.ptp(clean)), black=detector.offset)
        return defects(low, rng), clean


@dataclass(frozen=True)
class FileFormat:
    """How the images are stored.

    Attributes:
        bits: Depth of the file, or ``None`` for that of the detector.
        limits: Quantiles of the noisy image that become black and white, or ``None`` for the scale of the detector.
            Values beyond are lost in both images.
        effective_bits: Number of bits in which the noisy image differs, or ``None`` for all.
        quality: Quality of JPEG compression of the noisy image, which needs 8 bits, or ``None`` for none.
    """

    bits: int | None = None
    limits: tuple[float, float] | None = None
    effective_bits: float | None = None
    quality: int | None = None

    def __call__(
        self, low: np.ndarray, clean: np.ndarray, detector: Detector, rng: np.random.Generator
    ) -> Images:
        """Stores both images: the noisy one as integers, the clean one as float32."""
        bits = self.bits or detector.bits
        top = 2**bits - 1
        black, white = self._limits(low, detector)
        low, clean = ((image - black) * (top / (white - black)) for image in (low, clean))
        if self.effective_bits is not None:
            step = max(float(np.ptp(np.clip(low, 0, top))) / 2**self.effective_bits, 1e-6)
            low = Quantisation(step)(low, rng)
        low = digitise(low, bits)
        if self.quality is not None:
            low = Jpeg(self.quality)(low, rng)
        return low, np.clip(clean, 0, top).astype(np.float32)

    def _limits(self, low: np.ndarray, detector: Detector) -> tuple[float, float]:
        if self.limits is None:
            return 0.0, 2.0**detector.bits - 1
        darkest, black, white, brightest = map(float, np.quantile(low, (0, *self.limits, 1)))
        # Sparse structures would be lost if most pixels had the same value.
        if white - black < 0.1 * (brightest - darkest):
            black, white = darkest, brightest
        return black, max(white, black + 1)


@dataclass(frozen=True)
class Processing:
    """Everything between the specimen and the file, apart from the microscope itself.

    Attributes:
        light: Degradations of the light, which are part of both images.
        excess: Excess noise factor F² of the detector, or ``None`` for that of the microscope.
        steps: Steps after the detector, in order.
        file: How the images are stored.
    """

    light: tuple[Degradation, ...] = ()
    excess: float | None = None
    steps: tuple[Step, ...] = ()
    file: FileFormat = FileFormat()

    def side(self, side: int) -> int:
        """Returns the side of the sensor for an image with the given side."""
        for step in reversed(self.steps):
            if isinstance(step, Resized | Binned):
                side = step.side_before(side)
        return side

    def __call__(
        self, low: np.ndarray, clean: np.ndarray, detector: Detector, rng: np.random.Generator, side: int
    ) -> Images:
        """Processes what a detector recorded.

        Args:
            low: Recorded image as integers.
            clean: Its expectation, within the limits of the detector, float32.
            detector: The detector.
            rng: Source of randomness.
            side: Side of the resulting images in pixels.

        Returns:
            The noisy image as integers, and its expectation, float32; both with shape (side, side).
        """
        low = low.astype(np.float32)
        for step in self.steps:
            low, clean = step(low, clean, detector, rng)
        return self.file(low[:side, :side], clean[:side, :side], detector, rng)
