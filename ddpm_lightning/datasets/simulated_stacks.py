"""Simulated volumes and movies: stacks of noisy planes and the same without noise, with their truth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.data.splits import SPLITS
from ddpm_lightning.data.stack_planes import StackPlanes
from ddpm_lightning.simulation.detector import Detector
from ddpm_lightning.simulation.lazy_pairs import LazyPairs
from ddpm_lightning.simulation.movie import Movie
from ddpm_lightning.simulation.scene import log_uniform
from ddpm_lightning.simulation.volume import Volume
from ddpm_lightning.utils.settings import Count, FromZero, Positive, SimulatedSide, Text

__all__ = ["SimulatedMovies", "SimulatedStackData", "SimulatedStacks", "SimulatedVolumes"]


class SimulatedStacks(LazyPairs):
    """Stacks under a microscope with a random dose; each is a field of view with its own seed.

    ``Pair.extra`` holds the truth; see :class:`Volume` and :class:`Movie`.

    Args:
        specimen: Generates a stack.
        split: ``train``, ``val`` or ``test``; the splits share no stack.
        count: Number of stacks.
        size: Side of the planes in pixels.
        photons: Range of the photons at the brightest structures.
        background: Range of the background relative to the brightest structures.
        dataset_seed: Seed of the whole set.
        cache: Folder that caches the stacks, or ``None``.
    """

    def __init__(
        self,
        specimen: Volume | Movie,
        split: str,
        count: int,
        size: int,
        photons: tuple[float, float],
        background: tuple[float, float] = (0.02, 0.2),
        dataset_seed: int = 0,
        cache: str | Path | None = None,
    ) -> None:
        self.specimen, self.photons, self.background = specimen, photons, background
        super().__init__(
            split,
            count,
            size,
            dataset_seed,
            (specimen, split, size, photons, background, dataset_seed),
            cache,
        )

    def _simulate(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index])
        light, truth = self.specimen(rng, self.size, index)
        dose = float(log_uniform(rng, *self.photons))
        light = dose * (light + rng.uniform(*self.background))
        detector = Detector(gain=2.0, offset=100.0, read_noise=float(log_uniform(rng, 0.5, 2.0)))
        low = np.stack([detector(plane, rng) for plane in light])
        high = detector.expected(light).astype(np.float32)
        return {"low": low, "high": high, "truth": truth, "parameters": {"photons": dose}}


class SimulatedStackData(PairDataModule):
    """Simulated stacks as a data module; they differ only in noise, so use the normalisation ``shared``.

    Args:
        counts: Number of stacks of each split.
        size: Side of the planes in pixels.
        photons: Range of the photons at the brightest structures.
        specimen: Settings of the specimen, see its class.
        cache: Folder that caches generated stacks, or ``None``.
        dataset_seed: Seed of the simulated specimens.
        settings: Settings of :class:`PairDataModule`.

    Attributes:
        specimen: Generates stacks.
    """

    kind: type[Volume | Movie]

    def __init__(
        self,
        counts: Mapping[str, Count],
        size: SimulatedSide = 128,
        photons: Sequence[Positive] = (3.0, 200.0),
        specimen: Mapping[str, Any] | None = None,
        cache: Text | Path | None = None,
        dataset_seed: FromZero = 0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.counts, self.size, self.photons = dict(counts), size, (photons[0], photons[1])
        # Ranges are lists in a configuration.
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, Sequence) else value
            for key, value in (specimen or {}).items()
        }
        self.specimen = self.kind(**values)
        self.cache, self.dataset_seed = cache, dataset_seed

    @property
    def facts(self) -> str:
        """Facts about the set, as Markdown."""
        return f"Simulated stacks, dataset seed {self.dataset_seed}. No microscope was involved."

    def source(self, split: str) -> StackPlanes:
        """Returns the planes of the stacks of a split."""
        stacks = SimulatedStacks(
            self.specimen,
            split,
            self.counts[split],
            self.size,
            self.photons,
            dataset_seed=self.dataset_seed,
            cache=self.cache,
        )
        return StackPlanes(stacks, self.specimen.planes, self.stack_axis)


class SimulatedVolumes(SimulatedStackData):
    """Simulated volumes (:class:`Volume`), whose planes are neighbours along depth."""

    name, stack_axis, kind = "simulated_volume", "z", Volume


class SimulatedMovies(SimulatedStackData):
    """Simulated movies (:class:`Movie`), whose frames are neighbours along time."""

    name, stack_axis, kind = "simulated_movie", "t", Movie
