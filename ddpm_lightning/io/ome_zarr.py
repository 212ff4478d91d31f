"""Reads and writes OME-Zarr plane by plane.

An OME-Zarr is a Zarr group whose attributes list arrays of decreasing resolution (``multiscales``). The array of full
resolution is read. The result has only that level, in chunks of one plane, in the same version of Zarr and of the
metadata as the source. A Zarr array without a group has no metadata except its shape. Requires the extra ``zarr``.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ddpm_lightning.io.plane_reader import PlaneReader, read_errors
from ddpm_lightning.io.plane_writer import PlaneWriter
from ddpm_lightning.io.zarr_metadata import KINDS, READABLE, describe, to_write
from ddpm_lightning.io.zarr_paths import stem_of
from ddpm_lightning.io.zarr_stores import load_zarr, open_image

__all__ = ["ZarrStack", "ZarrStackWriter"]

#: Maximum side of a chunk in pixels.
CHUNK = 2048


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
    """Writes planes to an OME-Zarr folder; see :class:`PlaneWriter`."""

    folder = True

    def _begin(self, partial: Path) -> None:
        zarr, info = load_zarr(), self.info
        newer = info.kind == KINDS["0.5"]
        group = zarr.open_group(str(partial), mode="a", zarr_format=3 if newer else 2)
        attributes, of_array, names = to_write(info, stem_of(self.path)[0], self._derived)
        group.attrs.update(attributes)
        chunks = (*(1,) * (len(info.shape) - 2), *(min(side, CHUNK) for side in info.plane_shape))
        layout = {"shape": info.shape, "chunks": chunks, "dtype": info.dtype, "attributes": of_array}
        self._array = group.create_array("0", **layout, **({"dimension_names": names} if newer else {}))

    def _put(self, plane: np.ndarray) -> None:
        index = np.unravel_index(self.written, self.info.shape[:-2]) if self.info.shape[:-2] else ()
        self._array[tuple(int(i) for i in index)] = plane
