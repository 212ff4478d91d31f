"""Degradations over any set of pairs, as the configuration names them."""

from collections.abc import Mapping, Sequence

from ddpm_lightning.data.pairs import PairSource
from ddpm_lightning.data.splits import SPLITS
from ddpm_lightning.simulation.degradations import Degradation
from ddpm_lightning.simulation.degraded import DegradedPairs

__all__ = ["Degradations", "degraded", "in_order"]

#: Degradations in order; names, as a configuration has them, are for overriding only.
Degradations = Sequence[Degradation] | Mapping[str, Degradation]


def in_order(degradations: Degradations) -> tuple[Degradation, ...]:
    """Returns the degradations in the order in which they were named."""
    return tuple(degradations.values() if isinstance(degradations, Mapping) else degradations)


def degraded(source: PairSource, degradations: Degradations, split: str) -> PairSource:
    """Returns the pairs with their low images degraded; the same way each time, differently in each split."""
    chain = in_order(degradations)
    return DegradedPairs(source, chain, seed=SPLITS.index(split)) if chain else source
