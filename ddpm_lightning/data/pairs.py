"""Pairs of a degraded and a clean image, and their sources.

Everything that can be trained on or evaluated is a :class:`PairSource`: an indexable, sized collection of
:class:`Pair`. A folder of TIFFs, a published data set and a simulation differ only in how they make their pairs.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np


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
    """

    low: np.ndarray
    high: np.ndarray
    name: str
    field: str
    pixel_size: float | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    paired: bool = True


@runtime_checkable
class PairSource(Protocol):
    """A sized, indexable collection of pairs; the same index always gives the same pair."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...


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
