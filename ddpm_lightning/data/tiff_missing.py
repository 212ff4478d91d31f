"""TIFF files that end before their description does: recordings that were stopped, and copies that were cut.

The planes that are there are used, as long as they form a whole part of the stack; which are missing becomes a note.
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from tifffile import TIFF, TiffFile, TiffFrame, TiffPage

from ddpm_lightning.data.grids import complete
from ddpm_lightning.data.image import ImageInfo, TiffTags
from ddpm_lightning.data.notes import Note
from ddpm_lightning.errors import is_out_of_memory, printable

#: Tags for width, height, bits, meaning, samples and their format.
LAYOUT = {256, 257, 258, 262, 277, 284, 339}
#: What tifffile finds to know a dialect by.
DESCRIBED = (
    "is_uniform",
    "is_shaped",
    "is_ome",
    "is_imagej",
    "is_scanimage",
    "is_lsm",
    "is_stk",
    "is_fluoview",
)

__all__ = ["differing_page", "is_stored", "lost_tags", "opened", "shorten", "sound_pages", "understood"]


def opened(path: Path, **options: Any) -> TiffFile:
    """Opens a file by itself, without the others of its set, and without the pages at its end that were cut.

    Args:
        path: The file.
        options: Further arguments of :class:`tifffile.TiffFile`.
    """
    options |= {"_multifile": False, "is_mmstack": False}
    tif = TiffFile(path, **options)
    end = _end_of_pages(tif)
    if end is None:
        return tif
    tif.close()
    return TiffFile(path, **options, size=end)


def understood(tif: TiffFile, path: Path, notes: list[Note]) -> TiffFile:
    """Returns the file, opened again as bare pages where tifffile does not understand how its images are described.

    Args:
        tif: The open file.
        path: Its name.
        notes: Where it is noted.
    """
    reason: Exception | None = None
    try:
        if not tif.series or tif.series[0].kind != "uniform" or differing_page(tif, tif.series[0]) is None:
            return tif
    except Exception as error:  # whatever odd descriptions do to the parser
        reason = error
    tif.close()
    # tifffile looks at a few pages to see whether all are alike; others may differ, which is no odd description.
    differ = reason is None or isinstance(reason, RuntimeError)
    tif = opened(path, **dict.fromkeys(["is_uniform"] if differ else DESCRIBED, False))
    try:
        tif.series  # noqa: B018  (computed once, here)
    except Exception as error:
        tif.close()
        raise reason or error from None
    if not differ:
        text = (
            f"the description of the images is not understood ({printable(reason)}): their axes are unknown"
        )
        notes.append(Note("guessed", 1, text))
    return tif


def _end_of_pages(tif: TiffFile) -> int | None:
    """Returns where the first of the pages that were cut begins; ``None`` where all are whole, or none is."""
    count = len(tif.pages)
    while count and not _parses(tif, count - 1):
        count -= 1
    if count in (0, len(tif.pages)):
        return None
    tif.filehandle.seek(_end_of_tags(tif, tif.pages[count - 1].offset))
    return struct.unpack(tif.tiff.offsetformat, tif.filehandle.read(tif.tiff.offsetsize))[0]


def _end_of_tags(tif: TiffFile, offset: int) -> int:
    """Returns where the reference to the next page is stored, after the tags of a page."""
    tif.filehandle.seek(offset)
    (tags,) = struct.unpack(tif.tiff.tagnoformat, tif.filehandle.read(tif.tiff.tagnosize))
    return offset + tif.tiff.tagnosize + tags * tif.tiff.tagsize


def _parses(tif: TiffFile, number: int) -> bool:
    try:
        page = tif.pages.get(number, aspage=True, cache=False)
        end = _end_of_tags(tif, page.offset) + tif.tiff.offsetsize
        return number == 0 or (end <= tif.filehandle.size and bool(page.dataoffsets))
    except Exception as error:  # whatever a page that was cut does to the parser
        if is_out_of_memory(error):
            raise
        return False


def differing_page(tif: TiffFile, pages: Iterable[TiffPage | TiffFrame]) -> int | None:
    """Returns the number of the first page whose size or type is not that of the first; ``None`` where all agree.

    Args:
        tif: The open file. tifffile takes such pages for what the first one is.
        pages: The pages.
    """
    first, known = None, set()
    for number, page in enumerate(pages):
        entries = _layout(tif, page.offset)
        if entries in known:
            continue
        # The same size may be stored in another way.
        whole = (
            tif.pages.get(page.index, aspage=True, cache=False)
            if isinstance(page.index, int)
            else page.aspage()
        )
        found = whole.shape, whole.dtype, whole.photometric
        first = first or found
        if found != first:
            return number
        known.add(entries)
    return None


def _layout(tif: TiffFile, offset: int) -> bytes:
    """The entries of a page that tell size and type of its pixels, as they are stored."""
    end = _end_of_tags(tif, offset)
    tif.filehandle.seek(offset + tif.tiff.tagnosize)
    table = tif.filehandle.read(end - offset - tif.tiff.tagnosize)
    size, code = tif.tiff.tagsize, f"{tif.byteorder}H"
    entries = (table[at : at + size] for at in range(0, len(table) - size + 1, size))
    return b"".join(entry for entry in entries if struct.unpack_from(code, entry)[0] in LAYOUT)


def lost_tags(tif: TiffFile) -> list[Note]:
    """Returns a note of the tags of the first page whose values lie beyond the end of the file."""
    page, format = tif.pages.first, tif.tiff
    end = _end_of_tags(tif, page.offset)
    start = page.offset + format.tagnosize
    tif.filehandle.seek(start)
    table = tif.filehandle.read(end - start)
    codes = {
        struct.unpack_from(f"{tif.byteorder}H", table, at)[0]
        for at in range(0, len(table) - format.tagsize + 1, format.tagsize)
    }
    lost = sorted(codes - {tag.code for tag in page.tags})
    if not lost:
        return []
    names = ", ".join(TIFF.TAGS.get(code, str(code)) for code in lost)
    return [Note("left_aside", len(lost), f"metadata that cannot be read are lost: {names}")]


def is_stored(tif: TiffFile, page: TiffPage | TiffFrame | None) -> bool:
    """Says whether all pixels of a page lie within the file."""
    if page is None or not page.dataoffsets or not all(page.databytecounts):
        return False
    end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
    return end <= tif.filehandle.size


def sound_pages(tif: TiffFile) -> int:
    """Returns how many pages are left without the last ones that lack pixels."""
    count = len(tif.pages)
    while count and not is_stored(tif, tif.pages[count - 1]):
        count -= 1
    return count


def shorten(info: ImageInfo, count: int) -> tuple[ImageInfo, Note]:
    """Describes what is left of an image of which only the first planes are there.

    Args:
        info: The image as it was meant to be.
        count: How many of its planes are there; at least one.

    Returns:
        The description of the largest whole part, and a note of what is missing.
    """
    stacked = info.axes[:-2]
    sizes = complete(info.shape[:-2], count)
    kept, promised = prod(sizes), info.plane_count
    what = ", ".join(
        f"{axis} = {size} of {of}" for axis, size, of in zip(stacked, sizes, info.shape, strict=False)
    )
    text = f"{promised - count} of {promised} planes are missing, from plane {count} on"
    if count > kept:
        text += f"; {count - kept} more are left aside, as they complete no position"
    note = Note("left_aside", promised - kept, f"{text}: restored are {what}")
    shape = (*sizes, *info.plane_shape)
    if info.tags:
        info = replace(info, tags=_shortened(info.tags, stacked, sizes, kept))
    return replace(info, shape=shape), note


def _shortened(tags: TiffTags, stacked: str, sizes: tuple[int, ...], kept: int) -> TiffTags:
    shape = (*sizes, *tags.shape[-2:])
    text, listed = tags.description, dict(tags.imagej)
    if isinstance(listed.get("Labels"), list):
        listed["Labels"] = listed["Labels"][:kept]
    if text.startswith("{") and '"shape":' in text:
        text = json.dumps({**json.loads(text), "shape": shape, "axes": f"{stacked}YX"})
    return replace(tags, shape=shape, description=text, imagej=listed)
