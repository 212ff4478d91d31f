"""Any set of pairs with its low images degraded further."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.simulation.degradations import Degradation, degrade


class DegradedPairs:
    """The pairs of any source with the low image degraded further, the same way each time.

    Args:
        source: Where the pairs come from.
        degradations: What happens to their low images, in order.
        seed: Seed; every pair has its own stream, keyed by its index.
    """

    def __init__(self, source: PairSource, degradations: Sequence[Degradation], seed: int = 0) -> None:
        self.source, self.degradations, self.seed = source, tuple(degradations), seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Pair:
        pair = self.source[index]
        rng = np.random.default_rng([self.seed, index % len(self)])
        low = degrade(pair.low, self.degradations, rng)
        return replace(pair, low=low)
