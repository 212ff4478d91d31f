"""Writes the tags of a TIFF from an :class:`~ddpm_lightning.io.image.ImageInfo`.

The metadata of the source file are copied, and only what changed is edited: sizes after a choice of channels, the data
type, and the positions of the planes in the file. So metadata of vendors are kept. If the image was not read from a
TIFF, its metadata are made from the fields of its description.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from math import prod
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree

import numpy as np
from tifffile import OmeXml, TiffWriter, imagej_description, imagej_metadata_tag

from ddpm_lightning.io import scanimage
from ddpm_lightning.io.image import ImageInfo, TiffTags
from ddpm_lightning.io.ome_edit import drop_children, drop_other_images, renumber
from ddpm_lightning.io.tiff_metadata import ome_pixels
from ddpm_lightning.io.tiff_pages import chosen_metadata

LOSSLESS = ("LZW", "DEFLATE", "ADOBE_DEFLATE", "PACKBITS", "ZSTD", "LZMA")
OME_TYPES = {"float32": "float", "float64": "double"}
IMAGEJ_SIZES = {"C": "channels", "Z": "slices", "T": "frames"}
CENTIMETRE, NO_UNIT = 3, 1


def page_options(info: ImageInfo, derived: bool, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arguments of ``TiffWriter.write`` that copy the metadata of the source.

    Args:
        info: Description of the image.
        derived: Whether the pixels are a different quantity from the source, such as a standard deviation; the display
            range and palette of the source then do not apply.
        name: Name of the file, which is part of the identifier of an OME-TIFF.

    Returns:
        The arguments for every page, and those for the first page only.
    """
    tags = info.tags or TiffTags(info.axes, info.shape, info.dtype)
    every = {"photometric": "minisblack", "metadata": None, "software": False, **_resolution(info, tags)}
    if not derived:
        every["photometric"] = tags.photometric
        every |= {"colormap": tags.colormap} if tags.photometric == "palette" else {}
    if info.kind == "ome":
        text = _ome_xml(info, tags, derived, name)
    elif info.kind == "imagej":
        text = _imagej_list(info, tags, derived)
    elif info.kind == "scanimage":
        text = tags.description
    else:
        text = _plain_text(info, tags)
    first = {
        "description": text.encode() or None,
        # Readers recognise ScanImage by this tag, which contains its settings.
        "software": scanimage.edited(tags.software, info).encode() if tags.software else "ddpm_lightning",
        "datetime": None if tags.pages else tags.date_time,
        "extratags": list(imagej_metadata_tag(_imagej_binary(info, tags, derived), tags.byteorder)),
    }
    return every, first


def plane_options(info: ImageInfo) -> list[dict[str, Any]]:
    """Returns the arguments of ``TiffWriter.write`` for each plane: the metadata of its page, if any."""
    if info.tags is None or info.tags.pages is None:
        return []
    pages = chosen_metadata(info.tags.pages.read(), _source_planes(info, info.tags))
    texts = [{"description": one.description} if one.description else {} for one in pages]
    tags = [{"extratags": list(one.tags)} if one.tags else {} for one in pages]
    return [text | more for text, more in zip(texts, tags, strict=True)]


def _source_planes(info: ImageInfo, tags: TiffTags) -> list[int]:
    """Returns the running numbers, in the source, of the planes of an image after a choice of channels."""
    stacked = tags.shape[:-2]
    numbers = np.arange(prod(stacked)).reshape(stacked)
    if info.channels is not None and "C" in tags.axes:
        numbers = numbers.take(info.channels, axis=tags.axes.index("C"))
    return [int(number) for number in numbers.ravel()]


def codec_options(info: ImageInfo) -> dict[str, Any]:
    """Returns the compression of the source if it is lossless and can be written here, else deflate, else none."""
    if info.compression is None:
        return {}
    # Few programs support the predictor for floats (ImageJ does not): it is used only if the source used it.
    source = info.tags
    predictor = bool(source and source.predictor and (info.dtype.kind != "f" or source.dtype.kind == "f"))
    wanted = info.compression if info.compression in LOSSLESS else "ADOBE_DEFLATE"
    for codec, differences in ((wanted, predictor), (wanted, False), ("ADOBE_DEFLATE", False)):
        options = {"compression": codec, "predictor": differences}
        try:
            with TiffWriter(BytesIO()) as trial:
                trial.write(np.zeros((16, 16), info.dtype), photometric="minisblack", **options)
        except (ValueError, KeyError, RuntimeError, NotImplementedError):
            continue
        return options
    return {}


def _resolution(info: ImageInfo, tags: TiffTags) -> dict[str, Any]:
    """Returns XResolution and YResolution: the fractions of the source, else pixels per µm (ImageJ) or per cm."""
    if tags.resolution:
        return {"resolution": tags.resolution, "resolutionunit": tags.resolution_unit}
    if info.pixel_size is None:
        return {}
    y, x = info.pixel_size
    if info.kind == "imagej":
        return {"resolution": (1 / x, 1 / y), "resolutionunit": NO_UNIT}
    return {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": CENTIMETRE}


def _plain_text(info: ImageInfo, tags: TiffTags) -> str:
    """Returns the text or JSON of the source; also JSON if the axes have names that must be kept."""
    kept = _json(tags.description)
    unchanged = (
        tags.description and tuple(kept.get("shape", info.shape)) == info.shape and "truncated" not in kept
    )
    if unchanged or (not kept and info.axes[:-2] in ("", "I", "Q")):
        return tags.description
    kept = {key: value for key, value in kept.items() if key not in ("shape", "axes", "truncated")}
    if not tags.description:
        kept |= {"spacing": info.z_step, "zunit": "um"} if info.z_step else {}
        kept |= {"finterval": info.time_step} if info.time_step else {}
    return json.dumps({"shape": info.shape, **kept, "axes": info.axes})


def _json(text: str) -> dict[str, Any]:
    try:
        return json.loads(text) if text.startswith("{") and '"shape":' in text else {}
    except ValueError:
        return {}


def _imagej_list(info: ImageInfo, tags: TiffTags, derived: bool) -> str:
    """Returns the lines ``key=value`` at the beginning of an ImageJ hyperstack."""
    text = tags.description
    if not text:
        unit = "um" if info.pixel_size else None
        sampling = {"unit": unit, "spacing": info.z_step, "finterval": info.time_step}
        text = imagej_description(info.shape, axes=info.axes, **_known(sampling))
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    sizes = dict(zip(info.axes, info.shape, strict=True))
    counts = {"images": info.plane_count} | {key: sizes.get(axis, 1) for axis, key in IMAGEJ_SIZES.items()}
    # Planes may have been left out (channels), missing, or appended.
    lines |= {key: count for key, count in counts.items() if key in lines or count > 1}
    if info.channels is not None and "C" not in info.axes and "mode" in lines:
        lines["mode"] = "grayscale"
    if derived:
        lines.pop("min", None)
        lines.pop("max", None)
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    # ImageJ reads the lines as Java properties, which escape non-ASCII letters in this way.
    return "".join(letter if letter.isascii() else f"\\u{ord(letter):04X}" for letter in text)


def _imagej_binary(info: ImageInfo, tags: TiffTags, derived: bool) -> dict[str, Any]:
    """Returns labels, ranges and look-up tables of the channels that are kept."""
    kept = dict(tags.imagej) if info.kind == "imagej" else {}
    if derived:
        kept.pop("Ranges", None)
    if info.channels is None or "C" not in tags.axes:
        return kept
    count = tags.shape[tags.axes.index("C")]
    if isinstance(kept.get("Labels"), list) and len(kept["Labels"]) == prod(tags.shape[:-2]):
        kept["Labels"] = [kept["Labels"][number] for number in _source_planes(info, tags)]
    if len(kept.get("Ranges", ())) == 2 * count:
        kept["Ranges"] = np.reshape(kept["Ranges"], (count, 2))[list(info.channels)].ravel().tolist()
    if isinstance(kept.get("LUTs"), list) and len(kept["LUTs"]) == count:
        kept["LUTs"] = [kept["LUTs"][channel] for channel in info.channels]
    return kept


def _ome_xml(info: ImageInfo, tags: TiffTags, derived: bool, name: str) -> str:
    """Returns the OME-XML of the source with one Image, whose planes are stored in this file in DimensionOrder."""
    identifier = f"urn:uuid:{uuid5(NAMESPACE_URL, f'{tags.description}{replace(info, tags=None)}{name}')}"
    root = ElementTree.fromstring(tags.description or _new_ome_xml(info))
    if (found := ome_pixels(root, info.plane_shape)) is None:
        raise ValueError("the OME-XML does not describe an image of this size")
    image, pixels = found
    namespace = root.tag.removesuffix("OME")
    ElementTree.register_namespace("", namespace.strip("{}"))
    ElementTree.register_namespace("xsi", "http://www.w3.org/2001/XMLSchema-instance")
    root.set("UUID", identifier)
    drop_other_images(root, image)
    pixels.set("Type", OME_TYPES.get(info.dtype.name, info.dtype.name))
    pixels.set("BigEndian", "true" if tags.byteorder == ">" else "false")
    stated = pixels.get("SignificantBits")
    if derived or (stated and info.bits is None and stated != str(info.dtype.itemsize * 8)):
        # It refers to another type, or values exceed it.
        pixels.attrib.pop("SignificantBits", None)
    if tags.description and info.channels is not None and "C" in tags.axes:
        renumber(pixels, "C", list(info.channels), tags.shape[tags.axes.index("C")])
    # The positions of the planes in the source, and their checksums, no longer apply.
    drop_children(pixels, "TiffData", "BinData", "MetadataOnly")
    for plane in pixels.findall("{*}Plane"):
        drop_children(plane, "HashSHA1")
    data = ElementTree.Element(f"{namespace}TiffData", {"IFD": "0", "PlaneCount": str(info.plane_count)})
    pixels.insert(len(pixels.findall("{*}Channel")), data)
    return '<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(root, encoding="unicode")


def _new_ome_xml(info: ImageInfo) -> str:
    y, x = info.pixel_size or (None, None)
    fields = {
        "PhysicalSizeX": x,
        "PhysicalSizeY": y,
        "PhysicalSizeZ": info.z_step,
        "TimeIncrement": info.time_step,
        "SignificantBits": info.bits,
        "Channel": {"Name": list(info.channel_names)} if info.channel_names else None,
    }
    stored = (info.plane_count, 1, 1, *info.plane_shape, 1)
    xml = OmeXml()
    xml.addimage(dtype=info.dtype, shape=info.shape, storedshape=stored, axes=info.axes, **_known(fields))
    return xml.tostring()


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}
