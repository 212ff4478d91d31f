"""Reads an :class:`~ddpm_lightning.io.image.ImageInfo` (axes, pixel size, times) from the tags of a TIFF.

Lengths are in µm, times in s. A file states its sampling in one of three dialects: OME-XML (``PhysicalSizeX`` with its
unit), ImageJ metadata (``unit``, ``spacing``, ``finterval``, with XResolution in pixels per ``unit``), or the bare TIFF
tags (pixels per inch or cm). The JSON that tifffile writes may contain the keys of ImageJ.

References:
    TIFF Revision 6.0, Adobe 1992. The OME Data Model, https://docs.openmicroscopy.org/ome-model.
    ImageJ, ``ij/io/TiffDecoder.java``, https://imagej.net, for the meaning of its keys.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPage, TiffPageSeries

from ddpm_lightning.io import scanimage
from ddpm_lightning.io.image import ImageInfo, TiffTags
from ddpm_lightning.io.notes import Note
from ddpm_lightning.io.tiff_sampling import RESOLUTION_UNITS, listed_sampling, ome_sampling
from ddpm_lightning.utils.errors import UserError

GREY = {
    PHOTOMETRIC.MINISBLACK: "minisblack",
    PHOTOMETRIC.MINISWHITE: "miniswhite",
    PHOTOMETRIC.PALETTE: "palette",
}
IMAGEJ_BINARY = ("Info", "Labels", "Ranges", "LUTs", "Plot", "ROI", "Overlays", "Properties")


def describe(tif: TiffFile, series: TiffPageSeries, path: Path, notes: list[Note]) -> ImageInfo:
    """Describes a series of planes of an open TIFF.

    Args:
        tif: The open file.
        series: The series to describe.
        path: Name for error messages.
        notes: The list to which notes on omitted metadata are added.

    Returns:
        The description, with a samples axis turned into the channel axis ``C``.

    Raises:
        UserError: If the pixels are not grey values in planes that tifffile can read.
    """
    page = series.keyframe
    dtype = _grey_dtype(series, path)
    axes, shape = _plane_axes(series, path)
    kind = series.kind if series.kind in ("ome", "imagej", "scanimage") else "plain"
    found = ome_pixels(ElementTree.fromstring(tif.ome_metadata or ""), shape[-2:]) if kind == "ome" else None
    pixels = found[1] if found else None
    listed = (tif.imagej_metadata if kind == "imagej" else _json(series)) or {}
    listed = scanimage.sampling(tif) if kind == "scanimage" else listed
    tags = TiffTags(
        axes=axes,
        shape=shape,
        dtype=dtype,
        byteorder=tif.byteorder,
        photometric=GREY[PHOTOMETRIC(_photometric(page))],
        predictor=page.predictor > 1,
        resolution=_resolution(page),
        resolution_unit=_resolution_unit(page),
        description=_description(tif, series, kind),
        imagej={key: value for key, value in listed.items() if key in IMAGEJ_BINARY},
        colormap=page.colormap if _photometric(page) == PHOTOMETRIC.PALETTE else None,
        date_time=_date_time(page),
        software=tif.pages.first.software if kind == "scanimage" else "",
        header=scanimage.read_block(tif) if kind == "scanimage" else b"",
    )
    sampling = ome_sampling(pixels, notes) if pixels is not None else listed_sampling(listed, tags, notes)
    samples_became_planes = "C" in axes and "C" not in series.axes
    if samples_became_planes and tags.description:
        text = "the file's description is not copied: its channels, stored as samples per pixel, become separate planes"
        notes.append(Note("left_aside", 1, text))
    if samples_became_planes:
        # The description of the source would contradict the result.
        kind, tags = "plain", replace(tags, description="", imagej={}, resolution=None)
    return ImageInfo(
        axes=axes,
        shape=shape,
        dtype=dtype,
        channel_names=_channel_names(pixels, listed, axes, shape),
        kind=kind,
        bigtiff=tif.is_bigtiff,
        compression=None if page.compression == COMPRESSION.NONE else COMPRESSION(page.compression).name,
        bits=_significant_bits(pixels, page, dtype),
        tags=tags,
        **sampling,
    )


def ome_pixels(
    root: ElementTree.Element, plane_shape: tuple[int, ...]
) -> tuple[ElementTree.Element, ElementTree.Element] | None:
    """Finds the first Image of an OME-XML, and its Pixels, whose planes have the shape (H, W) of the file."""
    for image in root.iterfind("{*}Image"):
        for pixels in image.iterfind("{*}Pixels"):
            if (int(pixels.get("SizeY", 0)), int(pixels.get("SizeX", 0))) == tuple(plane_shape):
                return image, pixels
    return None


def _photometric(page: TiffPage) -> int:
    # tifffile assumes "0 is white" if the tag is missing; programs that omit it mean "0 is black".
    return page.photometric if "PhotometricInterpretation" in page.tags else PHOTOMETRIC.MINISBLACK


def _grey_dtype(series: TiffPageSeries, path: Path) -> np.dtype:
    page = series.keyframe
    allowed = "grey images of 8 to 64-bit integers or floats"
    to_grey = "convert it to grey (ImageJ: Image > Type > 8-bit)"
    if _photometric(page) not in GREY:
        found = f"a colour image ({PHOTOMETRIC(page.photometric).name}, axes {series.axes})"
        remedy = f"{to_grey} or split it (Image > Color > Split Channels)"
        if len(page.parent.series) > 1:
            remedy += "; if another image of this file is meant, save that as a file of its own"
        raise UserError(path, found, allowed, remedy)
    if _photometric(page) == PHOTOMETRIC.PALETTE and not (page.is_imagej or _is_ramp(page.colormap)):
        raise UserError(path, "an indexed colour image", allowed, to_grey)
    if page.dtype is None or page.dtype.kind not in "uif":
        found = f"pixels of type {page.dtype or 'unknown'} ({page.bitspersample} bits)"
        raise UserError(path, found, allowed, "save the image as 8-bit, 16-bit or 32-bit grey")
    return page.dtype.newbyteorder("=")


def _is_ramp(colormap: np.ndarray | None) -> bool:
    """Says whether a palette only tints grey values: brighter with every index."""
    return colormap is not None and bool((np.diff(colormap.astype(np.int64).sum(0)) >= 0).all())


def _plane_axes(series: TiffPageSeries, path: Path) -> tuple[str, tuple[int, ...]]:
    """Returns axes and shape, with several samples per pixel as an axis C before Y and X."""
    axes, shape = series.axes, tuple(int(size) for size in series.shape)
    found = f"axes {axes} with shape {shape}"
    while axes and axes[-1] not in "XY" and shape[-1] == 1:
        axes, shape = axes[:-1], shape[:-1]
    if "S" in axes:
        at = axes.index("S")
        samples = shape[at]
        axes, shape = axes[:at] + axes[at + 1 :], shape[:at] + shape[at + 1 :]
        if samples > 1 and "C" in axes:
            raise UserError(path, found, "channels or samples, not both", "split the channels")
        if samples > 1:
            axes, shape = f"{axes[:-2]}C{axes[-2:]}", (*shape[:-2], samples, *shape[-2:])
    if 0 in shape or prod(series.keyframe.shape) == 0:
        raise UserError(path, f"an empty image: {found}", "at least one pixel", "export the file again")
    if not axes.endswith("YX") or "YX" not in series.keyframe.axes:
        allowed = "stacks of planes, with Y and X as the last axes"
        raise UserError(path, found, allowed, "reorder the axes and save it again")
    return axes, shape


def _json(series: TiffPageSeries) -> dict[str, Any]:
    text = series.keyframe.shaped_description if series.kind == "shaped" else None
    return json.loads(text) if text and text.startswith("{") else {}


def _description(tif: TiffFile, series: TiffPageSeries, kind: str) -> str:
    """Returns the text to copy: not the OME-XML or ImageJ metadata of a file that could not be read as such."""
    page = series.keyframe
    if kind == "ome":
        return tif.ome_metadata or ""
    if kind == "imagej":
        return page.imagej_description or ""
    if series.kind == "shaped":
        return page.shaped_description or ""
    return "" if page.is_ome or page.is_imagej or page.is_shaped else page.description


def _resolution(page: TiffPage) -> tuple[tuple[int, int], tuple[int, int]] | None:
    fractions = [page.tags.valueof(name) for name in ("XResolution", "YResolution")]
    sound = all(isinstance(value, tuple) and len(value) == 2 and min(value) > 0 for value in fractions)
    return tuple(fractions) if sound else None


def _resolution_unit(page: TiffPage) -> int:
    unit = page.tags.valueof("ResolutionUnit", default=2)
    return int(unit) if unit in RESOLUTION_UNITS else 1


def _date_time(page: TiffPage) -> str | None:
    text = page.tags.valueof("DateTime")
    return text if isinstance(text, str) and len(text) == 19 and text[16] == ":" else None


def _significant_bits(pixels: ElementTree.Element | None, page: TiffPage, dtype: np.dtype) -> int | None:
    text = pixels.get("SignificantBits", "0").strip() if pixels is not None else "0"
    stated = int(text) if text.isdecimal() else 0
    bits = stated or int(page.bitspersample)
    return bits if dtype.kind == "u" and 0 < bits < dtype.itemsize * 8 else None


def _channel_names(
    pixels: ElementTree.Element | None, listed: Mapping[str, Any], axes: str, shape: tuple[int, ...]
) -> tuple[str, ...]:
    """Returns the names of the channels: those of OME, else ImageJ labels that all planes of a channel share."""
    count = shape[axes.index("C")] if "C" in axes else 1
    if pixels is not None:
        names = [channel.get("Name", "") for channel in pixels.iterfind("{*}Channel")]
        return tuple(names) if len(names) == count and any(names) else ()
    labels = listed.get("Labels")
    if "C" not in axes or not isinstance(labels, list) or len(labels) != prod(shape[:-2]):
        return ()
    planes = np.array(labels, dtype=object).reshape(shape[:-2])
    shared = [set(row) for row in np.moveaxis(planes, axes.index("C"), 0).reshape(count, -1)]
    return tuple(row.pop() for row in shared) if all(len(row) == 1 for row in shared) else ()
