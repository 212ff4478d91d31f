"""TIFF files with fewer planes than their metadata describe: interrupted recordings and truncated copies.

The stored planes are used if they form a complete part of the stack. A note says which ones are missing.
"""

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from tifffile import TIFF, TiffFile, TiffFrame, TiffPage

from ddpm_lightning.io.grids import complete
from ddpm_lightning.io.image import ImageInfo, TiffTags
from ddpm_lightning.io.notes import Note, counted
from ddpm_lightning.utils.errors import is_out_of_memory, printable

#: Tags for width, height, bits, meaning, samples and their format.
LAYOUT = {256, 257, 258, 262, 277, 284, 339}
#: Flags by which tifffile recognises a dialect.
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

__all__ = [
    "differing_page",
    "is_stored",
    "unreadable_tags",
    "open_tiff",
    "describe_complete_part",
    "intact_pages",
    "with_readable_series",
]


def open_tiff(path: Path, **options: Any) -> TiffFile:
    """Opens a file on its own, without the other files of its set and without truncated pages at its end.

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


def with_readable_series(tif: TiffFile, path: Path, notes: list[Note]) -> TiffFile:
    """Returns the file, reopened as plain pages if tifffile cannot parse the description of its images.

    Args:
        tif: The open file.
        path: Its path.
        notes: The list to which a note is added.
    """
    reason: Exception | None = None
    try:
        if not tif.series or tif.series[0].kind != "uniform" or differing_page(tif, tif.series[0]) is None:
            return tif
    except Exception as error:  # malformed descriptions make the parser fail in many ways
        reason = error
    tif.close()
    # tifffile compares only a few pages; if others differ, the description itself may still be valid.
    differ = reason is None or isinstance(reason, RuntimeError)
    tif = open_tiff(path, **dict.fromkeys(["is_uniform"] if differ else DESCRIBED, False))
    try:
        tif.series  # noqa: B018  (computed once, here)
    except Exception as error:
        tif.close()
        raise reason or error from None
    if not differ:
        text = f"the metadata that describe the images cannot be parsed ({printable(reason)}): the axes are unknown"
        notes.append(Note("guessed", 1, text))
    return tif


def _end_of_pages(tif: TiffFile) -> int | None:
    """Returns the position of the first truncated page; ``None`` if all pages are complete, or none is."""
    count = len(tif.pages)
    while count and not _parses(tif, count - 1):
        count -= 1
    if count in (0, len(tif.pages)):
        return None
    tif.filehandle.seek(_end_of_tags(tif, tif.pages[count - 1].offset))
    return struct.unpack(tif.tiff.offsetformat, tif.filehandle.read(tif.tiff.offsetsize))[0]


def _end_of_tags(tif: TiffFile, offset: int) -> int:
    """Returns the position of the reference to the next page, after the tags of a page."""
    tif.filehandle.seek(offset)
    (tags,) = struct.unpack(tif.tiff.tagnoformat, tif.filehandle.read(tif.tiff.tagnosize))
    return offset + tif.tiff.tagnosize + tags * tif.tiff.tagsize


def _parses(tif: TiffFile, number: int) -> bool:
    try:
        page = tif.pages.get(number, aspage=True, cache=False)
        end = _end_of_tags(tif, page.offset) + tif.tiff.offsetsize
        return number == 0 or (end <= tif.filehandle.size and bool(page.dataoffsets))
    except Exception as error:  # a truncated page makes the parser fail in many ways
        if is_out_of_memory(error):
            raise
        return False


def differing_page(tif: TiffFile, pages: Iterable[TiffPage | TiffFrame | None]) -> int | None:
    """Returns the number of the first page that differs from page 0 in size or type; ``None`` if all agree.

    Args:
        tif: The open file. tifffile assumes that all pages are like the first one.
        pages: The pages.
    """
    first, known = None, set()
    for number, page in enumerate(pages):
        assert page is not None, "a page is missing"
        entries = _layout(tif, page.offset)
        if entries in known:
            continue
        # The same size may be stored differently.
        own = isinstance(page.index, int)
        parsed = (tif.pages.get(page.index, aspage=True, cache=False) if own else page).aspage()
        found = parsed.shape, parsed.dtype, parsed.photometric
        first = first or found
        if found != first:
            return number
        known.add(entries)
    return None


def _layout(tif: TiffFile, offset: int) -> bytes:
    """Returns the raw tag entries of a page that define the size and type of its pixels."""
    return b"".join(entry for code, entry in _tags(tif, offset) if code in LAYOUT)


def _tags(tif: TiffFile, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yields code and raw entry of each tag of a page."""
    end, start, size = _end_of_tags(tif, offset), offset + tif.tiff.tagnosize, tif.tiff.tagsize
    tif.filehandle.seek(start)
    table = tif.filehandle.read(end - start)
    for at in range(0, len(table) - size + 1, size):
        entry = table[at : at + size]
        yield struct.unpack_from(f"{tif.byteorder}H", entry)[0], entry


def unreadable_tags(tif: TiffFile) -> list[Note]:
    """Returns a note on the tags of the first page whose values are beyond the end of the file."""
    page = tif.pages.first
    lost = sorted({code for code, _ in _tags(tif, page.offset)} - {tag.code for tag in page.tags})
    if not lost:
        return []
    names = ", ".join(TIFF.TAGS.get(code, str(code)) for code in lost)
    return [Note("left_aside", len(lost), f"metadata that cannot be read are not copied: {names}")]


def is_stored(tif: TiffFile, page: TiffPage | TiffFrame | None) -> bool:
    """Says whether all pixels of a page are within the file."""
    if page is None or not page.dataoffsets or not all(page.databytecounts):
        return False
    end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
    return end <= tif.filehandle.size


def intact_pages(tif: TiffFile) -> int:
    """Returns the number of pages up to the last one whose pixels are complete."""
    count = len(tif.pages)
    while count and not is_stored(tif, tif.pages[count - 1]):
        count -= 1
    return count


def describe_complete_part(info: ImageInfo, count: int) -> tuple[ImageInfo, Note]:
    """Describes the complete part of an image of which only the first planes are stored.

    Args:
        info: Description of the image as planned.
        count: Number of stored planes; at least one.

    Returns:
        The description of the largest complete part, and a note on what is missing.
    """
    stacked = info.axes[:-2]
    sizes = complete(info.shape[:-2], count)
    kept, promised = prod(sizes), info.plane_count
    what = ", ".join(
        f"{axis} = {size} of {of}" for axis, size, of in zip(stacked, sizes, info.shape, strict=False)
    )
    text = f"the file contains only {count} of the {promised} planes that its metadata describe"
    if count > kept:
        text += f"; {counted(count - kept, 'plane')} of an incomplete position ignored"
    note = Note("left_aside", promised - kept, f"{text}; the result has {what}")
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
