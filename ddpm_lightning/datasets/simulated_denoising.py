"""Simulated specimens under microscopes of all kinds: for models that are applied to unknown specimens."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.data.splits import SPLITS
from ddpm_lightning.simulation.lazy_pairs import LazyPairs
from ddpm_lightning.simulation.random_microscope import RandomMicroscope
from ddpm_lightning.simulation.specimens import SPECIMENS
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Count, FromZero, SimulatedSide, Text

__all__ = ["RandomMicroscopePairs", "SimulatedDenoising"]


class RandomMicroscopePairs(LazyPairs):
    """Noisy and clean images; the specimens take turns.

    Every pair has its own seed sequence (dataset seed, split, index).

    Args:
        specimens: Names of simulated specimens.
        split: ``train``, ``val`` or ``test``; the splits share no image.
        count: Number of pairs.
        size: Side of the images in pixels.
        dataset_seed: Seed of the whole set.
        microscope: Ranges of the random microscopes.
        cache: Folder that caches the pairs, or ``None``.
    """

    def __init__(
        self,
        specimens: Sequence[str],
        split: str,
        count: int,
        size: int = 256,
        dataset_seed: int = 0,
        microscope: RandomMicroscope | None = None,
        cache: str | Path | None = None,
    ) -> None:
        for specimen in specimens:
            if specimen not in SPECIMENS:
                raise UserError("data.specimens", f"{specimen!r}", ", ".join(SPECIMENS), "choose among them")
        self.specimens, self.microscope = list(specimens), microscope or RandomMicroscope()
        recipe = ("denoising", self.specimens, split, size, dataset_seed, asdict(self.microscope))
        super().__init__(split, count, size, dataset_seed, recipe, cache)

    def _simulate(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index])
        low, high = self.microscope(self.specimens[index % len(self.specimens)], rng, self.size)
        return {"low": low, "high": high}


class SimulatedDenoising(PairDataModule):
    """:class:`RandomMicroscopePairs` as a data module. Intensities are unrelated: use the normalisation ``image``.

    Args:
        specimens: Names of simulated sets.
        counts: Number of pairs of each split.
        size: Side of the images in pixels.
        microscope: Settings of :class:`RandomMicroscope`.
        cache: Folder that caches generated pairs, or ``None``.
        dataset_seed: Seed of the simulated specimens.
        settings: Settings of :class:`PairDataModule`.
    """

    name = "simulated_denoising"

    def __init__(
        self,
        specimens: Sequence[str],
        counts: Mapping[str, Count],
        size: SimulatedSide = 256,
        microscope: Mapping[str, Any] | None = None,
        cache: Text | Path | None = None,
        dataset_seed: FromZero = 0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.specimens, self.counts, self.size = list(specimens), dict(counts), size
        ranges = {name: tuple(value) for name, value in (microscope or {}).items()}
        self.microscope, self.cache, self.dataset_seed = RandomMicroscope(**ranges), cache, dataset_seed

    @property
    def facts(self) -> str:
        """Facts about the set, as Markdown."""
        specimens = ", ".join(self.specimens)
        made = f"Simulated {specimens} under random microscopes, dataset seed {self.dataset_seed}."
        return f"{made} No microscope was involved."

    def source(self, split: str) -> RandomMicroscopePairs:
        """Returns the pairs of a split."""
        return RandomMicroscopePairs(
            self.specimens,
            split,
            self.counts[split],
            self.size,
            self.dataset_seed,
            self.microscope,
            self.cache,
        )
