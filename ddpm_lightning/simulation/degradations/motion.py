"""Motion: rows that start early or late, and images of a pair that do not match."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import ndimage

from ddpm_lightning.simulation.degradations.base import like


@dataclass(frozen=True)
class ScanJitter:
    """Rows that start early or late.

    Expected photons are interpolated. Recorded rows are shifted by whole pixels, which does not change their noise.

    Attributes:
        sigma: Standard deviation of the shift of a row in pixels.
        bidirectional: Shift of every other row in pixels, caused by a phase error between forward and backward
            scan.
    """

    sigma: float = 0.5
    bidirectional: float = 0.0
    stage: ClassVar[str] = "photons"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Shifts the rows; missing pixels are replaced by the border."""
        rows, columns = image.shape
        shift = self.sigma * rng.standard_normal((rows, 1)) + self.bidirectional * (
            np.arange(rows)[:, None] % 2
        )
        if np.issubdtype(image.dtype, np.integer):
            shift = np.rint(shift)
        place = np.clip(np.arange(columns) - shift, 0, columns - 1)
        left = np.minimum(place.astype(np.intp), columns - 2)
        part = place - left
        row = np.arange(rows)[:, None]
        return like(image, (1 - part) * image[row, left] + part * image[row, left + 1])


@dataclass(frozen=True)
class Misregistration:
    """A rigid motion of one image of a pair relative to the other.

    Attributes:
        shift: Largest shift along each axis in pixels; distributed uniformly.
        angle: Largest rotation in degrees about the centre; distributed uniformly.
    """

    shift: float = 0.5
    angle: float = 0.0
    stage: ClassVar[str] = "photons"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Moves the image by linear interpolation; borders are reflected."""
        shift = rng.uniform(-self.shift, self.shift, 2)
        angle = np.deg2rad(rng.uniform(-self.angle, self.angle))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        center = (np.array(image.shape) - 1) / 2
        options: dict[str, Any] = {"offset": center - turn @ (center + shift), "order": 1, "mode": "reflect"}
        moved = ndimage.affine_transform(image.astype(np.float32), turn, **options)
        return like(image, moved)
