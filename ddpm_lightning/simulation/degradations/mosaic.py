"""The colour filters of a camera, whose missing pixels are interpolated."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ddpm_lightning.simulation.degradations.base import Shared, require

#: First row and column, within blocks of 2 x 2 pixels, of the pixels of each colour: the Bayer pattern RGGB.
PIXELS = {"red": ((0, 0),), "green": ((0, 1), (1, 0)), "blue": ((1, 1),)}
#: Parts of the colours in the luminance (ITU-R BT.601), which software uses to convert images to grey.
LUMINANCE = {"red": 0.299, "green": 0.587, "blue": 0.114}
_TENT = np.array([0.5, 1, 0.5], np.float32)
_CROSS = np.array([[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]], np.float32)


@dataclass(frozen=True)
class ColourMosaic(Shared):
    """A grey image recorded through a Bayer pattern and interpolated bilinearly.

    Each pixel records one colour; the others are the mean of the two or four nearest pixels that record them. For
    independent noise of variance 1, the mean variance of the green image is 5/8 and the correlation of neighbours 0.4;
    for red and blue they are 9/16 and 2/3.

    Attributes:
        channel: ``red``, ``green`` or ``blue``, or ``luminance``, their weighted sum.

    References:
        Color imaging array (Bayer, 1976), US patent 3,971,065. Demosaicking: color filter array interpolation
        (Gunturk et al., 2005), IEEE Signal Process. Mag. 22(1), 44.
    """

    channel: str = "green"

    def __post_init__(self) -> None:
        channels = (*PIXELS, "luminance")
        require(self.channel in channels, "channel", self.channel, ", ".join(channels))

    def expected(self, image: np.ndarray) -> np.ndarray:
        """Keeps the pixels of each colour, and interpolates the others."""
        image = image.astype(np.float32)
        if self.channel != "luminance":
            return _interpolated(image, self.channel)
        parts = [weight * _interpolated(image, colour) for colour, weight in LUMINANCE.items()]
        return parts[0] + parts[1] + parts[2]


def _interpolated(image: np.ndarray, colour: str) -> np.ndarray:
    """Interpolates a colour: the sum of the recorded neighbours, divided by the sum of their weights."""
    kept, weight = np.zeros_like(image), np.zeros_like(image)
    for row, column in PIXELS[colour]:
        kept[row::2, column::2] = image[row::2, column::2]
        weight[row::2, column::2] = 1
    return _spread(kept, colour) / _spread(weight, colour)


def _spread(image: np.ndarray, colour: str) -> np.ndarray:
    if colour == "green":
        return ndimage.correlate(image, _CROSS, mode="constant")
    return ndimage.correlate1d(
        ndimage.correlate1d(image, _TENT, 0, mode="constant"), _TENT, 1, mode="constant"
    )
