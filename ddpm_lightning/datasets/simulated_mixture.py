"""All simulated sets at several doses in one: for models that are applied to many kinds of images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.simulation.degraded_pairs import Degradations, in_order
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Count, FromZero, Positive, SimulatedSide, Text

__all__ = ["Interleaved", "SimulatedMixture"]


class Interleaved:
    """Several sources in turn: the first pair of each, then the second of each, and so on.

    Args:
        sources: Sources by name, all of the same size; it is the prefix of the names of the pairs.

    Raises:
        ValueError: If the sizes differ, or there is no source.
    """

    def __init__(self, sources: Mapping[str, PairSource]) -> None:
        sizes = {len(source) for source in sources.values()}
        if len(sizes) != 1:
            raise ValueError(f"sources have {sorted(sizes)} pairs; allowed: the same number in each")
        self.names, self.sources = list(sources), list(sources.values())

    def __len__(self) -> int:
        return len(self.sources) * len(self.sources[0])

    def __getitem__(self, index: int) -> Pair:
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        place, number = index % len(self) % len(self.sources), index % len(self) // len(self.sources)
        pair = self.sources[place][number]
        name = f"{self.names[place]}_{pair.name}"
        return replace(pair, name=name, field=name)


class SimulatedMixture(PairDataModule):
    """Pairs of several simulated sets at several doses, in turn.

    Intensities of the sets are unrelated: use the normalisation ``image``.

    Args:
        specimens: Names of simulated sets.
        doses: Factors on the photons of the low images.
        counts: Number of pairs of each split; a multiple of the number of specimens times that of doses.
        size: Side of the images in pixels.
        degradations: Further degradations of the low images.
        cache: Folder that caches generated pairs, or ``None``.
        dataset_seed: Seed of the simulated specimens.
        settings: Settings of :class:`PairDataModule`.

    Raises:
        UserError: If a count is no such multiple.
    """

    name = "simulated_mixture"

    def __init__(
        self,
        specimens: Sequence[str],
        doses: Sequence[Positive],
        counts: Mapping[str, Count],
        size: SimulatedSide = 256,
        degradations: Degradations = (),
        cache: Text | Path | None = None,
        dataset_seed: FromZero = 0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.kinds = list(product(doses, specimens))
        self.counts, self.size, self.dataset_seed = dict(counts), size, dataset_seed
        self.degradations, self.cache = in_order(degradations), cache
        for split, count in self.counts.items():
            if not self.kinds or count < 1 or count % len(self.kinds):
                raise UserError(
                    f"data.counts.{split}",
                    f"is {count}",
                    allowed=f"a multiple of {len(self.kinds)}: {len(specimens)} specimens at {len(doses)} doses",
                )

    @property
    def facts(self) -> str:
        """Facts about the set, as Markdown."""
        kinds = ", ".join(f"{specimen} at dose {dose:g}" for dose, specimen in self.kinds)
        return f"Simulated, dataset seed {self.dataset_seed}: {kinds}. No microscope was involved."

    def source(self, split: str) -> Interleaved:
        """Returns the pairs of a split; each kind has its own specimens."""
        each = self.counts[split] // len(self.kinds)
        return Interleaved(
            {
                f"{specimen}_dose{dose:g}": SimulatedPairs(
                    specimen,
                    split,
                    each,
                    self.size,
                    # Another seed for each kind: two specimens are more instructive than one at two doses.
                    self.dataset_seed * len(self.kinds) + number,
                    dose,
                    self.degradations,
                    self.cache,
                    extras=split == "test",
                )
                for number, (dose, specimen) in enumerate(self.kinds)
            }
        )
