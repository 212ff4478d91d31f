"""Planes of an image that are read repeatedly: checked once, then read directly from the disk.

The first time, a plane is read and checked like any other file. If the file stores it uncompressed and contiguously,
later reads skip all parsing: small planes are read completely, and large ones are memory-mapped, so a crop costs only
its own pixels. Of other files with many planes, the parsed description is kept in memory. Both kinds of files stay
open, up to a limit; beyond it, files are opened for each plane.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.notes import Note
from ddpm_lightning.io.plane_reader import PlaneReader
from ddpm_lightning.io.stacks import open_stack
from ddpm_lightning.io.tiff import TiffStack
from ddpm_lightning.io.vendor_files import is_vendor
from ddpm_lightning.io.zarr_paths import is_zarr
from ddpm_lightning.utils.errors import UserError

__all__ = ["CachedPlanes"]

#: Size in bytes from which a plane is mapped; smaller ones are faster to read.
MAPPED = 1 << 20
#: Maximum number of open files in a process; systems allow 1024 by default.
OPEN_FILES = 256


class CachedPlanes:
    """The grey planes of a file: an image, a time series or a z stack.

    Args:
        path: The file, or an image of a Zarr; it is opened when needed.

    Attributes:
        notes: What was ignored or guessed so far, in order.
    """

    open_files: ClassVar[int] = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: dict[Note, None] = {}
        self._info: ImageInfo | None = None
        self._labels: list[str] = []
        self._checked: set[int] = set()
        #: First byte of the planes, if they are stored contiguously, and their data type in the file.
        self._layout: tuple[int, np.dtype] | None = None
        self._map: np.ndarray | None = None
        self._held: tuple[int, TiffStack] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Omits the open file: another process opens its own."""
        return {**self.__dict__, "_map": None, "_held": None}

    @property
    def info(self) -> ImageInfo:
        """Axes, type and sampling of the file.

        Raises:
            UserError: If the file cannot be read, or has channels.
        """
        if self._info is None:
            with open_stack(self.path) as stack:
                info = stack.info
                self.notes.update(dict.fromkeys(stack.notes))
            if "C" in info.axes and info.shape[info.axes.index("C")] > 1:
                raise UserError(
                    self.path,
                    f"has several channels (axes {info.axes}, shape {info.shape})",
                    allowed="grey images, time series or z stacks (TZYX)",
                    remedy="save one channel as a file of its own",
                )
            # The metadata of pages are only needed for writing; they are not sent to other processes.
            self._info = replace(info, tags=info.tags and replace(info.tags, pages=None))
        return self._info

    @property
    def stacked(self) -> tuple[int, ...]:
        """Lengths of the axes of planes that are longer than 1."""
        return tuple(size for size in self.info.shape[:-2] if size > 1)

    @property
    def planes(self) -> int:
        """Number of planes."""
        return self.info.plane_count

    @property
    def size(self) -> str:
        """Number of pixels, for messages."""
        return " x ".join(map(str, self.info.shape))

    @property
    def pixel_size(self) -> float | None:
        """Size of a pixel in µm, where the file records it."""
        recorded = self.info.pixel_size
        return None if recorded is None else float(np.mean(recorded))

    def label(self, number: int) -> str:
        """Returns the place of a plane in the file, such as ``t3_z0``; empty in a file of one plane."""
        if self.planes == 1:
            return ""
        if not self._labels:
            self._labels = [plane.label for plane in self.info.planes()]
        return self._labels[number]

    def plane(self, number: int) -> np.ndarray:
        """Reads a plane with shape (H, W).

        Raises:
            UserError: If the plane is damaged, constant, or holds NaN or infinity.
        """
        if number not in self._checked:
            return self._first(number)
        if self._layout is None:
            with self._opened() as stack:
                return stack.plane(number)
        shape = self.info.plane_shape
        count, (offset, stored) = prod(shape), self._layout
        if count * stored.itemsize >= MAPPED and (planes := self._mapped(offset, stored)) is not None:
            return planes[number]
        start = offset + number * count * stored.itemsize
        return np.fromfile(self.path, stored, count, offset=start).reshape(shape)

    def _first(self, number: int) -> np.ndarray:
        with self._opened() as stack:
            image = stack.plane(number)
            self.notes.update(dict.fromkeys(stack.notes))
        if image.min() == image.max():
            where = f", plane {self.label(number)}," if self.planes > 1 else ""
            raise UserError(
                self.path,
                f"{where} is constant: every pixel is {image.flat[0]}".lstrip(", "),
                remedy="leave it out",
            )
        if not self._checked and not self._reopened:
            self._locate()
        self._checked.add(number)
        return image

    def _locate(self) -> None:
        """Finds the planes in the file, if it stores them unchanged and contiguously."""
        with self._opened() as stack:
            inverted = self.info.tags is not None and self.info.tags.photometric == "miniswhite"
            if not inverted and isinstance(stack, TiffStack):
                self._layout = stack.contiguous
        if self._layout is not None:
            self._close()

    @property
    def _reopened(self) -> bool:
        """Whether the file is opened for each plane."""
        return is_zarr(self.path) or is_vendor(self.path)

    @contextmanager
    def _opened(self) -> Iterator[PlaneReader]:
        """Yields the open file: kept open, or opened just once if too many are open."""
        # A forked process shares the file position of its parent, so it must open its own file.
        if self._held is not None and self._held[0] == os.getpid():
            yield self._held[1]
        elif self.planes == 1 or self._reopened or CachedPlanes.open_files >= OPEN_FILES:
            with open_stack(self.path) as stack:
                yield stack
        else:
            self._held = os.getpid(), TiffStack(self.path)
            CachedPlanes.open_files += 1
            yield self._held[1]

    def _close(self) -> None:
        if self._held is not None:
            self._held[1].close()
            self._held = None
            CachedPlanes.open_files -= 1

    def _mapped(self, offset: int, stored: np.dtype) -> np.ndarray | None:
        """Returns all planes as a memory map, unless too many files are open."""
        if self._map is None and CachedPlanes.open_files < OPEN_FILES:
            shape = (self.planes, *self.info.plane_shape)
            # As a plain array: slices of np.memmap are several times slower.
            self._map = np.asarray(np.memmap(self.path, stored, "r", offset, shape))
            CachedPlanes.open_files += 1
        return self._map

    def __del__(self) -> None:
        if getattr(self, "_map", None) is not None:
            CachedPlanes.open_files -= 1
        if getattr(self, "_held", None) is not None:
            self._close()
