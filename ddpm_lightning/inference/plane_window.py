"""The planes of an image in order, and their neighbours; in memory are those that are still needed."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import numpy as np

from ddpm_lightning.io.stack_axis import StackAxis
from ddpm_lightning.utils.plane_order import neighbour_distances

__all__ = ["PlaneWindow"]

T = TypeVar("T")


class PlaneWindow(Generic[T]):
    """Reads each plane once, when it or one of its neighbours is needed.

    The number of planes in memory does not depend on the length of the axis. It does depend on the axes after it: in a
    movie of volumes, neighbours in time are as many planes apart as a volume has.

    Args:
        planes: All planes in order, each with shape (H, W).
        prepare: Turns a plane into what a model sees.
        axis: Axis along which planes are neighbours.
        neighbours: Planes on each side.
    """

    def __init__(
        self,
        planes: Iterable[np.ndarray],
        prepare: Callable[[np.ndarray], T],
        axis: StackAxis,
        neighbours: int,
    ) -> None:
        self._planes, self._prepare, self._axis = enumerate(planes), prepare, axis
        self._distances = neighbour_distances(neighbours if axis.letter else 0)
        self._behind = max(self._distances, default=0) * axis.step
        self._read: dict[int, np.ndarray] = {}
        self._prepared: dict[int, T] = {}

    def plane(self, number: int) -> np.ndarray:
        """Returns a plane as it is; planes must be asked for in order."""
        for old in [old for old in self._read if old < number - self._behind]:
            del self._read[old]
            self._prepared.pop(old, None)
        return self._reached(number)

    def prepared(self, number: int) -> T:
        """Returns a plane, or one of its neighbours, as it was prepared."""
        if number not in self._prepared:
            self._prepared[number] = self._prepare(self._reached(number))
        return self._prepared[number]

    def around(self, number: int) -> list[T | None]:
        """Returns the prepared neighbours of a plane in order, ``None`` beyond the ends of the axis."""
        found = [self._axis.neighbour(number, distance) for distance in self._distances]
        return [None if other is None else self.prepared(other) for other in found]

    def _reached(self, number: int) -> np.ndarray:
        while number not in self._read:
            at, plane = next(self._planes)
            self._read[at] = plane
        return self._read[number]
