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
from ddpm_lightning.simulation.random_processing import RandomProcessing
from ddpm_lightning.simulation.simple_structures import SIMPLE_STRUCTURES
from ddpm_lightning.simulation.specimens import SPECIMENS
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Count, FromZero, SimulatedSide, Text

__all__ = ["RandomMicroscopePairs", "SimulatedDenoising"]

#: Last number of the seeds of the processing; those of specimens and microscopes end before it.
_PROCESSING = 1


class RandomMicroscopePairs(LazyPairs):
    """Noisy and clean images; the specimens take turns.

    Every pair has its own seed sequence (dataset seed, split, index).

    Args:
        specimens: Names of simulated specimens or simple structures.
        split: ``train``, ``val`` or ``test``; the splits share no image.
        count: Number of pairs.
        size: Side of the images in pixels.
        dataset_seed: Seed of the whole set.
        microscope: Ranges of the random microscopes.
        processing: Probabilities of what cameras, software and file formats do; ``None`` for nothing.
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
        processing: RandomProcessing | None = None,
    ) -> None:
        for specimen in specimens:
            if specimen not in (known := [*SPECIMENS, *SIMPLE_STRUCTURES]):
                raise UserError("data.specimens", f"{specimen!r}", ", ".join(known), "choose among them")
        self.specimens, self.microscope = list(specimens), microscope or RandomMicroscope()
        self.processing = processing
        how = (asdict(self.microscope), processing and asdict(processing))
        recipe = ("denoising", self.specimens, split, size, dataset_seed, *how)
        super().__init__(split, count, size, dataset_seed, recipe, cache)

    def _simulate(self, index: int) -> dict[str, Any]:
        seed = [self.seed, SPLITS.index(self.split), index]
        rng, other = np.random.default_rng(seed), np.random.default_rng([*seed, _PROCESSING])
        processing = self.processing.sample(other) if self.processing else None
        specimen = self.specimens[index % len(self.specimens)]
        low, high = self.microscope(specimen, rng, self.size, processing, other)
        return {"low": low, "high": high}


class SimulatedDenoising(PairDataModule):
    """:class:`RandomMicroscopePairs` as a data module. Intensities are unrelated: use the normalisation ``image``.

    Args:
        specimens: Names of simulated specimens or simple structures.
        counts: Number of pairs of each split.
        size: Side of the images in pixels.
        microscope: Settings of :class:`RandomMicroscope`.
        processing: Settings of :class:`RandomProcessing`, or ``None`` for images as the detector records them.
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
        processing: Mapping[str, Any] | None = None,
        cache: Text | Path | None = None,
        dataset_seed: FromZero = 0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.specimens, self.counts, self.size = list(specimens), dict(counts), size
        self.microscope = RandomMicroscope(**_with_tuples(microscope or {}))
        self.processing = None if processing is None else RandomProcessing(**_with_tuples(processing))
        self.cache, self.dataset_seed = cache, dataset_seed

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
            self.processing,
        )


def _with_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings with their ranges, which are lists in a configuration, as tuples."""
    return {
        name: value if isinstance(value, float | int | Mapping) else tuple(value)
        for name, value in settings.items()
    }
