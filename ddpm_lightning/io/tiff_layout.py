"""Which pages of a TIFF form its image: without thumbnails, masks and pyramid levels, with pages appended to it."""

import json
import struct
from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Any

from tifffile import PHOTOMETRIC, TiffFile, TiffFrame, TiffPage, TiffPageSeries

from ddpm_lightning.io import scanimage
from ddpm_lightning.io.notes import Note, counted

__all__ = ["first_byte", "is_thumbnail", "main_series", "next_page", "pages_of", "run_of_planes"]

#: Axes whose meaning the file does not state.
UNKNOWN = "IQ"
#: A first page of at most this side that is smaller than another page by this factor is treated as a thumbnail.
THUMBNAIL, FACTOR = 512, 2
GREY = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.PALETTE)


def main_series(tif: TiffFile, edited: bool = False) -> tuple[TiffPageSeries, list[Note]]:
    """Finds the image of a file.

    Args:
        tif: The open file; it has at least one series.
        edited: Whether its OME-XML was already reduced to the planes that are read.

    Returns:
        The full-size image with all pages that continue it, and notes on what is guessed and what is ignored.
    """
    notes: list[Note] = []
    if tif.is_scanimage and (arranged := scanimage.series_of(tif, notes)):
        return arranged, notes
    series = _promised_by_imagej(tif) or _promised_by_json(tif) or tif.series
    main = _full_size(series, notes)
    equal = [one for one in series if one is main or _continues(main, one)]
    aside = [one for one in series if one not in equal]
    if len(equal) > 1:
        main = _joined(equal)
        axis = main.axes[0]
        text = f"the file contains {len(equal)} separate images of equal size: read as one stack along axis {axis}"
        notes.append(Note("guessed", len(equal), text))
    if levels := sum(len(one.levels) - 1 for one in equal):
        notes.append(
            Note("left_aside", levels, f"reduced copies of the image (pyramid levels) are ignored: {levels}")
        )
    if aside:
        listed = ", ".join(f"{one.axes} {one.shape}" for one in aside[:3]) + (
            ", ..." if len(aside) > 3 else ""
        )
        text = f"only one of the {len(aside) + 1} images is used, {main.axes} {main.shape}; ignored: {listed}"
        notes.append(Note("left_aside", len(aside), text))
    if not edited:
        main = _extended(tif, main, notes)
    if (
        main.kind in ("generic", "uniform")
        and len(main) == len(tif.pages)
        and (planes := run_of_planes(tif)) > 1
    ):
        text = (
            f"the end of the file, which describes its pages, is missing: read as {planes} consecutive planes"
        )
        notes.append(Note("guessed", planes, text))
        shape, axes = (planes, *main.keyframe.shape), f"I{main.keyframe.axes}"
        main = TiffPageSeries([main.keyframe], shape, main.dtype, axes, kind=main.kind)
    return main, notes


def pages_of(series: TiffPageSeries) -> Iterator[TiffPage | TiffFrame | None]:
    """Yields the existing pages of a series; its description may announce any number of further ones."""
    for number in range(min(len(series), len(series.keyframe.parent.pages))):
        try:
            yield series[number]
        except IndexError:
            return


def first_byte(tif: TiffFile, series: TiffPageSeries) -> int | None:
    """Returns the first byte of the planes of a series if they are stored contiguously; else ``None``."""
    page = series.keyframe
    if page.axes.endswith("S") or not page.is_final or not page.dataoffsets:
        return None
    if run_of_planes(tif) > 1:
        return page.dataoffsets[0]
    start = series.dataoffset
    if start is not None and len(series) > 1 and len(tif.pages) > page.index + 1:
        # tifffile trusts a description of more planes than pages, although other data may be stored in between.
        following = (tif.pages[page.index + 1].dataoffsets or (0,))[0]
        if start < following < start + prod(series.shape) * series.dtype.itemsize:
            return start if following == start + page.nbytes else None
    return start


def next_page(tif: TiffFile) -> int:
    """Returns the offset of the page after the last one: 0 in a complete file, beyond its end in a truncated one."""
    offset = tif.pages.next_page_offset
    assert offset is not None, "the pages have not been read"
    tif.filehandle.seek(offset)
    reference = tif.filehandle.read(tif.tiff.offsetsize)
    if len(reference) < tif.tiff.offsetsize:
        return tif.filehandle.size
    return int(struct.unpack(tif.tiff.offsetformat, reference)[0])


def run_of_planes(tif: TiffFile) -> int:
    """Returns the number of contiguous planes in a file whose page descriptions after the first one are lost.

    Many programs write all planes first, and then the pages that describe them. If the end of the file is lost, the
    first page still says where the planes begin, and the offset of the second page tells how many there were.
    """
    page, following = tif.pages.first, next_page(tif)
    if not page.is_final or not page.dataoffsets or not page.nbytes or not following:
        return 1
    if len(tif.pages) > 1:
        second = tif.pages[1]
        following = second.offset if second.dataoffsets[:1] == (page.dataoffsets[0] + page.nbytes,) else 0
    planes, rest = divmod(following - page.dataoffsets[0], page.nbytes)
    return int(planes) if planes > len(tif.pages) and rest < 16 else 1


def _full_size(series: list[TiffPageSeries], notes: list[Note]) -> TiffPageSeries:
    """Returns the first series that is not a thumbnail, a mask or a pyramid level."""
    full = [one for one in series if not _is_aside(one.keyframe)]
    if not full:
        return max(series, key=lambda one: prod(one.keyframe.shape))
    first = full[0]
    if first.kind not in ("generic", "shaped"):
        return first
    planes: Counter[tuple[Any, ...]] = Counter()
    for one in full:
        planes[_sort(one.keyframe)] += _planes(one)
    seen = {_sort(first.keyframe)}
    for other in full:
        sort = _sort(other.keyframe)
        if sort in seen or not _is_grey(other.keyframe):
            continue
        seen.add(sort)
        larger = prod(other.keyframe.shape) > prod(first.keyframe.shape)
        if planes[sort] >= len(first) and is_thumbnail(first.keyframe, other.keyframe):
            what = f"a thumbnail of the image {other.shape}"
        elif planes[sort] > 1 and larger and len(first) == 1:
            what = f"a preview of the {planes[sort]} larger pages"
        else:
            continue
        which = "first" if first is full[0] else "next"
        notes.append(Note("guessed", 1, f"the {which} page, {first.shape}, is ignored as {what}"))
        # What follows may be a level of a pyramid that rises, and no more than a thumbnail of the next.
        first = other
    return first


def _is_aside(page: TiffPage) -> bool:
    return page.is_reduced or page.is_mask or page.is_subifd


def _is_grey(page: TiffPage) -> bool:
    return page.dtype is not None and page.photometric in GREY


def is_thumbnail(page: TiffPage, of: TiffPage) -> bool:
    """Says whether a page is a reduced copy of a grey page, as far as its size tells."""
    height, width = page.imagelength, page.imagewidth
    if not _is_grey(of) or not min(height, width) or max(height, width) > THUMBNAIL:
        return False
    factor = max(of.imagelength, of.imagewidth) / max(height, width)
    near = abs(of.imagelength / factor - height) <= 1 and abs(of.imagewidth / factor - width) <= 1
    return factor >= FACTOR and near


def _sort(page: TiffPage) -> tuple[Any, ...]:
    """Returns what equal pages have in common."""
    return page.shape, page.dtype, page.photometric


def _continues(main: TiffPageSeries, other: TiffPageSeries) -> bool:
    """Says whether a series has the same kind of pages, in a dialect that does not separate images."""
    if {main.kind, other.kind} - {"generic", "shaped"} or main.is_truncated or other.is_truncated:
        return False
    if _is_aside(other.keyframe) or _sort(main.keyframe) != _sort(other.keyframe):
        return False
    return (main.axes, main.shape) == (other.axes, other.shape) or (_unnamed(main) and _unnamed(other))


def _unnamed(series: TiffPageSeries) -> bool:
    """Says whether the axes along which the pages are stacked are unknown."""
    stacked = series.axes.removesuffix(series.keyframe.axes)
    return not stacked.strip(UNKNOWN) and len(series) * prod(series.keyframe.shape) == prod(series.shape)


def _index(page: TiffPage | TiffFrame | None) -> Any:
    assert page is not None, "a page is missing"
    return page.index


def _joined(equal: list[TiffPageSeries]) -> TiffPageSeries:
    pages = [one[number] for one in equal for number in range(len(one))]
    first = equal[0]
    if all(_unnamed(one) for one in equal):
        pages = sorted(pages, key=_index)
        axes, shape = first.keyframe.axes, first.keyframe.shape
        count = len(pages)
    else:
        axes, shape, count = first.axes, first.shape, len(equal)
    letter = next(letter for letter in "IQNMLKJ" if letter not in axes)
    return TiffPageSeries(pages, (count, *shape), first.dtype, letter + axes, kind=first.kind, squeeze=False)


def _promised_by_imagej(tif: TiffFile) -> list[TiffPageSeries] | None:
    """Returns the image that ImageJ metadata describe if tifffile ignores them because the file is too short."""
    if not tif.is_imagej or tif.is_ome or tif.series[0].kind == "imagej" or tif.imagej_metadata is None:
        return None
    listed, page = tif.imagej_metadata, tif.pages.first
    sizes = {
        axis: int(listed.get(key, 1)) for axis, key in (("T", "frames"), ("Z", "slices"), ("C", "channels"))
    }
    if page.ndim != 2 or min(sizes.values()) < 1:
        return None
    if prod(sizes.values()) == 1:
        sizes = {"I": max(1, int(listed.get("images", 1)))}
    axes = "".join(axis for axis, size in sizes.items() if size > 1)
    shape = (*(sizes[axis] for axis in axes), *page.shape)
    pages = [page] if len(tif.pages) == 1 else tif.pages[:]
    return [TiffPageSeries(pages, shape, page.dtype, f"{axes}YX", parent=tif, kind="imagej")]


def _promised_by_json(tif: TiffFile) -> list[TiffPageSeries] | None:
    """Returns the image that tifffile's JSON describes if the file has fewer pages than that."""
    first, page = tif.series[0], tif.pages.first
    text = page.shaped_description or ""
    if first.kind != "shaped" or first.keyframe.index != 0 or not text.startswith("{"):
        return None
    listed = json.loads(text)
    shape, axes = tuple(listed["shape"]), str(listed.get("axes", ""))
    if first.shape == shape or first.shape != page.shape or shape[-page.ndim :] != page.shape:
        return None
    if len(axes) != len(shape):
        axes = "Q" * (len(shape) - page.ndim) + page.axes
    return [TiffPageSeries(tif.pages[:], shape, page.dtype, axes, parent=tif, kind="shaped", squeeze=False)]


def _extended(tif: TiffFile, main: TiffPageSeries, notes: list[Note]) -> TiffPageSeries:
    """Returns the series with the pages that were appended to an ImageJ file; pages in no series are ignored."""
    extra = _undescribed(tif, main) if main.kind in ("imagej", "ome") and len(tif.pages) > 1 else []
    if not extra:
        return main
    stacked = main.axes.removesuffix(main.keyframe.axes)
    alike = all(_sort(main.keyframe) == _sort(page) and not page.is_reduced for page in extra)
    if alike and main.kind == "imagej" and len(stacked) <= 1 and _planes(main) + len(extra) == len(tif.pages):
        axes = main.axes if stacked else f"I{main.axes}"
        text = (
            f"pages beyond those that the file describes are read as well, along axis {axes[0]}: {len(extra)}"
        )
        notes.append(Note("guessed", len(extra), text))
        pages = [*(main[number] for number in range(_planes(main))), *extra]
        shape = (len(pages), *main.keyframe.shape)
        return TiffPageSeries(pages, shape, main.dtype, axes, parent=tif, kind=main.kind)
    listed = ", ".join(sorted({f"{page.shape} {page.dtype}" for page in extra}))
    text = f"{counted(len(extra), 'page is', 'pages are')} ignored as not part of the image: {listed}"
    notes.append(Note("left_aside", len(extra), text))
    return main


def _planes(series: TiffPageSeries) -> int:
    return prod(series.shape) // max(1, prod(series.keyframe.shape))


def _undescribed(tif: TiffFile, main: TiffPageSeries) -> list[TiffPage]:
    """Returns the pages that belong to no series."""
    start, total = main.dataoffset, len(tif.pages)
    size = prod(main.shape) * main.dtype.itemsize

    def within(page: TiffPage | TiffFrame) -> bool:
        return start is not None and start <= (page.dataoffsets or (start,))[0] < start + size

    # Most files contain what they describe, so thousands of pages need not be examined one by one.
    described = sum(min(len(one), _planes(one)) for one in tif.series)
    alone = start is not None and len(tif.series) == 1
    if described == total and (not alone or within(tif.pages[total - 1])):
        return []
    if alone:
        return [page.aspage() for page in tif.pages if not within(page)]
    # tifffile treats all pages of a compressed ImageJ file as its stack.
    pages = [page for one in tif.series for page in list(one)[: _planes(one)]]
    used = {page.index for page in pages if page is not None}
    return [page.aspage() for page in tif.pages if page.index not in used]
