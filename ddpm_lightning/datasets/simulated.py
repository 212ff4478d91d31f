"""Simulated pairs: any number of them, each with its ground truth, and nothing to download.

Every pair has its own seed sequence (seed, split, index), so it does not depend on the order of access or the number of
workers. The specimen and each noisy image have separate random streams: omitting the extras or changing the dose
changes nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.data.splits import SPLITS
from ddpm_lightning.simulation.degradations import Degradation, degrade, expected
from ddpm_lightning.simulation.lazy_pairs import LazyPairs
from ddpm_lightning.simulation.specimens import SPECIMENS, expose
from ddpm_lightning.utils.errors import UserError


@dataclass(frozen=True)
class _Streams:
    specimen: np.random.SeedSequence
    low: np.random.SeedSequence
    high: np.random.SeedSequence
    low_second: np.random.SeedSequence
    high_second: np.random.SeedSequence


class SimulatedPairs(LazyPairs):
    """Pairs of one of the four simulated specimens.

    ``Pair.extra`` holds, unless ``extras`` is off,

    - ``truth``: geometry in pixels, as described by the structure;
    - ``emitters``: the clean image without noise with shape (H, W), float32, in the units of ``high``;
    - ``low_second``, ``high_second``: second recordings with independent noise;
    - ``parameters``: the random parameters.

    Args:
        specimen: ``microtubules``, ``mitochondria``, ``synapses`` or ``zebrafish``.
        split: ``train``, ``val`` or ``test``; the splits share no image.
        count: Number of pairs.
        size: Side of the images in pixels.
        seed: Seed of the whole set.
        dose: Factor on the photons of the degraded image.
        degradations: Degradations of the low image, in order; the linear ones are applied to the high image
            as well. See ``simulation/degradations``.
        cache: Folder that caches the pairs, or ``None``.
        extras: Whether to fill ``Pair.extra``; training does not need it.
    """

    def __init__(
        self,
        specimen: str,
        split: str,
        count: int,
        size: int = 256,
        seed: int = 0,
        dose: float = 1.0,
        degradations: Sequence[Degradation] = (),
        cache: str | Path | None = None,
        extras: bool = True,
    ) -> None:
        if specimen not in SPECIMENS:
            raise UserError("data.specimen", f"{specimen!r}", ", ".join(SPECIMENS), "choose one of them")
        if not dose > 0:
            raise UserError(
                f"data.dose={dose}", "is out of range", "a factor above 0", "1 is the dose of the set"
            )
        self.specimen, self.dose, self.degradations, self.extras = specimen, dose, tuple(degradations), extras
        self.imaging = SPECIMENS[specimen]
        recipe = (specimen, split, size, seed, dose, self.degradations, extras)
        super().__init__(split, count, size, seed, recipe, cache, pixel_size=self.imaging.pixel / 1000)

    def _simulate(self, index: int) -> dict[str, Any]:
        root = np.random.SeedSequence([self.seed, SPLITS.index(self.split), index])
        streams = _Streams(*root.spawn(5))
        exposure = expose(self.imaging, np.random.default_rng(streams.specimen), self.size, self.extras)
        content: dict[str, Any] = {
            "low": self._low(exposure.low, streams.low),
            "high": self._high(exposure.high, streams.high),
        }
        if self.extras:
            content["truth"] = exposure.truth
            photons = expected(exposure.high, self.degradations, "photons")
            emitters = self.imaging.high.detector.expected(photons).astype(np.float32)
            content["emitters"] = expected(emitters, self.degradations, "image")
            content["low_second"] = self._low(exposure.low, streams.low_second)
            content["high_second"] = self._high(exposure.high, streams.high_second)
            content["parameters"] = exposure.parameters
        return content

    def _low(self, photons: np.ndarray, stream: np.random.SeedSequence) -> np.ndarray:
        rng = np.random.default_rng(stream)
        photons = degrade(self.dose * photons, self.degradations, rng, "photons")
        image = self.imaging.low.detector(photons, rng, self.imaging.low.frames)
        return degrade(image, self.degradations, rng, "image")

    def _high(self, photons: np.ndarray, stream: np.random.SeedSequence) -> np.ndarray:
        photons = expected(photons, self.degradations, "photons")
        image = self.imaging.high.detector(photons, np.random.default_rng(stream), self.imaging.high.frames)
        return expected(image, self.degradations, "image")
