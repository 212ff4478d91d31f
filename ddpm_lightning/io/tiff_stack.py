"""TIFF files read plane by plane: however large the file, only one plane is in memory.

:class:`TiffStack` reads the image of a TIFF, BigTIFF, OME-TIFF, ImageJ hyperstack or ScanImage file as a sequence of
grey planes (H, W). Values are those of the file, except that "0 is white" images of unsigned integers are inverted
(maximum minus value), so that more light is always a larger number.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np

from ddpm_lightning.io.image import ImageInfo, invert_white
from ddpm_lightning.io.notes import Note, counted
from ddpm_lightning.io.ome_xml import xml_of_file
from ddpm_lightning.io.plane_reader import PlaneReader, read_errors
from ddpm_lightning.io.tiff_layout import first_byte, main_series, next_page, pages_of, run_of_planes
from ddpm_lightning.io.tiff_metadata import describe
from ddpm_lightning.io.tiff_missing import (
    describe_complete_part,
    differing_page,
    intact_pages,
    is_stored,
    open_tiff,
    unreadable_tags,
    with_readable_series,
)
from ddpm_lightning.io.tiff_pages import StoredPages, lost_metadata
from ddpm_lightning.utils.errors import UserError

__all__ = ["TiffStack", "read_image", "read_info"]

READABLE = "TIFF, BigTIFF, OME-TIFF or ImageJ files of grey planes"


def read_info(path: str | Path) -> ImageInfo:
    """Returns axes, data type, sampling and dialect of a TIFF without reading pixels.

    Raises:
        UserError: If the file cannot be used.
    """
    with TiffStack(path) as stack:
        return stack.info


def read_image(path: str | Path) -> np.ndarray:
    """Reads a file that holds one grey plane.

    Args:
        path: TIFF of any dialect; further axes of length 1 are ignored.

    Returns:
        Array with shape (H, W) in the dtype of the file.

    Raises:
        UserError: If the file is missing, damaged, in colour, a stack, empty, or contains NaN or infinity.
    """
    with TiffStack(path) as stack:
        if len(stack) != 1:
            found = f"a stack of {len(stack)} planes (axes {stack.info.axes}, shape {stack.info.shape})"
            raise UserError(path, found, "one grey plane (axes YX)", "save each plane as a file of its own")
        return stack.plane(0)


class TiffStack(PlaneReader):
    """The grey planes of a TIFF's first image, read one at a time.

    Args:
        path: The file.
        channels: Channels to keep, by index or by name; ``None`` keeps all. A single channel drops the axis C.

    Attributes:
        info: Description of the planes that this stack yields.

    Raises:
        UserError: If the file cannot be used. Opening it also checks that all planes are stored.
    """

    def __init__(self, path: str | Path, channels: int | str | Sequence[int | str] | None = None) -> None:
        super().__init__(path)
        self._decoded: tuple[int, np.ndarray] | None = None
        with read_errors(self.path, "TIFF", READABLE):
            if not self.path.is_file():
                found = "a folder" if self.path.is_dir() else "no such file"
                raise UserError(path, found, READABLE, "give the name of an existing image file")
            if self.path.stat().st_size == 0:
                raise UserError(path, "an empty file (0 bytes)", READABLE, "copy or export the file again")
            self._tif = open_tiff(self.path)
        try:
            with read_errors(self.path, "TIFF", READABLE):
                self._open_planes(edited=self._read_ome())
            self._choose(channels)
            if self.info.tags and self.info.tags.photometric == "miniswhite":
                self.check_bits()  # they determine the white level for the inversion
        except BaseException:
            self._tif.close()
            raise

    def _read_ome(self) -> bool:
        """Reopens the file with an OME-XML of its own planes only, or without OME-XML if it cannot be used."""
        edited = False
        if self._tif.is_ome:
            pages = max(intact_pages(self._tif), run_of_planes(self._tif))
            xml, notes = xml_of_file(self._tif, self.path, pages)
            self.notes += notes
            edited = bool(xml)
            if xml is not None:
                self._tif.close()
                self._tif = open_tiff(self.path, is_ome=edited, omexml=xml)
        self._tif = with_readable_series(self._tif, self.path, self.notes)
        return edited

    def _open_planes(self, edited: bool) -> None:
        if not self._tif.series:
            raise UserError(self.path, "a TIFF without an image", READABLE, "copy or export the file again")
        self.notes += unreadable_tags(self._tif)
        self._series, notes = main_series(self._tif, edited)
        self.notes += notes
        self.info = describe(self._tif, self._series, self.path, self.notes)
        page = self._series.keyframe
        self._planes_per_page = prod(page.shape) // prod(self.info.plane_shape)
        self._offset = first_byte(self._tif, self._series)
        self.notes += lost_metadata(page)
        count = self._stored_planes()
        if missing := count < self.info.plane_count:
            self.info, note = describe_complete_part(self.info, count)
            self.notes.append(note)
        following, count = next_page(self._tif), len(self._tif.pages)
        if 0 < following < self._tif.filehandle.size:
            found = (
                f"damaged: its list of pages does not end after the {counted(count, 'page')} that can be read"
            )
            raise UserError(self.path, found, "complete files", "copy or export the file again")
        if following and not missing:
            text = f"the file is truncated after {counted(count, 'page')}; anything that followed is lost"
            self.notes.append(Note("left_aside", 1, text))
        size = prod(self.info.plane_shape) * self.info.dtype.itemsize
        pages = StoredPages.of(self.path, self._series, self.info.plane_count, self._offset, size)
        self.info = replace(self.info, tags=self.info.tags and replace(self.info.tags, pages=pages))

    def _stored_planes(self) -> int:
        """Counts the stored planes before the first missing one.

        Raises:
            UserError: If there are none, or if stored planes follow a missing one.
        """
        expected = self.info.plane_count
        if self._offset is not None:
            size = prod(self.info.plane_shape) * self.info.dtype.itemsize
            count = max(0, min(expected, (self._tif.filehandle.size - self._offset) // size))
            if not count:
                end, there = self._offset + size, self._tif.filehandle.size
                raise self._incomplete(f"it has {there} bytes, but the pixels end at byte {end}")
            return count
        # tifffile treats all pages of an ImageJ file as its stack, however many it describes.
        pages = list(islice(pages_of(self._series), -(-expected // self._planes_per_page)))
        stored = [is_stored(self._tif, page) for page in pages]
        count = sum(stored)
        if not all(stored[:count]):
            plane = stored.index(False) * self._planes_per_page
            found = f"damaged: the pixels of plane {plane} are missing, but those of later planes are stored"
            raise UserError(self.path, found, "complete files", "copy or export the file again")
        if not count:
            first = self._series.keyframe
            if not first.dataoffsets or not all(first.databytecounts):
                raise self._incomplete("its pixels were never written")
            end = max(map(sum, zip(first.dataoffsets, first.databytecounts, strict=True)))
            raise self._incomplete(
                f"it has {self._tif.filehandle.size} bytes, but the pixels end at byte {end}"
            )
        if (differs := differing_page(self._tif, pages[:count])) is not None:
            found = f"page {differs} of the image differs in size or data type from the pages before it"
            raise UserError(self.path, found, "planes of equal size and type", "save them as separate files")
        return min(expected, count * self._planes_per_page)

    def _incomplete(self, found: str) -> UserError:
        return UserError(self.path, f"truncated: {found}", "complete files", "copy or export the file again")

    @property
    def contiguous(self) -> tuple[int, np.dtype] | None:
        """First byte of the planes and their data type in the file, if they are stored contiguously."""
        return (
            None
            if self._offset is None
            else (self._offset, self.info.dtype.newbyteorder(self._tif.byteorder))
        )

    def _pixels(self, number: int) -> np.ndarray:
        with read_errors(self.path, "TIFF", READABLE):
            pixels = self._read(number)
        return invert_white(pixels, self.info)

    def _read(self, number: int) -> np.ndarray:
        shape, native = self.info.plane_shape, self.info.dtype
        if self._offset is not None:
            stored = native.newbyteorder(self._tif.byteorder)
            start = self._offset + number * prod(shape) * native.itemsize
            pixels = self._tif.filehandle.read_array(stored, prod(shape), start)
            return pixels.reshape(shape).astype(native, copy=False)
        page_number, within = divmod(number, self._planes_per_page)
        if self._decoded is None or self._decoded[0] != page_number:
            self._decoded = None
            page = self._series[page_number]
            assert page is not None, "a page is missing"
            pixels = page.asarray()
            if self._series.keyframe.axes.endswith("S"):
                pixels = np.moveaxis(pixels, -1, 0)
            self._decoded = page_number, pixels.reshape(-1, *shape)
        return self._decoded[1][within].astype(native)

    def close(self) -> None:
        """Closes the file."""
        self._decoded = None
        self._tif.close()
