"""What readers of planes have in common, whatever file they read: a choice of channels, and values that are sound."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ddpm_lightning.data.image import ImageInfo
from ddpm_lightning.data.notes import Note
from ddpm_lightning.errors import UserError

__all__ = ["Planes"]

#: Beyond it, squares of intensities overflow float32, in which all is computed.
LARGEST = 1e18


class Planes:
    """Base of the readers: a subclass describes its file (:attr:`info`), calls :meth:`_choose`, and reads pixels.

    Args:
        path: The file.

    Attributes:
        path: The file.
        info: Description of the planes that are yielded.
        notes: What was left aside, guessed or replaced; complete once all planes have been read.
    """

    info: ImageInfo

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.notes: list[Note] = []

    def _choose(self, channels: int | str | Sequence[int | str] | None) -> None:
        """Keeps some channels, by index or by name, or all where ``None``; a single one drops the axis C.

        Raises:
            UserError: If the file does not have them.
        """
        self._numbers = np.arange(self.info.plane_count)
        if channels is None:
            return
        wanted = [channels] if isinstance(channels, int | str) else list(channels)
        names, axes, shape = self.info.channel_names, self.info.axes, self.info.shape
        count = shape[axes.index("C")] if "C" in axes else 1
        indices = [names.index(name) if name in names else name for name in wanted]
        indices = [int(index) if str(index).isdigit() else index for index in indices]
        if not indices or len(set(indices)) < len(indices) or not set(indices) <= set(range(count)):
            allowed = f"indices 0 to {count - 1}" + (f" or names {', '.join(names)}" if names else "")
            raise UserError(self.path, f"channels={wanted}", allowed, "choose channels that the file has")
        self.info = self.info.with_channels(indices)
        if "C" in axes:
            self._numbers = self._numbers.reshape(shape[:-2]).take(indices, axis=axes.index("C")).ravel()

    def _pixels(self, number: int) -> np.ndarray:
        """Reads the plane with a running number among all of the file, with shape (H, W)."""
        raise NotImplementedError(f"{type(self).__name__} reads nothing")

    def __len__(self) -> int:
        return len(self._numbers)

    def plane(self, number: int) -> np.ndarray:
        """Reads one plane.

        Args:
            number: Running number in the order of ``info.planes()``.

        Returns:
            Array with shape (H, W) and the dtype of ``info``, the caller's own.

        Raises:
            UserError: Where the plane is damaged, or holds NaN, infinite or enormous values.
        """
        pixels = self._pixels(int(self._numbers[number]))
        if pixels.dtype.kind != "f":
            return pixels
        if bad := int((~np.isfinite(pixels)).sum()):
            found, remedy = f"{bad} NaN or infinite pixels in plane {number}", "replace them by numbers"
            raise UserError(
                self.path, found, "finite values", f"{remedy} (ImageJ: Process > Noise > Remove NaNs)"
            )
        if pixels.dtype.itemsize > 2 and (extreme := max(pixels.max(), -pixels.min())) > LARGEST:
            found = f"intensities up to {extreme:.3g} in plane {number}"
            raise UserError(self.path, found, f"at most {LARGEST:g}", "divide the image by a constant")
        return pixels

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.plane, range(len(self)))
