"""Viewer images: versions of an image as 8-bit PNG, to be shown on top of each other.

``low`` has its own grey scale; sample, average and target opacity that of the target. The standard deviation of the
samples is shown in colours (cividis), and a larger value is more opaque: over an image, it covers uncertain pixels.
Large images are cropped to the central square, so that a page of them stays small.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from ddpm_lightning.inference.panels import limits
from ddpm_lightning.utils.atomic import atomic_write

__all__ = ["ViewerImages", "rescaled", "write_viewer_images"]

#: Largest side in pixels.
SIDE = 512


@dataclass(frozen=True)
class ViewerImages:
    """Viewer images of one image.

    Attributes:
        image: Name of the image.
        files: File of each version, relative to the folder of the evaluation.
        size: Rows and columns.
        pixel_size: Size of a pixel in µm, or ``None``.
        std_full: Standard deviation that is fully opaque, in intensities; 0 if the samples do not differ.
    """

    image: str
    files: dict[str, str]
    size: tuple[int, int]
    pixel_size: float | None
    std_full: float


def write_viewer_images(
    versions: dict[str, np.ndarray], image: str, pixel_size: float | None, folder: Path
) -> ViewerImages:
    """Writes the viewer images of one image as PNG.

    Args:
        versions: ``low``, ``single``, ``average``, ``target`` and ``std``, each with shape (H, W).
        image: Name of the image.
        pixel_size: Size of a pixel in µm, or ``None``.
        folder: Folder of the evaluation; the images are written to its folder ``viewer``.
    """
    (folder / "viewer").mkdir(parents=True, exist_ok=True)
    cut = {name: _center(version) for name, version in versions.items()}
    grey, full = limits(cut["target"]), float(np.percentile(cut["std"], 99.8))
    files = {}
    for name, version in cut.items():
        if name == "std":
            if full <= 0:
                continue
            pixels = _coloured(version / full)
        else:
            low, high = limits(version) if name == "low" else grey
            pixels = (255 * np.clip((version - low) / (high - low), 0, 1)).round().astype(np.uint8)
        files[name] = f"viewer/{_file_name(image)}_{name}.png"
        with atomic_write(folder / files[name]) as partial:
            Image.fromarray(pixels).save(partial, format="PNG", optimize=True)
    return ViewerImages(image, files, cut["target"].shape, pixel_size, max(full, 0.0))


def rescaled(content: bytes, factor: float) -> bytes:
    """Returns the image of a standard deviation on a wider scale, so that those of several methods can be compared.

    Args:
        content: The image, a PNG written by :func:`write_viewer_images`.
        factor: Its fully opaque standard deviation, relative to that of the wider scale.

    Raises:
        ValueError: If it is not such an image.
    """
    try:
        with Image.open(BytesIO(content), formats=["PNG"]) as image:
            if image.mode != "RGBA" or max(image.size) > SIDE:
                raise ValueError("not an image of a standard deviation")
            opacity = np.asarray(image)[..., 3] / 255
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError("not an image of a standard deviation") from error
    result = BytesIO()
    Image.fromarray(_coloured(opacity * factor)).save(result, format="PNG", optimize=True)
    return result.getvalue()


def _coloured(opacity: np.ndarray) -> np.ndarray:
    opacity = np.clip(opacity, 0, 1)
    pixels = matplotlib.colormaps["cividis"](opacity, bytes=True)
    pixels[..., 3] = (255 * opacity).round()
    return pixels


def _center(version: np.ndarray) -> np.ndarray:
    top, left = (max(0, (size - SIDE) // 2) for size in version.shape)
    return version[top : top + SIDE, left : left + SIDE]


def _file_name(image: str) -> str:
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in image)
