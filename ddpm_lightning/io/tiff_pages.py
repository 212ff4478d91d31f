"""Metadata of each page of a TIFF: description, time, orientation, and private tags.

They are read unparsed, and only when a copy of the file is written: a long recording has thousands of pages.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tifffile import TIFF, TiffPage, TiffPageSeries

from ddpm_lightning.io.image import PageMetadata
from ddpm_lightning.io.notes import Note
from ddpm_lightning.io.tiff_missing import open_tiff

__all__ = ["StoredPages", "chosen_metadata", "lost_metadata"]

DESCRIPTION = 270
#: Public tags that are copied: names, makers, times, orientation, place, XMP. Others define how pixels are stored.
PUBLIC = {269, 271, 272, 274, 285, 286, 287, 297, 306, 315, 316, 700}
PRIVATE = 32768
#: Tags that point to other places in the file or describe its layout: EXIF, GPS, LSM, MetaMorph, FluoView, NIH, …
BOUND = {34665, 34853, 40965, 34412, 33628, 33629, 33630, 33631, 34361, 34362, 43314, *range(33445, 33453)}
BOUND |= {33471, 33560, 65420, 65421, 65426, 65432, 65433, 65001}
#: Tags that are written in another way (ImageJ's), or that define how pixels are stored.
OWN = {50838, 50839, 32995, 32996, 32997, 32998, 33421, 33422, 34016, 34017}
#: Size in bytes from which a tag that is identical to the first page's is not written again.
LARGE = 1024


@dataclass(frozen=True)
class StoredPages:
    """The pages of a file, which is reopened when they are read.

    Attributes:
        path: The file.
        indices: Number of the page of each plane; ``None`` for further planes of a page.
        start: First byte of the first plane, if the match of pages and planes is only assumed.
        size: Bytes of a plane.
    """

    path: Path
    indices: Sequence[int | None]
    start: int | None = None
    size: int = 0

    @classmethod
    def of(
        cls, path: Path, series: TiffPageSeries, planes: int, offset: int | None, size: int
    ) -> "StoredPages":
        """Finds the pages of the planes of a series.

        Args:
            path: The file.
            series: The series.
            planes: Number of its planes that are used, counted from the first.
            offset: First byte of the planes, if they are contiguous.
            size: Bytes of a plane.
        """
        if offset is not None:
            first = series.keyframe.index
            return cls(path, range(first, first + planes), offset, size)
        each = max(1, series.keyframe.nbytes // size)
        pages = [series[number] for number in range(-(-planes // each))]
        numbers = [page.index if page and isinstance(page.index, int) else None for page in pages]
        return cls(path, tuple(numbers[n // each] if n % each == 0 else None for n in range(planes)))

    def read(self) -> Sequence[PageMetadata]:
        """Returns the metadata of the page of each plane; empty if the file no longer exists."""
        if not self.path.is_file():
            return []
        state = self.path.stat()
        return _read(self, (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=1)  # the image and its maps are written side by side
def _read(stored: StoredPages, state: tuple[int, int]) -> Sequence[PageMetadata]:
    known: dict[bytes, bytes] = {}
    found: list[PageMetadata] = []
    with open_tiff(stored.path) as tif:
        for number, index in enumerate(stored.indices):
            own = PageMetadata()
            if index is not None and index < len(tif.pages):
                page = tif.pages.get(index, aspage=True, cache=False)
                if stored.start is None or page.dataoffsets[:1] == (stored.start + number * stored.size,):
                    own = _metadata(page.aspage(), known)
            first = found[0].tags if found else ()
            tags = tuple(tag for tag in own.tags if len(tag[3]) < LARGE or tag not in first)
            found.append(PageMetadata(_own_text(own.description, bool(found)), tags))
    return found


def chosen_metadata(pages: Sequence[PageMetadata], numbers: Sequence[int]) -> list[PageMetadata]:
    """Returns the metadata of some planes; empty if only the first page has any of its own."""
    chosen = [pages[number] for number in numbers] if pages else []
    return chosen if any(one != PageMetadata() for one in chosen) else []


def lost_metadata(page: TiffPage) -> list[Note]:
    """Returns a note on the tags of a page that cannot be copied."""
    lost = sorted({tag.code for tag in page.tags} & BOUND)
    if not lost:
        return []
    names = ", ".join(TIFF.TAGS.get(code, str(code)) for code in lost)
    text = f"metadata that describe the layout of the source file are not copied: {names}"
    return [Note("left_aside", len(lost), text)]


def _metadata(page: TiffPage, known: dict[bytes, bytes]) -> PageMetadata:
    handle, description, tags = page.parent.filehandle, b"", []
    for tag in page.tags:
        travels = tag.code in PUBLIC or (tag.code >= PRIVATE and tag.code not in BOUND | OWN)
        if tag.code != DESCRIPTION and not travels:
            continue
        handle.seek(tag.valueoffset)
        stored = handle.read(tag.valuebytecount)
        stored = known.setdefault(stored, stored)
        if tag.code == DESCRIPTION:
            description = stored.rstrip(b"\0")
        else:
            tags.append((tag.code, int(tag.dtype), tag.count, stored, False))
    return PageMetadata(description, tuple(tags))


def _own_text(text: bytes, follows: bool) -> bytes:
    """Returns the description of a page, unless it describes the whole file, which is written anew."""
    start = text[:64].lstrip()
    whole = not follows or start.startswith((b"<?xml", b"<OME", b"ImageJ="))
    if start.startswith(b"{") and b'"shape":' in text:
        try:
            whole = whole or not json.loads(text).keys() - {"shape", "axes", "truncated"}
        except ValueError:
            whole = False
    return b"" if whole else text
