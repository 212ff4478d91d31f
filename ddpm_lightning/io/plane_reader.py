"""The base of the readers of planes: chooses channels, and checks the values of each plane."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.notes import Note, counted
from ddpm_lightning.utils.errors import UserError, is_out_of_memory, nearest, out_of_memory

__all__ = ["LARGEST", "LARGEST_INTEGER", "PlaneReader", "read_errors"]

#: Maximum intensity: squares of larger ones overflow float32.
LARGEST = 1e18
#: Maximum integer: larger ones are not exact in float64, in which offsets are subtracted.
LARGEST_INTEGER = 2**53


class PlaneReader(ABC):
    """Reads planes one at a time, in a ``with`` block.

    A subclass describes its file (:attr:`info`), calls :meth:`_choose`, and reads pixels.

    Args:
        path: The file.

    Attributes:
        path: The file.
        info: Description of the planes that are yielded.
        notes: What was ignored, guessed or replaced; complete once all planes have been read.
    """

    info: ImageInfo

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.notes: list[Note] = []

    def _choose(self, channels: int | str | Sequence[int | str] | None) -> None:
        """Keeps some channels, by name or by index; ``None`` keeps all. A single channel drops the axis C.

        Names take precedence over indices: if the channels are called 405, 488 and 561, ``488`` is the second.

        Raises:
            UserError: If the file does not have them.
        """
        self._numbers = np.arange(self.info.plane_count)
        if channels is None:
            return
        wanted = [channels] if isinstance(channels, int | str) else list(channels)
        axes, shape = self.info.axes, self.info.shape
        count = shape[axes.index("C")] if "C" in axes else 1
        indices = [self._channel(channel, wanted, count) for channel in wanted]
        if not indices or len(set(indices)) < len(indices):
            raise self._unknown_channel(
                wanted, count, "name each channel only once" if indices else "name at least one channel"
            )
        self.info = self.info.with_channels(indices)
        if "C" in axes:
            self._numbers = self._numbers.reshape(shape[:-2]).take(indices, axis=axes.index("C")).ravel()

    def _channel(self, channel: int | str, wanted: list[int | str], count: int) -> int:
        """Returns the index of a channel: 488 is the channel of that name if there is one, and otherwise an index."""
        names, text = self.info.channel_names, str(channel)
        if names.count(text) > 1:
            several = [index for index, name in enumerate(names) if name == text]
            raise self._unknown_channel(
                wanted, count, f"channels {several} are all named {text}: use an index instead"
            )
        if text in names:
            return names.index(text)
        if text.isdecimal() and int(text) < count:
            return int(text)
        near = nearest(" ".join(text.split()), names)
        meant = (
            f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else "choose channels that exist in the file"
        )
        raise self._unknown_channel(wanted, count, meant)

    def _unknown_channel(self, wanted: list[int | str], count: int, remedy: str) -> UserError:
        names = self.info.channel_names
        allowed = f"indices 0 to {count - 1}" + (f" or names {', '.join(names)}" if names else "")
        return UserError(self.path, f"channels={wanted}", allowed, remedy)

    def check_bits(self) -> None:
        """Reads all planes of a file that states fewer bits than its data type has, and drops the limit if exceeded.

        A file that states 12 bits and has values up to 18340 contradicts itself; clipping at 4095 would destroy data.
        """
        bits = self.info.bits
        if bits is None:
            return
        largest = max(int(self._pixels(int(number)).max()) for number in self._numbers)
        if largest >= 2**bits:
            self.info = replace(self.info, bits=None)
            text = f"{bits} significant bits are stated, but values reach {largest}: all of {self.info.dtype} is used"
            self.notes.append(Note("guessed", 1, text))

    @abstractmethod
    def _pixels(self, number: int) -> np.ndarray:
        """Reads the plane with a running number among all planes of the file, with shape (H, W)."""

    @abstractmethod
    def close(self) -> None:
        """Closes the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._numbers)

    def plane(self, number: int) -> np.ndarray:
        """Reads one plane.

        Args:
            number: Running number in the order of ``info.planes()``.

        Returns:
            Array with shape (H, W) and the dtype of ``info``, which the caller may change.

        Raises:
            UserError: If the plane is damaged, or contains NaN, infinite or enormous values.
        """
        pixels = self._pixels(int(self._numbers[number]))
        if pixels.dtype.kind != "f":
            if pixels.dtype.itemsize > 4 and (extreme := _largest(pixels)) > LARGEST_INTEGER:
                found = f"integers up to {extreme} in plane {number}, which float64 cannot represent exactly"
                remedy = "subtract a constant from the image"
                raise UserError(self.path, found, f"at most {LARGEST_INTEGER}", remedy)
            return pixels
        if bad := int((~np.isfinite(pixels)).sum()):
            found = f"{counted(bad, 'NaN or infinite pixel')} in plane {number}"
            remedy = "replace them with finite values"
            raise UserError(
                self.path, found, "finite values", f"{remedy} (ImageJ: Process > Noise > Remove NaNs)"
            )
        if pixels.dtype.itemsize > 2 and (extreme := max(pixels.max(), -pixels.min())) > LARGEST:
            found = f"intensities up to {extreme:.3g} in plane {number}"
            raise UserError(self.path, found, f"at most {LARGEST:g}", "divide the image by a constant")
        return pixels

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.plane, range(len(self)))


def _largest(pixels: np.ndarray) -> int:
    """Returns the largest absolute value of integers, which may exceed the range of their type."""
    return max(int(pixels.max()), -int(pixels.min()))


@contextmanager
def read_errors(path: Path, kind: str, readable: str) -> Iterator[None]:
    """Turns any error of the parser on a damaged file into one message.

    Args:
        path: The file.
        kind: Its format.
        readable: What can be read.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        yield
    except UserError:
        raise
    except PermissionError as error:
        found, remedy = "no permission to read it", "change its permissions"
        raise UserError(path, found, readable, remedy) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(path, error) from error
        found, remedy = (
            f"cannot be read as {kind} ({type(error).__name__}: {error})",
            "copy or export it again",
        )
        if isinstance(error, ImportError) or "requires the 'imagecodecs' package" in str(error):
            found, remedy = f"compressed, which needs imagecodecs ({error})", "pip install imagecodecs"
        raise UserError(path, " ".join(found.split()), readable, remedy) from error
