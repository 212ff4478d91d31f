"""Metadata of an OME-Zarr image: read into an :class:`ImageInfo`, and written as it was.

The sampling of an image is the product of two scales per axis: that of its resolution level and that of all levels.
The result has this product, the corresponding translation, and all other metadata (axes, units, channels, …) unchanged.
Its smaller levels are described anew. Only metadata on other images are omitted.

References:
    The OME-NGFF specification, versions 0.4 and 0.5, https://ngff.openmicroscopy.org.
"""

import json
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.io.image import ImageInfo, TiffTags
from ddpm_lightning.io.notes import Note, counted
from ddpm_lightning.io.units import MICROMETRES, SECONDS
from ddpm_lightning.utils.errors import UserError

__all__ = ["KINDS", "READABLE", "Metadata", "describe", "to_write"]

#: Value of ``ImageInfo.kind`` for each version of the metadata.
KINDS = {"0.4": "ome-zarr-0.4", "0.5": "ome-zarr-0.5"}
READABLE = "OME-Zarr images or Zarr arrays of real numbers, with y and x as the last axes"
#: Attributes that describe other images than this one.
OF_OTHERS = ("labels", "plate", "well", "series", "bioformats2raw.layout")
#: Units that are not physical lengths.
NO_LENGTH = ("pixel", "pixels", "px", "voxel", "voxels", "arbitrary", "arbitrary unit")


@dataclass(frozen=True)
class Metadata:
    """The attributes of an image, as stored.

    Attributes:
        ome: Attributes that OME-NGFF defines: ``multiscales``, ``omero`` and more; empty for a bare array.
        others: Other attributes of the group.
        level: Index of the resolution level.
        array: Attributes of the array.
        newer: Whether this is Zarr 3, with OME-Zarr 0.5.
        names: Names of the dimensions of the array, if it has any.
    """

    ome: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)
    level: int = 0
    array: dict[str, Any] = field(default_factory=dict)
    newer: bool = False
    names: tuple[str, ...] = ()

    @property
    def multiscale(self) -> dict[str, Any]:
        """The first image of the group."""
        return (self.ome.get("multiscales") or [{}])[0]

    @property
    def dataset(self) -> dict[str, Any]:
        """The resolution level."""
        return self.multiscale["datasets"][self.level] if self.multiscale else {}

    @property
    def axes(self) -> list[dict[str, Any]]:
        """Name, type and unit of each axis; version 0.3 has only names."""
        named = self.multiscale.get("axes") or self.names
        return [{"name": axis} if isinstance(axis, str) else dict(axis) for axis in named]

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Transformations of the level, followed by those of all levels."""
        return [
            *(self.dataset.get("coordinateTransformations") or []),
            *(self.multiscale.get("coordinateTransformations") or []),
        ]


def describe(array: Any, metadata: Metadata, path: Path) -> tuple[ImageInfo, list[Note]]:
    """Returns axes, data type and sampling of an image, and notes on what was ignored or guessed.

    Args:
        array: Zarr array.
        metadata: Its attributes.
        path: Its path, for messages.

    Raises:
        UserError: If it is not an image.
    """
    notes: list[Note] = []
    letters = _letters(metadata, array.ndim, notes)
    shape, dtype = tuple(int(size) for size in array.shape), np.dtype(array.dtype).newbyteorder("=")
    if len(letters) != array.ndim or not letters.endswith("YX") or len(set(letters)) < len(letters):
        raise UserError(path, f"axes {letters} with shape {shape}", READABLE, "reorder its axes")
    if dtype.kind not in "uif" or 0 in shape:
        raise UserError(path, f"an array of {dtype} with shape {shape}", READABLE)
    sizes = _sizes(metadata, letters, notes)
    count = shape[letters.index("C")] if "C" in letters else 1
    channels = (metadata.ome.get("omero") or {}).get("channels") or []
    names = tuple(str(channel.get("label") or "") for channel in channels)
    if channels and len(channels) != count:
        text = (
            f"names and colours of {counted(len(channels), 'channel')} are not copied: the image has {count}"
        )
        notes.append(Note("left_aside", 1, text))
        metadata = replace(metadata, ome={**metadata.ome, "omero": {**metadata.ome["omero"], "channels": []}})
    info = ImageInfo(
        letters,
        shape,
        dtype,
        pixel_size=(sizes["Y"], sizes["X"]) if "Y" in sizes and "X" in sizes else None,
        z_step=sizes.get("Z"),
        time_step=sizes.get("T"),
        channel_names=names if len(names) == count and any(names) else (),
        kind=KINDS["0.5" if metadata.newer else "0.4"],
        # The attributes are passed on as text, like an ImageDescription.
        tags=TiffTags(letters, shape, dtype, description=json.dumps(vars(metadata))),
    )
    return info, notes + _others(metadata)


def to_write(
    info: ImageInfo, name: str, derived: bool, levels: int = 1
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Returns the attributes of the group, those of the array, and the names of its dimensions.

    Args:
        info: Description of the image; metadata that were read from a store are written unchanged.
        name: Name of the image if it has none.
        derived: Whether it is a different quantity from its source, such as a standard deviation.
        levels: Number of levels, each with half as many pixels in y and x as the one before.
    """
    source = _source(info)
    letters = info.tags.axes if info.tags and (source.ome or source.names) else info.axes
    kept = [number for number, letter in enumerate(letters) if letter in info.axes]
    axes = [source.axes[number] for number in kept] if source.axes else _new_axes(info)
    for axis, letter in zip(axes, info.axes, strict=True):
        axis.setdefault("type", {"T": "time", "C": "channel"}.get(letter, "space"))
    if source.axes and _composed(source, len(letters))[0] is None:
        for axis in axes:  # a unit without a scale would mean a pixel size of 1
            axis.pop("unit", None)
    steps = _steps(source, info, kept)
    datasets = [
        {**source.dataset, "path": str(level), "coordinateTransformations": _at_level(steps, 2**level)}
        for level in range(levels)
    ]
    multiscale = {"name": name, **source.multiscale, "axes": axes, "datasets": datasets}
    if levels > 1:
        multiscale |= {"type": "mean", "metadata": {"description": "means of 2 x 2 pixels in y and x"}}
    multiscale.pop("coordinateTransformations", None)
    ome = {key: value for key, value in source.ome.items() if key not in OF_OTHERS}
    ome |= {"multiscales": [multiscale]}
    ome.pop("omero", None)
    if omero := _omero(source.ome.get("omero") or {}, info, derived):
        ome["omero"] = omero
    others = {key: value for key, value in source.others.items() if key not in OF_OTHERS}
    names = [axis["name"] for axis in axes]
    array = {**source.array, **({"_ARRAY_DIMENSIONS": names} if "_ARRAY_DIMENSIONS" in source.array else {})}
    if info.kind == KINDS["0.5"]:
        return {**others, "ome": {"version": "0.5", **ome}}, array, names
    multiscale["version"] = "0.4"
    return {**others, **ome}, array, names


def _letters(metadata: Metadata, dimensions: int, notes: list[Note]) -> str:
    if metadata.axes:
        kinds = {"channel": "C", "time": "T"}
        return "".join(
            kinds.get(str(axis.get("type")), str(axis["name"])[:1].upper()) for axis in metadata.axes
        )
    letters = "TCZYX"[-dimensions:]
    if dimensions > 2:
        notes.append(Note("guessed", 1, f"the axes are unnamed: read as {letters}"))
    return letters


def _sizes(metadata: Metadata, letters: str, notes: list[Note]) -> dict[str, float]:
    """Returns the sampling of the axes in µm and s, as far as it is known."""
    for step in metadata.steps:
        if not _fits(step, len(letters)) and step.get("type") != "identity":
            text = f"a coordinate transformation ({step.get('type')}) is not supported: neither applied nor copied"
            notes.append(Note("left_aside", 1, text))
    scale, _ = _composed(metadata, len(letters))
    axes = dict(zip(letters, metadata.axes, strict=False))
    known, without, unknown = {}, {}, {}
    for letter, size in zip(letters, scale or (), strict=False):
        unit = str(axes.get(letter, {}).get("unit") or "").strip()
        units = SECONDS if letter == "T" else MICROMETRES
        factor = units.get(unit) or units.get(unit.lower())
        if letter not in "TZYX" or not (isfinite(size) and size > 0) or unit.lower() in NO_LENGTH:
            continue
        if factor:
            known[letter] = size * factor
        elif unit:
            unknown[letter] = unit
        elif letter != "T":
            without[letter] = size
    if {without.get("Y"), without.get("X")} - {
        1.0,
        None,
    }:  # a pixel size of 1 without a unit means uncalibrated
        known |= without
        sizes = " x ".join(f"{size:g}" for size in without.values())
        text = f"the scale has no unit: read as {sizes} µm ({''.join(without).lower()})"
        notes.append(Note("guessed", len(without), text))
    for letter, unit in unknown.items():
        text = f"the unit {unit!r} of axis {letter.lower()} is unknown, so its scale is ignored"
        notes.append(Note("left_aside", 1, text))
    return known


def _composed(metadata: Metadata, dimensions: int) -> tuple[list[float] | None, list[float] | None]:
    """Returns scale and translation for each axis, combined from the level and all levels."""
    scale, translation = None, None
    for step in metadata.steps:
        numbers = np.array(step[step["type"]], float) if _fits(step, dimensions) else None
        if numbers is None:
            continue
        if step["type"] == "scale":
            scale = numbers if scale is None else numbers * scale
            translation = None if translation is None else numbers * translation
        else:
            translation = numbers if translation is None else numbers + translation
    return None if scale is None else scale.tolist(), None if translation is None else translation.tolist()


def _fits(step: dict[str, Any], dimensions: int) -> bool:
    """Says whether a transformation is a scale or a translation with one number per axis."""
    kind = str(step.get("type"))
    numbers = step.get(kind) if kind in ("scale", "translation") else None
    if not isinstance(numbers, list) or len(numbers) != dimensions:
        return False
    return all(isinstance(number, int | float) for number in numbers)


def _steps(source: Metadata, info: ImageInfo, kept: list[int]) -> list[dict[str, Any]]:
    """Returns the transformations of the result, for its axes."""
    scale, translation = _composed(source, len(info.tags.axes) if info.tags else len(info.axes))
    if scale is None:
        sizes = {
            "T": info.time_step,
            "Z": info.z_step,
            **dict(zip("YX", info.pixel_size or (), strict=False)),
        }
        own = not (info.tags and info.kind in KINDS.values())
        steps = [
            {"type": "scale", "scale": [float((own and sizes.get(letter)) or 1) for letter in info.axes]}
        ]
    else:
        steps = [{"type": "scale", "scale": [scale[number] for number in kept]}]
    if translation is not None:
        steps.append({"type": "translation", "translation": [translation[number] for number in kept]})
    return steps


def _at_level(steps: list[dict[str, Any]], factor: int) -> list[dict[str, Any]]:
    """Returns the transformations of a level with larger pixels; its first corner is that of the full level."""
    if factor == 1:
        return steps
    scale = np.array(next(step["scale"] for step in steps if step["type"] == "scale"), float)
    begin = next((step["translation"] for step in steps if step["type"] == "translation"), 0 * scale)
    wide = np.where(np.arange(len(scale)) < len(scale) - 2, 1, factor)
    return [
        {"type": "scale", "scale": (scale * wide).tolist()},
        {"type": "translation", "translation": (np.array(begin, float) + scale * (wide - 1) / 2).tolist()},
    ]


def _others(metadata: Metadata) -> list[Note]:
    """Returns a note on other images of the group."""
    count = len(metadata.ome.get("multiscales", [])) - 1
    return [Note("left_aside", count, f"further images in the group, not read: {count}")] if count > 0 else []


def _source(info: ImageInfo) -> Metadata:
    text = info.tags.description if info.tags and info.kind in KINDS.values() else ""
    return Metadata(**json.loads(text)) if text.startswith("{") else Metadata()


def _new_axes(info: ImageInfo) -> list[dict[str, Any]]:
    units = {"T": info.time_step and "second", "Z": info.z_step and "micrometer"}
    units |= dict.fromkeys("YX", info.pixel_size and "micrometer")
    return [
        {"name": letter.lower()} | ({"unit": units[letter]} if units.get(letter) else {})
        for letter in info.axes
    ]


def _omero(omero: dict[str, Any], info: ImageInfo, derived: bool) -> dict[str, Any]:
    if not info.channel_names and not omero.get("channels"):
        return omero
    chosen = info.channels if info.channels is not None else range(len(omero.get("channels", [])))
    if not omero.get("channels"):
        return {"channels": [{"label": label} for label in info.channel_names]}
    channels = [dict(omero["channels"][number]) for number in chosen]
    for channel in channels if derived else ():
        channel.pop("window", None)  # the display range of the source's intensities
    return {**omero, "channels": channels}
