"""What file formats do to images: limits of the grey scale, few grey levels, compression."""

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from ddpm_lightning.simulation.degradations.base import Shared, like, require


@dataclass(frozen=True)
class Clipping(Shared):
    """Values below black and above white are lost, as with a wrong offset, a detector in saturation or an export.

    Both images of a pair are clipped: what is lost cannot be restored.

    Attributes:
        black: Lowest grey value that remains.
        white: Highest grey value that remains.
    """

    black: float = 10.0
    white: float = 200.0

    def __post_init__(self) -> None:
        require(self.black < self.white, "black and white", (self.black, self.white), "in ascending order")

    def expected(self, image: np.ndarray) -> np.ndarray:
        """Clips the image."""
        return np.clip(image.astype(np.float32), self.black, self.white)


@dataclass(frozen=True)
class Quantisation:
    """Few grey levels: values are rounded to multiples of a step.

    Where the noise exceeds the step, rounding adds noise of variance step² / 12.

    Attributes:
        step: Distance of the levels in grey values, such as 8 for 5 effective bits in an 8-bit file.

    References:
        Quantization (Gray and Neuhoff, 1998), IEEE Trans. Inf. Theory 44, 2325.
    """

    step: float = 8.0
    stage: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        require(self.step > 0, "step", self.step, "above 0")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rounds the image."""
        return like(image, np.rint(image / self.step) * self.step)


@dataclass(frozen=True)
class Jpeg:
    """JPEG compression of the noisy image (8 bits, grey).

    Coefficients of the cosine transform of 8 x 8 pixels are rounded to multiples of the steps in the quantisation table
    of the file. Weak high frequencies become 0, so the noise that remains correlates. The clean image of a pair is not
    compressed: rounding has no sign, and noise dithers it.

    Attributes:
        quality: Quality, 1 to 100, in the scale of libjpeg.

    References:
        The JPEG still picture compression standard (Wallace, 1992), IEEE Trans. Consum. Electron. 38(1), xviii.
    """

    quality: int = 75
    stage: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        require(1 <= self.quality <= 100, "quality", self.quality, "1 to 100")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Compresses the image; one that does not have 8 bits is scaled to them from its darkest to its brightest."""
        black, scale = (
            (0.0, 1.0) if image.dtype == np.uint8 else (float(image.min()), float(np.ptp(image)) / 255)
        )
        grey = np.rint((image - black) / (scale or 1)).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "jpeg", quality=self.quality)
        return like(image, black + scale * np.asarray(Image.open(file), np.float64))
