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
from ddpm_lightning.simulation.degradations.resampling import binned, resampled
from ddpm_lightning.simulation.detector import Detector, digitise

__all__ = ["Binned", "Correlated", "Median", "Processing", "Resized", "SameForBoth", "Step"]

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
class Processing:
    """Everything between the specimen and the file, apart from the microscope itself.

    Attributes:
        light: Degradations of the light, which are part of both images.
        steps: Steps after the detector, in order.
    """

    light: tuple[Degradation, ...] = ()
    steps: tuple[Step, ...] = ()

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
        if not self.steps:
            return low, clean
        low = low.astype(np.float32)
        for step in self.steps:
            low, clean = step(low, clean, detector, rng)
        low, clean = low[:side, :side], clean[:side, :side]
        return digitise(low, detector.bits), np.clip(clean, 0, 2**detector.bits - 1).astype(np.float32)
