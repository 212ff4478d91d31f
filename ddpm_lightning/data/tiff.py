"""TIFF files plane by plane: however large the file, one plane is in memory.

:class:`TiffStack` reads the first image of a TIFF, BigTIFF, OME-TIFF or ImageJ hyperstack as a sequence of
grey planes (H, W); :class:`TiffStackWriter` writes planes back in the same order, in the same dialect, with
the same metadata. Values are the file's own, except that in a "0 is white" image of unsigned integers they
are turned (maximum minus value) on reading and turned back on writing, so that more light is always a larger
number.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from math import prod
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from tifffile import TiffWriter

from ddpm_lightning.data import scanimage
from ddpm_lightning.data.image import ImageInfo, to_dtype, turn_white
from ddpm_lightning.data.notes import Note
from ddpm_lightning.data.ome_xml import own_xml
from ddpm_lightning.data.planes import Planes
from ddpm_lightning.data.tiff_description import codec_options, page_options, plane_options
from ddpm_lightning.data.tiff_layout import first_byte, main_series, next_page, pages_of, run_of_planes
from ddpm_lightning.data.tiff_metadata import describe
from ddpm_lightning.data.tiff_missing import (
    differing_page,
    is_stored,
    lost_tags,
    opened,
    shorten,
    sound_pages,
    understood,
)
from ddpm_lightning.data.tiff_pages import StoredPages, lost_words
from ddpm_lightning.errors import UserError, is_out_of_memory, out_of_memory
from ddpm_lightning.storage import Draft, disk_full_named

__all__ = ["TiffStack", "TiffStackWriter", "read_image", "read_info", "to_dtype"]

READABLE = "TIFF, BigTIFF, OME-TIFF or ImageJ files of grey planes"
CLASSIC_BYTES = 2**32 - 2**20
PAGE_BYTES = 1024


def read_info(path: str | Path) -> ImageInfo:
    """Axes, type, sampling and dialect of a TIFF, without reading pixels.

    Raises:
        UserError: Where the file cannot be used.
    """
    with TiffStack(path) as stack:
        return stack.info


def read_image(path: str | Path) -> np.ndarray:
    """Reads a file that holds one grey plane.

    Args:
        path: TIFF of any dialect; axes of length 1 beside Y and X do not matter.

    Returns:
        Array with shape (H, W) in the dtype of the file.

    Raises:
        UserError: Where the file is missing, damaged, in colour, a stack, empty, or holds NaN or infinity.
    """
    with TiffStack(path) as stack:
        if len(stack) != 1:
            found = f"a stack of {len(stack)} planes (axes {stack.info.axes}, shape {stack.info.shape})"
            raise UserError(path, found, "one grey plane (axes YX)", "save each plane as a file of its own")
        return stack.plane(0)


class TiffStack(Planes):
    """The grey planes of a TIFF's first image, read one at a time.

    Args:
        path: The file.
        channels: Channels to keep, by index or by name; all where ``None``. A single one drops the axis C.

    Attributes:
        info: Description of the planes that this stack yields.

    Raises:
        UserError: Where the file cannot be used. Opening it also checks that all planes are stored.
    """

    def __init__(self, path: str | Path, channels: int | str | Sequence[int | str] | None = None) -> None:
        super().__init__(path)
        self._decoded: tuple[int, np.ndarray] | None = None
        with _explained(self.path):
            if not self.path.is_file():
                found = "a folder" if self.path.is_dir() else "no such file"
                raise UserError(path, found, READABLE, "give the name of an existing image file")
            if self.path.stat().st_size == 0:
                raise UserError(path, "an empty file (0 bytes)", READABLE, "copy or export the file again")
            self._tif = opened(self.path)
        try:
            with _explained(self.path):
                self._open_planes(edited=self._read_ome())
            self._choose(channels)
            if self.info.tags.photometric == "miniswhite":
                self.check_bits()  # white, from which values are subtracted, depends on them
        except BaseException:
            self._tif.close()
            raise

    def _read_ome(self) -> bool:
        """Opens the file again with the OME-XML of its own planes alone, or without it where it is of no use."""
        edited = False
        if self._tif.is_ome:
            pages = max(sound_pages(self._tif), run_of_planes(self._tif))
            xml, notes = own_xml(self._tif, self.path, pages)
            self.notes += notes
            edited = bool(xml)
            if xml is not None:
                self._tif.close()
                self._tif = opened(self.path, is_ome=edited, omexml=xml)
        self._tif = understood(self._tif, self.path, self.notes)
        return edited

    def _open_planes(self, edited: bool) -> None:
        if not self._tif.series:
            raise UserError(self.path, "a TIFF without an image", READABLE, "copy or export the file again")
        self.notes += lost_tags(self._tif)
        self._series, notes = main_series(self._tif, edited)
        self.notes += notes
        self.info = describe(self._tif, self._series, self.path, self.notes)
        page = self._series.keyframe
        self._planes_per_page = prod(page.shape) // prod(self.info.plane_shape)
        self._offset = first_byte(self._tif, self._series)
        self.notes += lost_words(page)
        count = self._stored_planes()
        if count < self.info.plane_count:
            self.info, note = shorten(self.info, count)
            self.notes.append(note)
        following, pages = next_page(self._tif), len(self._tif.pages)
        if 0 < following < self._tif.filehandle.size:
            found = f"damaged: its list of pages does not end after the {pages} that can be read"
            raise UserError(self.path, found, "complete files", "copy or export the file again")
        if following:
            text = (
                f"the file ends early: its list of pages breaks off after {pages}, and what followed is lost"
            )
            self.notes.append(Note("left_aside", 1, text))
        size = prod(self.info.plane_shape) * page.dtype.itemsize
        pages = StoredPages.of(self.path, self._series, self.info.plane_count, self._offset, size)
        self.info = replace(self.info, tags=replace(self.info.tags, pages=pages))

    def _stored_planes(self) -> int:
        """Counts the planes that are stored before the first that is not.

        Raises:
            UserError: If there are none, or if planes follow that are.
        """
        expected = self.info.plane_count
        if self._offset is not None:
            size = prod(self.info.plane_shape) * self.info.dtype.itemsize
            count = max(0, min(expected, (self._tif.filehandle.size - self._offset) // size))
            if not count:
                end, there = self._offset + size, self._tif.filehandle.size
                raise self._incomplete(f"{there} bytes where the pixels end at byte {end}")
            return count
        # tifffile takes all pages of an ImageJ file for its stack, however many it describes.
        pages = list(islice(pages_of(self._series), -(-expected // self._planes_per_page)))
        stored = [is_stored(self._tif, page) for page in pages]
        count = sum(stored)
        if not all(stored[:count]):
            plane = stored.index(False) * self._planes_per_page
            found = f"damaged: the pixels of plane {plane} are not in the file, those of later ones are"
            raise UserError(self.path, found, "complete files", "copy or export the file again")
        if not count:
            first = self._series.keyframe
            if not first.dataoffsets or not all(first.databytecounts):
                raise self._incomplete("pixels that were never written")
            end = max(map(sum, zip(first.dataoffsets, first.databytecounts, strict=True)))
            raise self._incomplete(f"{self._tif.filehandle.size} bytes where the pixels end at byte {end}")
        if (differs := differing_page(self._tif, pages[:count])) is not None:
            found = f"page {differs} of the image has another size or type than those before"
            raise UserError(self.path, found, "stacks of equal planes", "save the image again")
        return min(expected, count * self._planes_per_page)

    def _incomplete(self, found: str) -> UserError:
        return UserError(self.path, f"truncated: {found}", "complete files", "copy or export the file again")

    @property
    def contiguous(self) -> tuple[int | None, np.dtype]:
        """Byte at which the planes begin, if they follow each other as they are (else ``None``), and their type."""
        return self._offset, self.info.dtype.newbyteorder(self._tif.byteorder)

    def _pixels(self, number: int) -> np.ndarray:
        with _explained(self.path):
            pixels = self._read(number)
        return turn_white(pixels, self.info)

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
            pixels = self._series[page_number].asarray()
            if self._series.keyframe.axes.endswith("S"):
                pixels = np.moveaxis(pixels, -1, 0)
            self._decoded = page_number, pixels.reshape(-1, *shape)
        return self._decoded[1][within].astype(native)

    def close(self) -> None:
        """Closes the file."""
        self._decoded = None
        self._tif.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TiffStackWriter:
    """Writes planes to a TIFF of the same dialect, axes and sampling as the source, one at a time.

    The file grows under a temporary name beside the target and takes its name when the ``with`` block ends
    well; otherwise it is removed. It is a BigTIFF where the source is one or where 4 GB do not suffice,
    except that an ImageJ hyperstack beyond 4 GB is uncompressed with a single page header, as ImageJ itself
    writes it.

    Args:
        path: File to write; its folder is made where it is missing.
        info: Description of the planes, usually that of the source.
        dtype: Pixel type where the planes are another quantity than the source's, such as a standard
            deviation: palette, significant bits and display range of the source are then left out.

    Raises:
        UserError: Where the file cannot be written.
        ValueError: Where planes do not match the description in shape, type or number.
    """

    def __init__(self, path: str | Path, info: ImageInfo, dtype: np.dtype | str | None = None) -> None:
        self.path = Path(path)
        self.info = info if dtype is None else replace(info, dtype=np.dtype(dtype), bits=None)
        self.written = 0
        self._derived = dtype is not None
        self._draft = Draft(self.path)
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        info = self.info
        codec = codec_options(info)
        large = prod(info.shape) * info.dtype.itemsize + info.plane_count * PAGE_BYTES > CLASSIC_BYTES
        single_header = large and info.kind == "imagej" and not info.bigtiff
        self._every, self._first = page_options(info, self._derived, self.path.name)
        self._pages = plane_options(info)
        # Pages that say something of their own cannot share a header, nor the tags of the first.
        of_their_own = any(self._pages[1:])
        single_header = single_header and not of_their_own
        shared = single_header or (not codec and not of_their_own)
        self._every |= {"contiguous": True} if shared else codec
        self._first |= {"truncate": True} if single_header else {}
        with self._disk():
            self._file = self._draft.begin().open("r+b")
            order = info.tags.byteorder if info.tags else "<"
            big = info.bigtiff or (large and not single_header)
            self._tiff = TiffWriter(self._file, bigtiff=big, byteorder=order, ome=False)
            if big and info.tags:
                self._file.write(scanimage.block(info.tags.header, info))
        return self

    def write(self, plane: np.ndarray) -> None:
        """Writes the next plane, with shape (H, W) and the dtype of the file; see :func:`to_dtype`."""
        shape, dtype = self.info.plane_shape, self.info.dtype
        if plane.shape != shape or plane.dtype != dtype:
            raise ValueError(f"{self.path} takes {shape} {dtype}, this plane is {plane.shape} {plane.dtype}")
        if self.written == self.info.plane_count:
            raise ValueError(f"{self.path}: more planes than the {self.info.plane_count} announced")
        pixels = plane if self._derived else turn_white(plane, self.info)
        options = self._pages[self.written] if self._pages else {}
        if self.written == 0:
            options = self._first | {"extratags": self._first["extratags"] + options.get("extratags", [])}
        with self._disk():
            self._tiff.write(pixels, **(self._every | options))
        self.written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                if self.written != self.info.plane_count:
                    raise ValueError(f"{self.path}: {self.written} of {self.info.plane_count} planes")
                with self._disk():
                    self._tiff.close()
                    self._file.close()
                    self._draft.keep()  # the file takes its name
        finally:
            self._discard()

    def _discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._draft.drop()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Turns the troubles of a file system into one sentence, and leaves nothing half-written."""
        try:
            with disk_full_named(self.path, prod(self.info.shape) * self.info.dtype.itemsize):
                yield
        except UserError:
            self._discard()
            raise
        except OSError as error:
            self._discard()
            found, remedy = f"cannot be written ({error})", "choose another folder, or change its permissions"
            if error.errno == errno.ENAMETOOLONG:
                remedy = "shorten the name of the file"
            raise UserError(self.path, found, "a folder that can be written to", remedy) from error


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file does to the parser into one sentence for the user."""
    try:
        yield
    except UserError:
        raise
    except PermissionError as error:
        found, remedy = "no permission to read it", "change the permissions of the file"
        raise UserError(path, found, READABLE, remedy) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(path, error) from error
        found, remedy = f"cannot be read as TIFF ({type(error).__name__}: {error})", "export the file again"
        if isinstance(error, ImportError) or "requires the 'imagecodecs' package" in str(error):
            found, remedy = f"compressed, which needs imagecodecs ({error})", "pip install imagecodecs"
        raise UserError(path, found, READABLE, remedy) from error
