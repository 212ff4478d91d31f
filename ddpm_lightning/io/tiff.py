"""TIFF files plane by plane: however large the file, one plane is in memory.

:class:`TiffStackWriter` writes the planes that :class:`TiffStack` reads, in the same order, in the same dialect, with
the same metadata; "0 is white" images are turned back.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from tifffile import TiffWriter

from ddpm_lightning.io import scanimage
from ddpm_lightning.io.image import ImageInfo, to_dtype, turn_white
from ddpm_lightning.io.tiff_description import codec_options, page_options, plane_options
from ddpm_lightning.io.tiff_stack import TiffStack, read_image, read_info
from ddpm_lightning.utils.atomic import AtomicWriter, disk_full_errors
from ddpm_lightning.utils.errors import UserError

__all__ = ["TiffStack", "TiffStackWriter", "read_image", "read_info", "to_dtype"]

CLASSIC_BYTES = 2**32 - 2**20
PAGE_BYTES = 1024


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
        self._writer = AtomicWriter(self.path)
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
            self._file = self._writer.begin().open("r+b")
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
                    self._writer.commit()  # the file takes its name
        finally:
            self._discard()

    def _discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._writer.discard()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Turns the troubles of a file system into one sentence, and leaves nothing half-written."""
        try:
            with disk_full_errors(self.path, prod(self.info.shape) * self.info.dtype.itemsize):
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
