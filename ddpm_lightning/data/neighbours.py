"""Which neighbours of a plane a training crop includes: at random distances, and sometimes none.

A model then also restores planes of other spacings, planes at the ends of a stack, and single images.
"""

from dataclasses import dataclass

import numpy as np

from ddpm_lightning.data.pairs import PairSource, neighbour_of
from ddpm_lightning.utils.plane_order import neighbour_distances

__all__ = ["NeighbourChoice"]


@dataclass(frozen=True)
class NeighbourChoice:
    """Chooses the neighbours of a plane.

    Attributes:
        count: Planes before and after it.
        spacing: Largest step from one neighbour to the next, in planes; each crop has a random one from 1 to this.
        dropout: Probability that a crop has no neighbours; if it has, the probability of each to be missing.
    """

    count: int = 0
    spacing: int = 1
    dropout: float = 0.0

    def of(self, source: PairSource, index: int, rng: np.random.Generator) -> list[int | None]:
        """Returns the indices of the neighbours in order, ``None`` for missing ones; without any, no number is drawn.

        Args:
            source: The planes.
            index: Index of the plane.
            rng: Source of the random choices.
        """
        if not self.count:
            return []
        step = int(rng.integers(1, self.spacing + 1))
        without, missing = rng.random() < self.dropout, rng.random(2 * self.count) < self.dropout
        distances = neighbour_distances(self.count)
        return [
            None if without or left_out else neighbour_of(source, index, step * distance)
            for distance, left_out in zip(distances, missing, strict=True)
        ]
