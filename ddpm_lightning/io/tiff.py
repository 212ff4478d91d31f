"""Writes TIFF files plane by plane: however large the file, only one plane is in memory.

:class:`TiffStackWriter` writes the planes that :class:`TiffStack` reads, in the same order and dialect, with the same
metadata; inverted "0 is white" images are inverted back.
"""

from contextlib import suppress
from math import prod
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from tifffile import TiffWriter

from ddpm_lightning.io import scanimage
from ddpm_lightning.io.image import invert_white, to_dtype
from ddpm_lightning.io.plane_writer import PlaneWriter
from ddpm_lightning.io.tiff_description import codec_options, page_options, plane_options
from ddpm_lightning.io.tiff_stack import TiffStack, read_image, read_info

__all__ = ["TiffStack", "TiffStackWriter", "read_image", "read_info", "to_dtype"]

CLASSIC_BYTES = 2**32 - 2**20
PAGE_BYTES = 1024


class TiffStackWriter(PlaneWriter):
    """Writes planes to a TIFF of the same dialect, axes and sampling as the source; see :class:`PlaneWriter`.

    The file is a BigTIFF if the source is one or if it exceeds 4 GB, except that an ImageJ hyperstack beyond 4 GB is
    uncompressed with a single page header, as ImageJ itself writes it.
    """

    _file: BinaryIO | None = None

    def __enter__(self) -> Self:
        info = self.info
        codec = codec_options(info)
        large = prod(info.shape) * info.dtype.itemsize + info.plane_count * PAGE_BYTES > CLASSIC_BYTES
        single_header = large and info.kind == "imagej" and not info.bigtiff
        self._every, self._first = page_options(info, self._derived, self.path.name)
        self._pages = plane_options(info)
        # Pages with metadata of their own cannot share a header, nor the tags of the first page.
        separate = any(self._pages[1:])
        single_header = single_header and not separate
        shared = single_header or (not codec and not separate)
        self._every |= {"contiguous": True} if shared else codec
        self._first |= {"truncate": True} if single_header else {}
        self._big = info.bigtiff or (large and not single_header)
        return super().__enter__()

    def _begin(self, partial: Path) -> None:
        tags = self.info.tags
        self._file = partial.open("r+b")
        self._tiff = TiffWriter(
            self._file, bigtiff=self._big, byteorder=tags.byteorder if tags else "<", ome=False
        )
        if self._big and tags:
            self._file.write(scanimage.block(tags.header, self.info))

    def _put(self, plane: np.ndarray) -> None:
        pixels = plane if self._derived else invert_white(plane, self.info)
        options = self._pages[self.written] if self._pages else {}
        if self.written == 0:
            options = self._first | {"extratags": self._first["extratags"] + options.get("extratags", [])}
        self._tiff.write(pixels, **(self._every | options))

    def _close(self) -> None:
        self._tiff.close()
        if self._file is not None:
            self._file.close()

    def _discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        super()._discard()
