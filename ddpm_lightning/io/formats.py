"""Formats in which images are written if not in that of their source: OME-TIFF and OME-Zarr."""

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Literal

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.notes import Note
from ddpm_lightning.io.stacks import stem
from ddpm_lightning.io.zarr_metadata import KINDS
from ddpm_lightning.utils.errors import UserError

__all__ = ["OutputFormat", "converted", "name_in_format"]

#: ``same`` is the format of the source, OME-TIFF for files of microscopes; ``ome-zarr`` is version 0.5.
OutputFormat = Literal["same", "ome-tiff", "ome-zarr", "ome-zarr-0.4"]
#: For each format, the ending of names and ``ImageInfo.kind``.
WRITTEN = {
    "ome-tiff": (".ome.tif", "ome"),
    "ome-zarr": (".ome.zarr", KINDS["0.5"]),
    "ome-zarr-0.4": (".ome.zarr", KINDS["0.4"]),
}


def name_in_format(name: str, output_format: OutputFormat) -> str:
    """Returns the name of an image in a format; it is unchanged if the image has this format already."""
    if output_format == "same":
        return name
    ending, _ = WRITTEN[output_format]
    fitting = name.lower().endswith(ending) or PurePosixPath(name).suffix.lower() == ending[-5:]
    return name if fitting else f"{stem(name)}{ending}"


def converted(info: ImageInfo, output_format: OutputFormat, subject: object) -> tuple[ImageInfo, list[Note]]:
    """Returns the description of an image in a format, and a note on metadata that it loses.

    Axes, pixel size, distance of planes, interval of frames, channel names and significant bits are kept. All other
    metadata are kept only between files of the same family.

    Args:
        info: Description of the image.
        output_format: The format.
        subject: What an error is about.

    Raises:
        UserError: If the format has no such axes.
    """
    if output_format == "same" or info.kind == WRITTEN[output_format][1]:
        return info, []
    kind = WRITTEN[output_format][1]
    if info.kind in KINDS.values() and kind in KINDS.values():
        return replace(info, kind=kind), []
    if others := set(info.axes) - set("TCZYX"):
        raise UserError(
            subject,
            f"has axes that {output_format} does not have: {', '.join(sorted(others))}",
            allowed="T, C, Z, Y and X",
            remedy="name its axes, for example in ImageJ (Image > Properties), or leave out format=…",
        )
    changed = replace(info, kind=kind, channels=None, compression=None, bigtiff=False, tags=None)
    if info.tags is None:
        return changed, []
    text = (
        "written in another format: of the metadata, axes, pixel size, interval of frames and names of channels are "
        "copied, all others are not"
    )
    return changed, [Note("left_aside", 1, text)]
