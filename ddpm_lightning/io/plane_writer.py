"""The base of the writers of planes: checks each plane, and writes atomically."""

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import numpy as np

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.utils.atomic import AtomicWriter, disk_full_errors
from ddpm_lightning.utils.errors import UserError

__all__ = ["PlaneWriter"]


class PlaneWriter(ABC):
    """Writes planes one at a time, in a ``with`` block, to a file like its source.

    The file grows under a hidden name, and is renamed when the block ends without an error; otherwise it is removed.

    Args:
        path: File or folder to write; its parent folder is created.
        info: Description of the planes, usually that of the source.
        dtype: Data type if the planes are a different quantity from the source, such as a standard deviation: palette,
            significant bits and display range of the source are then omitted.

    Raises:
        UserError: If the file cannot be written.
        ValueError: If planes do not match the description in shape, type or number.
    """

    folder: ClassVar[bool] = False

    def __init__(self, path: str | Path, info: ImageInfo, dtype: np.dtype | str | None = None) -> None:
        self.path = Path(path)
        self.info = info if dtype is None else replace(info, dtype=np.dtype(dtype), bits=None)
        self.written = 0
        self._derived = dtype is not None
        self._writer = AtomicWriter(self.path, folder=self.folder)

    @abstractmethod
    def _begin(self, partial: Path) -> None:
        """Opens the file under its hidden name."""

    @abstractmethod
    def _put(self, plane: np.ndarray) -> None:
        """Writes the next plane."""

    def _close(self) -> None:  # noqa: B027  (a folder needs none)
        """Closes the file."""

    def __enter__(self) -> Self:
        with self._disk():
            self._begin(self._writer.begin())
        return self

    def write(self, plane: np.ndarray) -> None:
        """Writes the next plane, with shape (H, W) and the dtype of the file."""
        shape, dtype = self.info.plane_shape, self.info.dtype
        if plane.shape != shape or plane.dtype != dtype:
            raise ValueError(f"{self.path} takes {shape} {dtype}, this plane is {plane.shape} {plane.dtype}")
        if self.written == self.info.plane_count:
            raise ValueError(f"{self.path}: more planes than the {self.info.plane_count} announced")
        with self._disk():
            self._put(plane)
        self.written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                if self.written != self.info.plane_count:
                    raise ValueError(f"{self.path}: {self.written} of {self.info.plane_count} planes")
                with self._disk():
                    self._close()
                    self._writer.commit()
        finally:
            self._discard()

    def _discard(self) -> None:
        self._writer.discard()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Turns errors of the file system into one message, and removes what was written."""
        try:
            with disk_full_errors(self.path, prod(self.info.shape) * self.info.dtype.itemsize):
                yield
        except UserError:
            self._discard()
            raise
        except OSError as error:
            self._discard()
            remedy = "choose another folder, or change its permissions"
            if error.errno == errno.ENAMETOOLONG:
                remedy = "shorten the name of the file"
            found = f"cannot be written ({error})"
            raise UserError(self.path, found, "a folder that can be written to", remedy) from error
