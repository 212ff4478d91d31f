"""Checks which arrays can be restored, and converts them to plain data types."""

import os
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.notes import counted
from ddpm_lightning.io.plane_reader import LARGEST, LARGEST_INTEGER
from ddpm_lightning.utils.errors import UserError

__all__ = ["as_image", "as_pixel_size", "checked", "described_array", "is_blank"]

SMALLEST_SIDE = 16
#: Least maximum of an image: below it, float32 rounds intensities coarsely, or to 0.
SMALLEST = 1e-30


def is_blank(plane: np.ndarray) -> bool:
    """Returns whether all pixels of a plane are equal."""
    return bool(plane.min() == plane.max())


def as_image(array: Any) -> np.ndarray:
    """Returns an array of integers, float32 or float64 in native byte order.

    Args:
        array: Anything that NumPy can convert to an array of real numbers. Python numbers become float64, and float16
            becomes float32.

    Raises:
        UserError: If it contains anything else, or masked pixels.
    """
    if isinstance(array, str | os.PathLike):
        remedy = "open the file first, e.g. tifffile.imread(path)"
        raise UserError(
            "image", f"is a path or a text ({array}), not an array", "an array of real numbers", remedy
        )
    masked = int(np.ma.count_masked(array)) if isinstance(array, np.ma.MaskedArray) else 0
    if masked:
        remedy = "fill them with array.filled(value), or crop them away"
        raise UserError(
            "image", f"has {counted(masked, 'masked pixel')}", allowed="values everywhere", remedy=remedy
        )
    allowed = "an array of real numbers"
    try:
        image = np.asarray(array)
        if image.dtype.kind == "O" and all(isinstance(value, Real) for value in image.flat):
            image = image.astype(np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        found = f"cannot be converted to an array ({' '.join(str(error).split())})"
        raise UserError("image", found, allowed, "pass a NumPy array") from error
    if image.dtype.kind == "c":
        remedy = "restore np.abs(image), or its real and imaginary part"
        raise UserError("image", f"contains complex numbers ({image.dtype})", allowed, remedy)
    if image.dtype.kind == "b":
        found = "contains true and false: it is a mask, not intensities"
        raise UserError("image", found, allowed, "pass the image itself; image.astype(float) restores a mask")
    if image.dtype.kind not in "uif":
        raise UserError(
            "image",
            f"does not contain numbers ({image.dtype})",
            allowed,
            "convert it with image.astype(float)",
        )
    if image.dtype.kind == "f" and image.dtype.itemsize not in (4, 8):
        return image.astype(np.float32 if image.dtype.itemsize < 4 else np.float64)
    return image.astype(image.dtype.newbyteorder("="), copy=False)


def as_pixel_size(value: Any) -> tuple[float, float] | None:
    """Returns the size of a pixel as (y, x) in µm.

    Args:
        value: A number, or a sequence or array of two numbers, each above 0; ``None`` if unknown.

    Raises:
        UserError: If it is anything else.
    """
    if value is None:
        return None
    allowed = "a number of µm above 0, or two of them as (y, x)"
    try:
        numbers = np.asarray(value)
        sizes = numbers.astype(np.float64).ravel() if numbers.dtype.kind in "uifO" else np.zeros(0)
    except (TypeError, ValueError):
        sizes = np.zeros(0)
    if sizes.size not in (1, 2) or not all(isfinite(size) and size > 0 for size in sizes):
        raise UserError("pixel_size", f"is {value!r}", allowed, "leave it out if it is unknown")
    return float(sizes[0]), float(sizes[-1])


def described_array(array: np.ndarray, axes: str | None, pixel_size: tuple[float, float] | None) -> ImageInfo:
    """Returns axes, shape and pixel size of an array.

    Args:
        array: The array.
        axes: A letter for each axis, ending in ``YX``; by default the last letters of ``TCZYX``.
        pixel_size: Size of a pixel in µm as (y, x), or ``None``.

    Raises:
        UserError: If it is not a plane or a stack, or the axes do not fit its shape.
    """
    if array.ndim < 2:
        raise UserError(
            "image", f"has {array.ndim} dimensions", allowed="a plane (H, W) or a stack (…, H, W)"
        )
    if array.size == 0:
        raise UserError("image", f"is empty: its shape is {array.shape}", allowed="at least one plane")
    if axes is None and array.ndim > 5:
        raise UserError(
            "image",
            f"has {array.ndim} dimensions",
            allowed="at most 5 (TCZYX)",
            remedy="name them with axes=",
        )
    named = "TCZYX"[-array.ndim :] if axes is None else axes
    sound = isinstance(named, str) and len(set(named)) == len(named) == array.ndim and named.endswith("YX")
    if not sound:
        raise UserError(
            "axes",
            f"is {named!r} for an array of {array.ndim} dimensions",
            allowed="a letter for each axis, with Y and X at the end, such as ZYX or TCZYX",
        )
    if array.ndim > 2 and array.shape[-1] in (3, 4) and array.shape[-2] >= SMALLEST_SIDE:
        raise UserError(
            "image",
            f"has the shape {array.shape}, which is that of a colour image",
            allowed="planes of one channel each, (…, H, W)",
            remedy="restore np.moveaxis(image, -1, -3), or one grey channel of it",
        )
    _check_size(array.shape[-2:])
    return ImageInfo(named, array.shape, array.dtype, pixel_size)


def checked(plane: np.ndarray, blank: bool = False) -> np.ndarray:
    """Returns a plane unchanged if it can be restored.

    Args:
        plane: Image with shape (H, W).
        blank: Whether it may be constant.

    Raises:
        UserError: If it cannot be restored.
    """
    if plane.ndim != 2:
        raise UserError("image", f"has {plane.ndim} dimensions", allowed="a plane with shape (H, W)")
    _check_size(plane.shape)
    if not np.isfinite(plane).all():
        raise UserError("image", "contains NaN or infinite values", remedy="replace them, or crop them away")
    largest = max(abs(float(plane.min())), abs(float(plane.max())))
    if largest > LARGEST and plane.dtype.kind == "f":
        raise UserError(
            "image",
            "contains extremely large values",
            allowed=f"at most {LARGEST:g}",
            remedy="divide it by a constant",
        )
    if 0 < largest < SMALLEST:
        raise UserError(
            "image",
            f"contains tiny values, at most {largest:.3g}",
            allowed=f"a largest value of at least {SMALLEST:g}",
            remedy="multiply it by a constant",
        )
    if largest > LARGEST_INTEGER and plane.dtype.kind in "iu":
        raise UserError(
            "image",
            "contains integers that float64 cannot represent exactly",
            allowed=f"at most {LARGEST_INTEGER}",
            remedy="subtract a constant from it",
        )
    if not blank and is_blank(plane):
        raise UserError("image", f"is constant: every pixel is {plane.flat[0]}", remedy="leave it out")
    return plane


def _check_size(shape: tuple[int, ...]) -> None:
    if min(shape) < SMALLEST_SIDE:
        raise UserError(
            "image", f"is {shape[0]} x {shape[1]} pixels", allowed=f"at least {SMALLEST_SIDE} on each side"
        )
