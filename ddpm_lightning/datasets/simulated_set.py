"""Simulated counterparts of the published sets as a data module: any number of pairs, nothing to download."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.simulation.degraded_pairs import Degradations, in_order
from ddpm_lightning.utils.settings import Count, FromZero, Positive, SimulatedSide, Text

__all__ = ["SimulatedData"]


class SimulatedData(PairDataModule):
    """Pairs from a physical simulation, with a seed for each image.

    Args:
        specimen: ``microtubules``, ``mitochondria``, ``synapses`` or ``zebrafish``.
        counts: Number of pairs of each split.
        size: Side of the images in pixels.
        dose: Factor on the photons of the low images.
        degradations: Further degradations of the low images, in order, or by name. Those of the light come before
            the detector, those of the electronics after it.
        cache: Folder that caches generated pairs, or ``None``.
        dataset_seed: Seed of the simulated specimens; apart from the seed of the run, so all runs see the same images.
        settings: Settings of :class:`PairDataModule`.
    """

    def __init__(
        self,
        specimen: str,
        counts: Mapping[str, Count],
        size: SimulatedSide = 256,
        dose: Positive = 1.0,
        degradations: Degradations = (),
        cache: Text | Path | None = None,
        dataset_seed: FromZero = 0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.specimen, self.counts, self.size, self.dose = specimen, dict(counts), size, dose
        self.degradations, self.cache, self.dataset_seed = in_order(degradations), cache, dataset_seed
        self.name = f"simulated_{specimen}"

    @property
    def facts(self) -> str:
        """Facts about the set, as Markdown."""
        settings = f"dataset seed {self.dataset_seed}, dose {self.dose:g}"
        return f"Simulated {self.specimen}, {settings}: no microscope was involved."

    def source(self, split: str) -> SimulatedPairs:
        """Returns the pairs of a split."""
        return SimulatedPairs(
            self.specimen,
            split,
            self.counts[split],
            self.size,
            self.dataset_seed,
            self.dose,
            self.degradations,
            self.cache,
            extras=split == "test",
        )
