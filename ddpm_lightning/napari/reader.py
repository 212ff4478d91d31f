"""Reads images as layers with axes, pixel size and channel names, so that they can be saved with them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.stacks import image_name, images_in, is_image, open_stack, stem
from ddpm_lightning.napari.selection import SOURCE

__all__ = ["get_reader", "read_layers"]

LayerData = tuple[np.ndarray, dict[str, Any], str]


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Returns the reader of a path, or of several; ``None`` if they are not images that can be read."""
    return read_layers if all(is_image(Path(one)) for one in _several(path)) else None


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """Reads all images of files; a file of a microscope may hold several.

    Raises:
        UserError: If a file cannot be read.
    """
    found = []
    for image in (image for one in _several(path) for image in images_in(Path(one))):
        with open_stack(image) as stack:
            info = stack.info
            pixels = np.stack(list(stack)).reshape(info.shape)
        found.append((pixels, {"name": stem(image_name(image)), **_placed(info)}, "image"))
    return found


def _several(path: str | Sequence[str]) -> list[str]:
    return [path] if isinstance(path, str) else list(path)


def _placed(info: ImageInfo) -> dict[str, Any]:
    """Returns the sampling of an image as arguments of a layer."""
    steps = {"Z": info.z_step, **dict(zip("YX", info.pixel_size or (), strict=False))}
    return {
        "scale": [steps.get(axis) or 1.0 for axis in info.axes],
        "units": ["micrometer" if steps.get(axis) else "pixel" for axis in info.axes],
        "axis_labels": list(info.axes.lower()),
        "metadata": {SOURCE: info},
    }
