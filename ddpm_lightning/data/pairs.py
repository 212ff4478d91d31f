"""Pairs of a degraded and a clean image, and their sources.

Everything that can be trained on or evaluated is a :class:`PairSource`: an indexable, sized collection of
:class:`Pair`. A folder of TIFFs, a published data set and a simulation differ only in how they make their pairs.

A stack is a source of its planes, each of which is a pair. If a source knows which planes are neighbours, it has a
method ``neighbour(index, distance)``, which returns the index of the plane at a distance along the axis of the stack
(negative: before), or ``None`` beyond its ends.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ddpm_lightning.utils.plane_order import neighbour_distances

__all__ = ["NeighbourPlanes", "NoisyImages", "Pair", "PairSource", "neighbour_of"]


@dataclass(frozen=True)
class Pair:
    """A noisy image and its clean partner.

    Attributes:
        low: Degraded image with shape (H, W), in the dtype of its file.
        high: Clean image with shape (H, W), in the dtype of its file.
        name: Identity of the pair within its split; it keys the sampling noise and names rows and files.
        field: Field of view. Pairs of one field are not independent: splits and intervals are made by field.
        pixel_size: Size of a pixel in µm, or ``None`` if it is not recorded.
        extra: Further data that only some sources provide, such as the ground truth of a simulation.
        paired: Whether there is a clean partner. If not, ``high`` is the noisy image too, and only methods that do
            not need clean images may use it.
        neighbours: Low images of the planes around this one in its stack, in the order of
            :func:`ddpm_lightning.utils.plane_order.neighbour_distances`; ``None`` for missing ones, such as beyond the
            ends of the stack.
    """

    low: np.ndarray
    high: np.ndarray
    name: str
    field: str
    pixel_size: float | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    paired: bool = True
    neighbours: tuple[np.ndarray | None, ...] = ()


@runtime_checkable
class PairSource(Protocol):
    """A sized, indexable collection of pairs; the same index always gives the same pair."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...


def neighbour_of(source: PairSource, index: int, distance: int) -> int | None:
    """Returns the index of a neighbour of a plane in its stack, or ``None`` if the source does not know of one.

    Args:
        source: The source.
        index: Index of the plane.
        distance: How many planes the neighbour is behind it; negative for planes before it.
    """
    find = getattr(source, "neighbour", None)
    return None if find is None else find(index, distance)


class NeighbourPlanes:
    """The pairs of a source, each with its neighbours.

    Args:
        source: The pairs.
        neighbours: Number of planes on each side.
    """

    def __init__(self, source: PairSource, neighbours: int) -> None:
        self.source, self.distances = source, neighbour_distances(neighbours)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Pair:
        found = (neighbour_of(self.source, index, distance) for distance in self.distances)
        planes = tuple(None if other is None else self.source[other].low for other in found)
        return dataclasses.replace(self.source[index], neighbours=planes)

    def neighbour(self, index: int, distance: int) -> int | None:
        """Returns the index of a neighbour of a plane in its stack."""
        return neighbour_of(self.source, index, distance)


class NoisyImages:
    """The noisy images of pairs, without their clean partners.

    Args:
        source: The pairs.
    """

    def __init__(self, source: PairSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Pair:
        pair = self.source[index]
        return dataclasses.replace(pair, high=pair.low, extra={}, paired=False)

    def neighbour(self, index: int, distance: int) -> int | None:
        """Returns the index of a neighbour of a plane in its stack."""
        return neighbour_of(self.source, index, distance)
