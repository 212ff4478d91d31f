"""The part of a layer that is restored: axes, pixel size and place are those of the layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ddpm_lightning.inference.arrays import SMALLEST_SIDE, as_image
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.units import MICROMETRES, SECONDS
from ddpm_lightning.utils.errors import UserError

__all__ = ["SOURCE", "Layer", "Selection", "axes_of", "box_of_corners", "pixel_size_of", "select"]

#: Entry of a layer's metadata with the :class:`ImageInfo` of the file that the layer was read from by this plugin.
SOURCE = "ddpm_lightning"
LETTERS = "TCZYX"
PIXEL = ("pixel", "pixels", "px", "")
#: Rows and columns, as first and last plus one.
Box = tuple[slice, slice]


class Layer(Protocol):
    """What is used of ``napari.layers.Image``."""

    data: Any
    scale: Any
    translate: Any
    units: Any
    axis_labels: Any
    multiscale: Any
    rgb: Any

    @property
    def name(self) -> str:
        """Name of the layer."""
        ...

    @property
    def metadata(self) -> Any:
        """Whatever readers and plugins keep with a layer."""
        ...


@dataclass(frozen=True)
class Selection:
    """Pixels and their description.

    Attributes:
        name: Name of the image, from which noise is derived.
        pixels: Array of any kind with the shape of ``info``; planes are read one by one.
        info: Axes, shape, type and pixel size.
        scale: Size of a pixel along each axis in the units of the viewer.
        translate: Place of the first pixel in these units.
        units: Units of the axes.
    """

    name: str
    pixels: Any
    info: ImageInfo
    scale: tuple[float, ...]
    translate: tuple[float, ...]
    units: tuple[Any, ...]

    def plane(self, number: int) -> np.ndarray:
        """Reads a plane with shape (H, W)."""
        stacked = self.info.shape[:-2]
        index = tuple(map(int, np.unravel_index(number, stacked))) if stacked else ()
        return as_image(np.asarray(self.pixels[index]))


def full_resolution(layer: Layer) -> Any:
    """Returns the array of a layer; of a pyramid, that of its full resolution."""
    return layer.data[0] if layer.multiscale else layer.data


def axes_of(layer: Layer) -> str:
    """Returns the axes of a layer: those of its file or its labels, or the last letters of TCZYX."""
    count = len(full_resolution(layer).shape)
    if (source := _source(layer)) is not None and len(source.axes) == count:
        return source.axes
    labels = "".join(str(label)[:1].upper() for label in layer.axis_labels or ())
    if (
        len(labels) == count
        and set(labels) <= {*LETTERS}
        and len(set(labels)) == count
        and labels.endswith("YX")
    ):
        return labels
    return LETTERS[-count:]


def pixel_size_of(layer: Layer) -> tuple[float, float] | None:
    """Returns the size of a pixel in µm as (y, x): that of its file, or its scale; ``None`` if it has none.

    A scale without a unit is in µm, as most readers set it; a scale of 1 without a unit is none.
    """
    if (source := _source(layer)) is not None:
        return source.pixel_size
    y, x = (_step(layer, axis, "YX"[axis]) for axis in (-2, -1))
    return (y, x) if y and x else None


def select(
    layer: Layer,
    axes: str | None = None,
    pixel_size: tuple[float, float] | None = None,
    step: Sequence[float] | None = None,
    box: Box | None = None,
) -> Selection:
    """Returns a part of a layer.

    Args:
        layer: An image layer.
        axes: A letter for each axis; by default :func:`axes_of`.
        pixel_size: Size of a pixel in µm as (y, x); by default :func:`pixel_size_of`.
        step: Position along each axis of the plane that is selected; ``None`` selects all planes.
        box: Rows and columns; ``None`` selects all.

    Raises:
        UserError: If the layer is in colour, the axes do not fit, or too little is selected.
    """
    pixels = full_resolution(layer)
    if layer.rgb:
        raise UserError(
            layer.name, "is a colour image", "grey images", "split its channels (right click, Split RGB)"
        )
    axes = axes_of(layer) if axes is None else axes.strip().upper()
    size = pixel_size_of(layer) if pixel_size is None else pixel_size
    count = len(pixels.shape)
    if len(axes) != count or len(set(axes)) < count or not axes.endswith("YX"):
        found = f"{axes} for an image of {count} dimensions"
        raise UserError(
            "axes", found, "a letter for each axis, with YX at the end", "such as ZYX, TYX or TCZYX"
        )
    source = _source(layer)
    kept, index = list(range(count)), [slice(None)] * count
    if box is not None:
        index[-2:] = [slice(*one.indices(side)[:2]) for one, side in zip(box, pixels.shape[-2:], strict=True)]
    starts = [one.start or 0 for one in index]
    places: list[Any] = list(index)
    if step is not None:
        kept = [count - 2, count - 1]
        stacked = zip(step[-count:-2], pixels.shape[:-2], strict=True)
        places[:-2] = starts[:-2] = [min(max(round(at), 0), side - 1) for at, side in stacked]
    part = pixels[tuple(places)]
    steps = {letter: _step(layer, axis, letter) for axis, letter in enumerate(axes)}
    info = ImageInfo(
        axes,
        tuple(map(int, pixels.shape)),
        np.dtype(pixels.dtype).newbyteorder("="),
        size,
        steps.get("Z"),
        steps.get("T"),
        kind="ome",
    )
    if source is not None and source.axes == axes and source.shape == info.shape:
        # The metadata of the file are kept only if they are right.
        info = (
            source if size == source.pixel_size else replace(source, pixel_size=size, kind="ome", tags=None)
        )
    if part.shape != pixels.shape:
        info = _part_of(info, part.shape, kept, starts)
    if min(info.plane_shape) < SMALLEST_SIDE:
        found = f"is {info.plane_shape[0]} x {info.plane_shape[1]} pixels"
        raise UserError("region", found, f"at least {SMALLEST_SIDE} on each side", "choose a larger one")
    scale, translate = (np.asarray(value, float) for value in (layer.scale, layer.translate))
    placed = translate + scale * np.asarray(starts)
    units = tuple(layer.units) if layer.units else ()
    return Selection(
        layer.name,
        part,
        info,
        tuple(float(scale[axis]) for axis in kept),
        tuple(float(placed[axis]) for axis in kept),
        tuple(units[axis] for axis in kept) if units else (),
    )


def box_of_corners(layer: Layer, corners: np.ndarray) -> Box:
    """Returns the rows and columns that a rectangle in the units of the viewer encloses.

    Args:
        layer: An image layer.
        corners: Points with shape (N, 2) as (y, x).

    Raises:
        UserError: If the rectangle is outside of the layer.
    """
    scale, translate = (np.asarray(value, float)[-2:] for value in (layer.scale, layer.translate))
    inside = (np.asarray(corners, float)[:, -2:] - translate) / scale
    sides = full_resolution(layer).shape[-2:]
    first = np.clip(np.floor(inside.min(0)), 0, sides).astype(int)
    last = np.clip(np.ceil(inside.max(0)), 0, sides).astype(int)
    if (last <= first).any():
        raise UserError(
            "region", f"is outside of {layer.name}", remedy="move the rectangle, or choose another layer"
        )
    return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))


def _step(layer: Layer, axis: int, letter: str) -> float | None:
    """Returns the distance of two pixels, planes or frames in µm or s; ``None`` if it is unknown."""
    step, unit = float(layer.scale[axis]), str(layer.units[axis]) if layer.units else ""
    if unit in PIXEL:
        return step if step != 1 and letter in "ZYX" else None
    factor = (SECONDS if letter == "T" else MICROMETRES).get(unit)
    return step * factor if factor and letter in "TZYX" else None


def _part_of(info: ImageInfo, shape: Sequence[int], kept: Sequence[int], starts: Sequence[int]) -> ImageInfo:
    """Returns the description of a part: without the metadata of planes, and of the file as a whole."""
    axes = "".join(info.axes[axis] for axis in kept)
    names = info.channel_names
    if names and "C" in info.axes and "C" not in axes:
        names = names[starts[info.axes.index("C")] :][:1]
    return replace(
        info,
        axes=axes,
        shape=tuple(map(int, shape)),
        channel_names=names,
        z_step=info.z_step if "Z" in axes else None,
        time_step=info.time_step if "T" in axes else None,
        kind="ome",
        channels=None,
        tags=None,
    )


def _source(layer: Layer) -> ImageInfo | None:
    """Returns the description of the file that a layer was read from, if this plugin read it."""
    metadata: Mapping[str, Any] = layer.metadata or {}
    found = metadata.get(SOURCE)
    return found if isinstance(found, ImageInfo) else None
