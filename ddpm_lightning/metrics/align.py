r"""Corrects a shift of the prediction before scoring.

The images of some published pairs are misaligned by a fraction of a pixel, and a network learns the mean shift. The
paper re-aligns the microtubule predictions of all models to the target before scoring; here this is an option, off by
default, and shift and crop are written next to the numbers.

The shift is the maximum of the cross-correlation, refined to a tenth of a pixel by an up-sampled discrete Fourier
transform. (Phase correlation weights all frequencies equally and is off by half a pixel if a smooth image contains even
a little noise.) The prediction is moved by cubic interpolation (not at all for a shift of zero, without interpolation
for whole pixels), and the border that has no data is cut off both images. Interpolation also smooths a noisy prediction
slightly, so compare aligned scores only with aligned scores.

References:
    Efficient subpixel image registration algorithms (Guizar-Sicairos, Thurman and Fienup, 2008),
    https://doi.org/10.1364/OL.33.000156
"""

from math import ceil
from typing import NamedTuple, cast

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor


class Realigned(NamedTuple):
    """A pair after re-alignment.

    Attributes:
        prediction: Moved and cropped, with shape (1, C, H', W').
        target: Cropped, with shape (1, C, H', W').
        shift: Movement of the prediction in pixels: down, right.
        crop: Pixels cut off every border of both images.
    """

    prediction: Tensor
    target: Tensor
    shift: tuple[float, float]
    crop: int


def realign(prediction: Tensor, target: Tensor, *, largest: float = 8.0, subpixel: int = 10) -> Realigned:
    """Returns the prediction moved onto the target, and both without the border that lost its data.

    A shift beyond ``largest`` is no misalignment but a failed match: the pair is then returned as it was. All
    channels move together, by the shift of their mean.

    Args:
        prediction: Restored image with shape (1, C, H, W), in any unit.
        target: Clean image with shape (1, C, H, W).
        largest: Largest shift along either axis that is undone, in pixels.
        subpixel: Fraction of a pixel to which the shift is found: 1 for whole pixels, 10 for tenths.
    """
    # Imported here because it is heavy, and only an option of the evaluation needs it.
    from skimage.registration import phase_cross_correlation

    flat = [(image - image.mean()).mean(dim=(0, 1)).cpu().numpy() for image in (target, prediction)]
    # The annotation of scikit-image lacks None, which means cross-correlation.
    found, _, _ = phase_cross_correlation(*flat, upsample_factor=subpixel, normalization=cast("str", None))
    shift = (float(found[0]), float(found[1]))
    crop = ceil(max(abs(value) for value in shift))
    if not 0 < crop <= largest or 2 * crop >= min(target.shape[-2:]):
        return Realigned(prediction, target, (0.0, 0.0), 0)
    order = 0 if all(value.is_integer() for value in shift) else 3
    moved = scipy.ndimage.shift(prediction.cpu().numpy(), (0, 0, *shift), order=order, mode="nearest")
    inside = np.s_[..., crop:-crop, crop:-crop]
    return Realigned(torch.from_numpy(moved).to(prediction)[inside], target[inside], shift, crop)
