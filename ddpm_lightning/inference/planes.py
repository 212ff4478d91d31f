"""Which arrays can be restored."""

import numpy as np

from ddpm_lightning.data.image import ImageInfo
from ddpm_lightning.errors import UserError

__all__ = ["checked", "described_array", "is_blank"]

SMALLEST_SIDE = 16


def is_blank(plane: np.ndarray) -> bool:
    """Says whether all pixels of a plane are equal."""
    return bool(plane.min() == plane.max())


def described_array(array: np.ndarray, axes: str | None, pixel_size: tuple[float, float] | None) -> ImageInfo:
    """Returns axes and shape of an array, or raises where they do not fit."""
    if array.ndim < 2:
        raise UserError(
            "image", f"has {array.ndim} dimensions", allowed="a plane (H, W) or a stack (…, H, W)"
        )
    named = axes or "TCZYX"[-array.ndim :]
    if len(named) != array.ndim or not named.endswith("YX"):
        raise UserError(
            "axes",
            f"is {named!r} for an array of {array.ndim} dimensions",
            allowed="a letter for each axis, with Y and X at the end, such as ZYX or TCZYX",
        )
    return ImageInfo(named, array.shape, array.dtype, pixel_size)


def checked(plane: np.ndarray) -> np.ndarray:
    """Returns a plane that can be restored, or raises a :class:`UserError` that says why it cannot."""
    if plane.ndim != 2:
        raise UserError("image", f"has {plane.ndim} dimensions", allowed="a plane with shape (H, W)")
    if min(plane.shape) < SMALLEST_SIDE:
        raise UserError(
            "image",
            f"is {plane.shape[0]} x {plane.shape[1]} pixels",
            allowed=f"at least {SMALLEST_SIDE} on each side",
        )
    if not np.isfinite(plane).all():
        raise UserError("image", "holds NaN or infinite values", remedy="replace them, or crop them away")
    if is_blank(plane):
        raise UserError("image", f"is constant: every pixel is {plane.flat[0]}", remedy="leave it out")
    return plane
