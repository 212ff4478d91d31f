r"""Resampling: drift correction, zoom and binning, which make the noise of neighbouring pixels correlate.

An interpolated value is a weighted sum :math:`\sum_k w_k x_k` of neighbours. Independent noise of variance
:math:`\sigma^2` becomes noise of variance :math:`\sigma^2 \sum_k w_k^2`, and pixels that share neighbours correlate.
A shift by the fraction :math:`s` of a pixel with linear interpolation leaves the variance
:math:`\sigma^2 (1 - 2 s + 2 s^2)` and a correlation of :math:`s (1 - s) / (1 - 2 s + 2 s^2)` between neighbours along
the shift: 0.5 for half a pixel. Binning averages :math:`f^2` pixels, so the variance falls to
:math:`\sigma^2 / f^2`; independent noise remains independent.

References:
    Cubic convolution interpolation for digital image processing (Keys, 1981), IEEE Trans. ASSP 29, 1153.
    Photon Transfer (Janesick, 2007), SPIE Press, for binning.
"""

from dataclasses import dataclass

import numpy as np

from ddpm_lightning.simulation.degradations.base import Shared, require

#: Names of interpolations, and their reach in pixels.
REACH = {"linear": 1, "cubic": 2}


@dataclass(frozen=True)
class DriftCorrection(Shared):
    """A shift by a fraction of a pixel, as software does to register frames.

    Attributes:
        shift: Shift along rows and columns in pixels: (down, right).
        interpolation: ``linear`` or ``cubic``.
    """

    shift: tuple[float, float] = (0.5, 0.5)
    interpolation: str = "linear"

    def __post_init__(self) -> None:
        require(self.interpolation in REACH, "interpolation", self.interpolation, " or ".join(REACH))

    def expected(self, image: np.ndarray) -> np.ndarray:
        """Shifts the image; its border is repeated."""
        places = [np.arange(length) - shift for length, shift in zip(image.shape, self.shift, strict=True)]
        return resampled(image, places[0], places[1], self.interpolation)


@dataclass(frozen=True)
class Zoom(Shared):
    """An image that was enlarged or reduced by software, and brought back to its own size in the same way.

    Attributes:
        factor: Factor on the number of pixels along each axis.
        interpolation: ``linear`` or ``cubic``.
        smooth: Whether a reduction averages over the pixels that it leaves out, as Pillow does and OpenCV does not.
    """

    factor: float = 0.7
    interpolation: str = "linear"
    smooth: bool = True

    def __post_init__(self) -> None:
        require(self.interpolation in REACH, "interpolation", self.interpolation, " or ".join(REACH))
        require(0.1 <= self.factor <= 10, "zoom factor", self.factor, "0.1 to 10")

    def expected(self, image: np.ndarray) -> np.ndarray:
        """Zooms the image, and back."""
        rows, columns = (max(round(length * self.factor), 1) for length in image.shape)
        zoomed = resized(image, (rows, columns), self.interpolation, self.smooth)
        return resized(zoomed, (image.shape[0], image.shape[1]), self.interpolation, self.smooth)


@dataclass(frozen=True)
class Binning(Shared):
    """Blocks of pixels that are averaged, and the image enlarged to its own size by linear interpolation.

    Attributes:
        factor: Side of the blocks in pixels.
    """

    factor: int = 2

    def __post_init__(self) -> None:
        require(self.factor >= 1, "binning factor", self.factor, "1 or more")

    def expected(self, image: np.ndarray) -> np.ndarray:
        """Bins the image and enlarges it; the last row and column are repeated until blocks are complete."""
        padding = [(0, -length % self.factor) for length in image.shape]
        small = binned(np.pad(image, padding, mode="edge"), self.factor)
        places = [(np.arange(length) + 0.5) / self.factor - 0.5 for length in image.shape]
        return resampled(small, places[0], places[1], "linear")


def binned(image: np.ndarray, factor: int) -> np.ndarray:
    """Averages blocks of ``factor`` x ``factor`` pixels; incomplete ones are left out. Returns float32."""
    rows, columns = (length // factor for length in image.shape)
    return (
        image[: rows * factor, : columns * factor]
        .reshape(rows, factor, columns, factor)
        .mean((1, 3), dtype=np.float32)
    )


def resized(image: np.ndarray, shape: tuple[int, int], interpolation: str, smooth: bool = True) -> np.ndarray:
    """Resamples an image to another number of pixels of the same field; returns ``shape``, float32."""
    ratios = [old / new for old, new in zip(image.shape, shape, strict=True)]
    places = [(np.arange(new) + 0.5) * ratio - 0.5 for new, ratio in zip(shape, ratios, strict=True)]
    widths = [max(ratio, 1) if smooth else 1 for ratio in ratios]
    return resampled(image, places[0], places[1], interpolation, widths[0], widths[1])


def resampled(
    image: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    interpolation: str,
    row_width: float = 1,
    column_width: float = 1,
) -> np.ndarray:
    """Interpolates an image on a grid; beyond its border, the border is repeated.

    Args:
        image: Image with shape (H, W).
        rows: Positions of the rows of the grid, in pixels of the image, with shape (M,).
        columns: Positions of its columns with shape (N,).
        interpolation: ``linear`` or ``cubic``.
        row_width: Factor on the width of the interpolation kernel along the rows' axis; above 1 it averages.
        column_width: The same along the columns' axis.

    Returns:
        Image with shape (M, N), float32.
    """
    down = interpolation_matrix(rows, image.shape[0], interpolation, row_width)
    right = interpolation_matrix(columns, image.shape[1], interpolation, column_width)
    return down @ image.astype(np.float32) @ right.T


def interpolation_matrix(places: np.ndarray, length: int, interpolation: str, width: float = 1) -> np.ndarray:
    """Returns the weights of ``length`` pixels at M places with shape (M, length), float32; each row sums to 1."""
    reach = int(np.ceil(REACH[interpolation] * width))
    taps = np.floor(places).astype(np.intp)[:, None] + np.arange(1 - reach, reach + 1)
    weights = _kernel(np.abs(taps - places[:, None]) / width, interpolation)
    weights /= weights.sum(1, keepdims=True)
    matrix = np.zeros((len(places), length))
    np.add.at(matrix, (np.arange(len(places))[:, None], np.clip(taps, 0, length - 1)), weights)
    return matrix.astype(np.float32)


def _kernel(distance: np.ndarray, interpolation: str) -> np.ndarray:
    """Returns the triangle, or the cubic convolution of Keys with a = -1/2."""
    if interpolation == "linear":
        return np.maximum(1 - distance, 0)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))
