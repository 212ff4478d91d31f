"""Reads published image files (TIFF stacks and PNG) as grey planes, with unchanged values and bit depth."""

import io
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from ddpm_lightning.io.tiff import TiffStack
from ddpm_lightning.utils.errors import UserError, is_out_of_memory, out_of_memory

__all__ = ["SUFFIXES", "check_pair", "encode", "read_planes", "saturation"]

SUFFIXES = {".tif", ".tiff", ".png"}


def read_planes(path: Path) -> np.ndarray:
    """Reads all planes of an image.

    Returns:
        Array with shape (planes, H, W) in the dtype of the file.

    Raises:
        UserError: If the file is damaged, in colour, or contains values that are not finite.
    """
    if path.suffix.lower() != ".png":
        with TiffStack(path) as stack:
            if "C" in stack.info.axes:
                raise UserError(
                    path,
                    f"has several channels (axes {stack.info.axes}, shape {stack.info.shape})",
                    allowed="grey planes",
                    remedy="save one channel as a file of its own",
                )
            return np.stack(list(stack))
    try:
        image = imagecodecs.png_decode(path.read_bytes())
    except Exception as error:  # damage causes many kinds of errors
        if is_out_of_memory(error):
            raise out_of_memory(path, error) from error
        raise UserError(
            path, f"cannot be read as PNG ({error})", remedy="copy or download it again"
        ) from error
    if image.ndim == 3:
        if image.shape[2] != 3 or (image != image[..., :1]).any():
            raise UserError(
                path,
                f"is a colour image ({image.shape[2]} channels)",
                allowed="grey images, or three equal channels",
                remedy="save the channel of interest as a grey image",
            )
        image = image[..., 0]
    return np.ascontiguousarray(image)[None]


def check_pair(low: np.ndarray, high: np.ndarray, low_path: Path, high_path: Path, most: float = 1.0) -> None:
    """Checks that two images can be a pair.

    Args:
        low: Planes with shape (planes, H, W).
        high: Planes that must have the same shape.
        low_path: File of the low planes.
        high_path: File of the high planes.
        most: Maximum fraction of saturated pixels.

    Raises:
        UserError: If sizes differ, or an image is constant or saturated.
    """
    if low.shape != high.shape:
        raise UserError(
            low_path,
            f"has {_size(low)}, its partner {high_path.name} has {_size(high)}",
            allowed="partners of equal size",
            remedy="crop or resample the pair; images are never resized silently",
        )
    for path, image in ((low_path, low), (high_path, high)):
        if image.min() == image.max():
            raise UserError(
                path, f"is constant: every pixel is {image.flat[0]}", remedy="leave this pair out"
            )
        if (share := saturation(image)) > most:
            raise UserError(
                path,
                f"is saturated: {share:.0%} of its pixels have the largest value, {image.max()}",
                allowed=f"{most:.0%} or less",
                remedy="leave this pair out; saturated intensities cannot be restored",
            )


def _size(planes: np.ndarray) -> str:
    count, height, width = planes.shape
    return f"{count} plane{'s' * (count > 1)} of {height} x {width} pixels"


def saturation(image: np.ndarray) -> float:
    """Returns the fraction of pixels at the largest value of a common bit depth: 8, 10, 12, 14 or 16 bits."""
    top = image.max()
    if image.dtype.kind != "u" or int(top) + 1 not in (2**8, 2**10, 2**12, 2**14, 2**16):
        return 0.0
    return float((image == top).mean())


def encode(image: np.ndarray, pixel_size: float | None) -> bytes:
    """Returns a plain TIFF that can be memory-mapped; the same bytes for the same image.

    Args:
        image: Image with shape (H, W).
        pixel_size: Size of a pixel in µm, written as ImageJ does if it supports the data type.
    """
    file = io.BytesIO()
    if pixel_size is not None and image.dtype in (np.uint8, np.uint16, np.float32):
        resolution = (1 / pixel_size, 1 / pixel_size)
        tifffile.imwrite(file, image, imagej=True, resolution=resolution, metadata={"unit": "um"})
    else:
        tifffile.imwrite(file, image, metadata=None, software=False)
    return file.getvalue()
