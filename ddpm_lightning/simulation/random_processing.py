"""Cameras, software and file formats at random, for pairs from which a model learns to denoise unknown images.

About half of the images have noise that is independent from pixel to pixel, as a detector delivers it. In the others,
the noise of neighbours correlates, for one of several reasons:

========== ==================================================================== =====================
name       what happens                                                         correlation
========== ==================================================================== =====================
generic    noise filtered by a Gaussian, alike along both axes or not           0 to 0.75
mosaic     a Bayer pattern is interpolated; a channel or the luminance is kept  0.4 to 0.67
shift      drift is corrected by a fraction of a pixel                          -0.1 to 0.5
zoom       the image is enlarged or reduced                                     0 to 0.75
filter     the camera applies a 3 x 3 mean or median                            0.6 to 0.67
lines      a slow amplifier smears the rows                                     0 to 0.75 along rows
========== ==================================================================== =====================

Binning leaves independent noise independent, and reduces other correlations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ddpm_lightning.simulation.degradations.camera_filter import CameraFilter
from ddpm_lightning.simulation.degradations.correlated_noise import HIGHEST
from ddpm_lightning.simulation.degradations.electronics import Bandwidth
from ddpm_lightning.simulation.degradations.mosaic import ColourMosaic
from ddpm_lightning.simulation.degradations.resampling import REACH, DriftCorrection
from ddpm_lightning.simulation.processing import (
    Binned,
    Correlated,
    Median,
    Processing,
    Resized,
    SameForBoth,
    Step,
)
from ddpm_lightning.simulation.scene import log_uniform
from ddpm_lightning.utils.errors import UserError

__all__ = ["RandomProcessing"]

#: Relative frequencies of the reasons for correlated noise.
MECHANISMS = {"generic": 0.4, "mosaic": 0.17, "shift": 0.13, "zoom": 0.15, "filter": 0.08, "lines": 0.07}


@dataclass(frozen=True)
class RandomProcessing:
    """Probabilities and ranges; numbers are sampled uniformly, factors log-uniformly.

    Attributes:
        correlated: Fraction of the images whose noise correlates between neighbours.
        mechanisms: Relative frequencies of the reasons: see the table above.
        again: Fraction of the correlated images that are shifted or zoomed after another step.
        binned: Fraction of the images that are binned last, 2 x 2.
        correlation: Correlation of neighbours for ``generic`` and ``lines``.
        amplitude: Factor on the standard deviation of the noise for ``generic``.
        zoom: Factor on the number of pixels along each axis for ``zoom``.
    """

    correlated: float = 0.5
    mechanisms: Mapping[str, float] = field(default_factory=lambda: dict(MECHANISMS))
    again: float = 0.15
    binned: float = 0.03
    correlation: tuple[float, float] = (0.0, 0.75)
    amplitude: tuple[float, float] = (0.4, 1.0)
    zoom: tuple[float, float] = (0.5, 1.8)

    def __post_init__(self) -> None:
        for name in ("correlated", "again", "binned"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"data.processing.{name}", f"is {getattr(self, name)}", "0 to 1")
        weights = self.mechanisms.values()
        if unknown := [name for name in self.mechanisms if name not in MECHANISMS]:
            raise UserError(
                "data.processing.mechanisms", f"{unknown[0]!r}", ", ".join(MECHANISMS), "choose among them"
            )
        if self.correlated and (not weights or min(weights) < 0 or sum(weights) <= 0):
            found = f"is {dict(self.mechanisms)}"
            raise UserError("data.processing.mechanisms", found, "frequencies of 0 or more, one above 0")
        low, high = self.correlation
        if not 0 <= low <= high <= HIGHEST:
            raise UserError("data.processing.correlation", f"is {[low, high]}", f"between 0 and {HIGHEST}")

    def sample(self, rng: np.random.Generator) -> Processing:
        """Samples what happens to one pair."""
        return Processing(steps=(*self._correlating(rng), *self._binning(rng)))

    def _correlating(self, rng: np.random.Generator) -> list[Step]:
        if rng.random() >= self.correlated:
            return []
        weights = np.array([self.mechanisms.get(name, 0.0) for name in MECHANISMS])
        steps: list[Step] = [self._step(str(rng.choice(list(MECHANISMS), p=weights / weights.sum())), rng)]
        if rng.random() < self.again:
            steps.append(self._step("shift" if rng.random() < 0.5 else "zoom", rng))
        return steps

    def _binning(self, rng: np.random.Generator) -> list[Step]:
        return [Binned(2)] if rng.random() < self.binned else []

    def _step(self, mechanism: str, rng: np.random.Generator) -> Step:
        rows, columns = rng.uniform(*self.correlation, 2)
        interpolation = str(rng.choice(list(REACH)))
        if mechanism == "generic":
            # Half of it is isotropic.
            rows = columns if rng.random() < 0.5 else rows
            return Correlated(float(rows), float(columns), float(log_uniform(rng, *self.amplitude)))
        if mechanism == "mosaic":
            return SameForBoth(ColourMosaic(str(rng.choice(["red", "green", "blue", "luminance"]))))
        if mechanism == "shift":
            down, right = rng.uniform(-0.5, 0.5, 2)
            return SameForBoth(DriftCorrection((float(down), float(right)), interpolation))
        if mechanism == "zoom":
            return Resized(float(log_uniform(rng, *self.zoom)), interpolation, bool(rng.random() < 0.5))
        if mechanism == "filter":
            return Median() if rng.random() < 0.5 else SameForBoth(CameraFilter("mean"))
        return SameForBoth(Bandwidth(-1 / np.log(max(float(columns), 0.01))))
