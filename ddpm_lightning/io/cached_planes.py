"""Planes of an image read again and again: checked once, then straight from the disk.

The first time, a plane is read and checked as any other file. If it lies in the file as it is (uncompressed, in one
piece), later readings skip all parsing: small planes are read whole, and large ones are memory-mapped, so that a crop
costs its own pixels only. Of other files with many planes, the parsed description stays in memory. Either file stays
open; how many may be is limited, and beyond that files are opened for each plane.
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
from ddpm_lightning.io.stacks import Stack, open_stack
from ddpm_lightning.io.tiff import TiffStack
from ddpm_lightning.io.zarr_paths import is_zarr
from ddpm_lightning.utils.errors import UserError

__all__ = ["FrameFile"]

#: Bytes from which on a plane is mapped: below, reading it whole is the faster.
MAPPED = 1 << 20
#: Files that are held open at most in a process; systems allow 1024 by default.
OPEN_FILES = 256


class FrameFile:
    """The grey planes of a file: an image, a time series or a z stack.

    Args:
        path: The file, or an image of a Zarr; it is not opened before it is needed.

    Attributes:
        notes: What was left aside or guessed, as far as it was read, in order.
    """

    open_files: ClassVar[int] = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: dict[Note, None] = {}
        self._info: ImageInfo | None = None
        self._labels: list[str] = []
        self._checked: set[int] = set()
        self._offset: int | None = None
        self._stored: np.dtype | None = None
        self._map: np.ndarray | None = None
        self._held: tuple[int, TiffStack] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the open file behind: another process opens its own."""
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
            # Nothing is written: what each page says is not needed, and need not travel to other processes.
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
        if self._offset is None:
            with self._opened() as stack:
                return stack.plane(number)
        shape = self.info.plane_shape
        count = prod(shape)
        if count * self._stored.itemsize >= MAPPED and self._mapped():
            return self._map[number]
        start = self._offset + number * count * self._stored.itemsize
        return np.fromfile(self.path, self._stored, count, offset=start).reshape(shape)

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
        if not self._checked and not is_zarr(self.path):
            self._locate()
        self._checked.add(number)
        return image

    def _locate(self) -> None:
        """Finds where the planes lie in the file, if they lie there as they are."""
        with self._opened() as stack:
            inverted = self.info.tags is not None and self.info.tags.photometric == "miniswhite"
            if not inverted:
                self._offset, self._stored = stack.contiguous
        if self._offset is not None:
            self._close()

    @contextmanager
    def _opened(self) -> Iterator[Stack]:
        """The file, open for as long as the process needs it, or for once where too many are."""
        # A process that was forked shares its parent's place in an open file, and must open its own.
        if self._held is not None and self._held[0] == os.getpid():
            yield self._held[1]
        elif self.planes == 1 or is_zarr(self.path) or FrameFile.open_files >= OPEN_FILES:
            with open_stack(self.path) as stack:
                yield stack
        else:
            self._held = os.getpid(), TiffStack(self.path)
            FrameFile.open_files += 1
            yield self._held[1]

    def _close(self) -> None:
        if self._held is not None:
            self._held[1].close()
            self._held = None
            FrameFile.open_files -= 1

    def _mapped(self) -> bool:
        if self._map is None and FrameFile.open_files < OPEN_FILES:
            shape = (self.planes, *self.info.plane_shape)
            # As a plain array: slices of NumPy's own class of maps cost several times as much.
            self._map = np.asarray(np.memmap(self.path, self._stored, "r", self._offset, shape))
            FrameFile.open_files += 1
        return self._map is not None

    def __del__(self) -> None:
        if getattr(self, "_map", None) is not None:
            FrameFile.open_files -= 1
        if getattr(self, "_held", None) is not None:
            self._close()
