"""Reads and writes OME-Zarr plane by plane.

An OME-Zarr is a Zarr group whose attributes list arrays of decreasing resolution (``multiscales``). The array of full
resolution is read. The result is in the same version of Zarr and of the metadata as the source; its smaller levels are
computed from its full resolution, by averaging 2 x 2 pixels of each plane, until a plane fits in a thumbnail. A Zarr
array without a group has no metadata except its shape. Requires the extra ``zarr``.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.io.image import ImageInfo, to_dtype
from ddpm_lightning.io.plane_reader import PlaneReader, read_errors
from ddpm_lightning.io.plane_writer import PlaneWriter
from ddpm_lightning.io.zarr_metadata import KINDS, READABLE, describe, to_write
from ddpm_lightning.io.zarr_paths import stem_of
from ddpm_lightning.io.zarr_stores import load_zarr, open_image

__all__ = ["ZarrStack", "ZarrStackWriter", "halved", "plane_shapes"]

#: Maximum side of a chunk in pixels: viewers load the chunks that they show, of at most half a megabyte for 16 bits.
CHUNK = 512
#: Maximum side of a shard, a file of many chunks (Zarr 3): a plane is one file unless it is larger.
SHARD = 8 * CHUNK
#: The smallest level is the first whose planes have no longer side.
SMALLEST_LEVEL = 256


class ZarrStack(PlaneReader):
    """The grey planes of the full-resolution image of an OME-Zarr, read one at a time.

    Args:
        path: An image in a folder or a ZIP file, or a store that holds one image.
        channels: Channels to keep, by index or by name; ``None`` keeps all. A single channel drops the axis C.

    Attributes:
        info: Description of the planes that this stack yields.

    Raises:
        UserError: If the store cannot be used.
    """

    def __init__(self, path: str | Path, channels: int | str | Sequence[int | str] | None = None) -> None:
        super().__init__(path)
        with read_errors(self.path, "Zarr", READABLE), ExitStack() as opened:
            self._array, metadata, beside = open_image(self.path, opened)
            self.info, notes = describe(self._array, metadata, self.path)
            self.notes += beside + notes
            self._choose(channels)
            self._opened = opened.pop_all()

    def _pixels(self, number: int) -> np.ndarray:
        with read_errors(self.path, "Zarr", READABLE):
            index = np.unravel_index(number, self._array.shape[:-2])
            return np.asarray(self._array[tuple(int(i) for i in index)]).astype(self.info.dtype)

    def close(self) -> None:
        """Closes the store."""
        self._opened.close()


class ZarrStackWriter(PlaneWriter):
    """Writes planes to an OME-Zarr folder with all its levels; see :class:`PlaneWriter`."""

    folder = True

    def _begin(self, partial: Path) -> None:
        zarr, info = load_zarr(), self.info
        newer = info.kind == KINDS["0.5"]
        group = zarr.open_group(str(partial), mode="a", zarr_format=3 if newer else 2)
        self._stored = info = _in_standard_order(info)
        shapes = plane_shapes(*info.plane_shape)
        attributes, of_array, names = to_write(info, stem_of(self.path)[0], self._derived, len(shapes))
        group.attrs.update(attributes)
        named = {"dimension_names": names} if newer else {}
        self._levels = [
            group.create_array(str(level), **_layout(info, shape, newer), attributes=of_array, **named)
            for level, shape in enumerate(shapes)
        ]

    def _put(self, plane: np.ndarray) -> None:
        axes, stacked = self.info.axes[:-2], self.info.shape[:-2]
        place = dict(zip(axes, np.unravel_index(self.written, stacked), strict=True)) if stacked else {}
        index = tuple(int(place[axis]) for axis in self._stored.axes[:-2])
        for level, array in enumerate(self._levels):
            plane = halved(plane) if level else plane
            array[index] = plane


def _in_standard_order(info: ImageInfo) -> ImageInfo:
    """Returns an image with its axes in the order that OME-Zarr requires, unless it was read from one."""
    if info.tags is not None:
        return info
    axes = sorted(info.axes, key="TCZYX".find)
    return replace(info, axes="".join(axes), shape=tuple(info.shape[info.axes.index(axis)] for axis in axes))


def plane_shapes(height: int, width: int) -> list[tuple[int, int]]:
    """Returns the shapes of a plane at all levels: halved, rounded up, until its longer side is at most 256 pixels."""
    shapes = [(height, width)]
    while max(shapes[-1]) > SMALLEST_LEVEL:
        height, width = (-(-side // 2) for side in shapes[-1])
        shapes.append((height, width))
    return shapes


def halved(plane: np.ndarray) -> np.ndarray:
    """Returns a plane of half the size, means of 2 x 2 pixels, in the same data type; odd sides repeat their last."""
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    wide = even.astype(np.float32 if plane.dtype.itemsize < 4 else np.float64)
    rows = wide[::2] + wide[1::2]
    return to_dtype((rows[:, ::2] + rows[:, 1::2]) / 4, plane.dtype)[0]


def _layout(info: ImageInfo, shape: tuple[int, int], newer: bool) -> dict[str, Any]:
    """Returns shape, data type, chunks and shards of a level."""
    stacked = info.shape[:-2]
    single = (1,) * len(stacked)
    chunks = tuple(min(side, CHUNK) for side in shape)
    # A shard consists of complete chunks, and is written at once: it contains a single plane.
    shards = tuple(-(-min(side, SHARD) // chunk) * chunk for side, chunk in zip(shape, chunks, strict=True))
    layout: dict[str, Any] = {
        "shape": (*stacked, *shape),
        "dtype": info.dtype,
        "chunks": (*single, *chunks),
    }
    return layout | ({"shards": (*single, *shards)} if newer and shards != chunks else {})
