"""OME-Zarr plane by plane: an image of a store in, one of the same axes and sampling out.

An OME-Zarr is a Zarr group whose attributes list arrays of falling resolution (``multiscales``). The one of full
resolution is read; the one that is written has that level alone, in chunks of one plane, in the version of Zarr and of
the metadata that the source has. A Zarr array without a group has no metadata but its shape. Needs the extra ``zarr``.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.plane_reader import Planes
from ddpm_lightning.io.zarr_metadata import KINDS, describe, to_write
from ddpm_lightning.io.zarr_paths import stem_of
from ddpm_lightning.io.zarr_stores import explained, load_zarr, open_image
from ddpm_lightning.utils.atomic import AtomicWriter, disk_full_errors
from ddpm_lightning.utils.errors import UserError

__all__ = ["ZarrStack", "ZarrStackWriter"]

#: Largest side of a chunk in pixels.
CHUNK = 2048


class ZarrStack(Planes):
    """The grey planes of an OME-Zarr's image of full resolution, read one at a time.

    Args:
        path: An image in a folder or a ZIP file, or a store that holds one image.
        channels: Channels to keep, by index or by name; all where ``None``. A single one drops the axis C.

    Attributes:
        info: Description of the planes that this stack yields.

    Raises:
        UserError: Where the folder cannot be used.
    """

    def __init__(self, path: str | Path, channels: int | str | Sequence[int | str] | None = None) -> None:
        super().__init__(path)
        with explained(self.path), ExitStack() as opened:
            self._array, metadata, beside = open_image(self.path, opened)
            self.info, notes = describe(self._array, metadata, self.path)
            self.notes += beside + notes
            self._choose(channels)
            self._opened = opened.pop_all()

    def _pixels(self, number: int) -> np.ndarray:
        with explained(self.path):
            index = np.unravel_index(number, self._array.shape[:-2])
            return np.asarray(self._array[tuple(int(i) for i in index)]).astype(self.info.dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._opened.close()


class ZarrStackWriter:
    """Writes planes to an OME-Zarr, one at a time.

    The folder grows under a temporary name and takes its own when the ``with`` block ends well; otherwise it is
    removed.

    Args:
        path: Folder to write; the one that it stands in is made where it is missing.
        info: Description of the planes, usually that of the source.
        dtype: Pixel type where the planes are another quantity than the source's; its display range is then left out.

    Raises:
        UserError: Where the folder cannot be written.
    """

    def __init__(self, path: str | Path, info: ImageInfo, dtype: np.dtype | str | None = None) -> None:
        self.path = Path(path)
        self.info = info if dtype is None else replace(info, dtype=np.dtype(dtype), bits=None)
        self.written, self._derived = 0, dtype is not None
        self._writer = AtomicWriter(self.path, folder=True)

    def __enter__(self) -> Self:
        zarr, info = load_zarr(), self.info
        with self._disk():
            partial = self._writer.begin()
            newer = info.kind == KINDS["0.5"]
            group = zarr.open_group(str(partial), mode="a", zarr_format=3 if newer else 2)
            attributes, of_array, names = to_write(info, stem_of(self.path)[0], self._derived)
            group.attrs.update(attributes)
            chunks = (*(1,) * (len(info.shape) - 2), *(min(side, CHUNK) for side in info.plane_shape))
            layout = {"shape": info.shape, "chunks": chunks, "dtype": info.dtype, "attributes": of_array}
            self._array = group.create_array("0", **layout, **({"dimension_names": names} if newer else {}))
        return self

    def write(self, plane: np.ndarray) -> None:
        """Writes the next plane with shape (H, W) and the dtype of the file."""
        if plane.shape != self.info.plane_shape or plane.dtype != self.info.dtype:
            raise ValueError(f"{self.path} takes {self.info.plane_shape} {self.info.dtype}")
        if self.written == self.info.plane_count:
            raise ValueError(f"{self.path}: more planes than the {self.info.plane_count} announced")
        index = np.unravel_index(self.written, self.info.shape[:-2]) if self.info.shape[:-2] else ()
        with self._disk():
            self._array[tuple(int(i) for i in index)] = plane
        self.written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                if self.written != self.info.plane_count:
                    raise ValueError(f"{self.path}: {self.written} of {self.info.plane_count} planes")
                with self._disk():
                    self._writer.commit()  # the folder takes its name
        finally:
            self._writer.discard()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            with disk_full_errors(self.path, prod(self.info.shape) * self.info.dtype.itemsize):
                yield
        except UserError:
            self._writer.discard()
            raise
        except OSError as error:
            self._writer.discard()
            remedy = "make room, choose another folder, or change its permissions"
            raise UserError(self.path, f"cannot be written ({error})", remedy=remedy) from error
