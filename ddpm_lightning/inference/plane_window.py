"""Planes of an image and their neighbours: those that are still needed stay in memory, up to a limit."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from ddpm_lightning.io.stack_axis import StackAxis
from ddpm_lightning.utils.plane_order import neighbour_distances

__all__ = ["PlaneWindow"]

T = TypeVar("T")
#: Most bytes of planes in memory, unless a plane and its next neighbours need more. Other planes are read again.
LIMIT = 2**28


class PlaneWindow(Generic[T]):
    """Reads the planes of an image when they are needed.

    Args:
        read: Returns a plane by its number, with shape (H, W).
        prepare: Turns it into what is kept.
        axis: Axis along which planes are neighbours.
        neighbours: Planes on each side.
    """

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        prepare: Callable[[np.ndarray], T],
        axis: StackAxis,
        neighbours: int,
    ) -> None:
        self._read, self._prepare, self._axis = read, prepare, axis
        self._neighbours = neighbours if axis.letter else 0
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._prepared: dict[int, T] = {}

    def plane(self, number: int) -> np.ndarray:
        """Returns a plane as it was read."""
        found = self._kept.pop(number, None)
        self._kept[number] = low = self._read(number) if found is None else found
        fewest = 2 * self._neighbours + 1
        most = min(fewest + 2 * self._neighbours * (self._axis.step - 1), LIMIT // max(low.nbytes, 1))
        while len(self._kept) > max(most, fewest):
            self._prepared.pop(self._kept.popitem(last=False)[0], None)
        return low

    def prepared(self, number: int) -> T:
        """Returns a plane as it was prepared."""
        low = self.plane(number)
        if number not in self._prepared:
            self._prepared[number] = self._prepare(low)
        return self._prepared[number]

    def around(self, number: int) -> list[T | None]:
        """Returns the prepared neighbours of a plane in order, ``None`` beyond the ends of the axis."""
        found = [self._axis.neighbour(number, distance) for distance in neighbour_distances(self._neighbours)]
        return [None if other is None else self.prepared(other) for other in found]
