"""Any set of pairs with its noisy images degraded further.

Linear degradations such as zoom or binning are applied to the clean images as well, which remain comparable with the
noisy ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ddpm_lightning.data.pairs import Pair, PairSource, neighbour_of
from ddpm_lightning.data.splits import SPLITS
from ddpm_lightning.simulation.degradations import Degradation, degrade, expected

__all__ = ["Degradations", "DegradedPairs", "degraded", "in_order"]

#: Degradations in order. A configuration gives them names, so that their settings can be overridden.
Degradations = Sequence[Degradation] | Mapping[str, Degradation]


class DegradedPairs:
    """The pairs of any source with the low image degraded further, the same way each time.

    Args:
        source: The pairs.
        degradations: Degradations of their low images, in order.
        seed: Seed; each pair has its own random stream, given by its index.
    """

    def __init__(self, source: PairSource, degradations: Sequence[Degradation], seed: int = 0) -> None:
        self.source, self.degradations, self.seed = source, tuple(degradations), seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Pair:
        pair = self.source[index]
        rng = np.random.default_rng([self.seed, index % len(self)])
        low = degrade(pair.low, self.degradations, rng)
        return replace(pair, low=low, high=expected(pair.high, self.degradations))

    def neighbour(self, index: int, distance: int) -> int | None:
        """Returns the index of a neighbour of a plane in its stack."""
        return neighbour_of(self.source, index, distance)


def in_order(degradations: Degradations) -> tuple[Degradation, ...]:
    """Returns the degradations without their names, in the same order."""
    return tuple(degradations.values() if isinstance(degradations, Mapping) else degradations)


def degraded(source: PairSource, degradations: Degradations, split: str) -> PairSource:
    """Returns the pairs with their low images degraded: the same way each time, differently in each split."""
    chain = in_order(degradations)
    return DegradedPairs(source, chain, seed=SPLITS.index(split)) if chain else source
