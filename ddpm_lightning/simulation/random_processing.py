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

Binning leaves independent noise independent, and reduces other correlations. Each other artefact occurs in a small part
of the images, independently of the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ddpm_lightning.simulation.degradations.base import Degradation
from ddpm_lightning.simulation.degradations.camera_filter import CameraFilter
from ddpm_lightning.simulation.degradations.correlated_noise import HIGHEST
from ddpm_lightning.simulation.degradations.electronics import Bandwidth
from ddpm_lightning.simulation.degradations.light import Haze, Vignetting
from ddpm_lightning.simulation.degradations.mosaic import ColourMosaic
from ddpm_lightning.simulation.degradations.resampling import REACH, DriftCorrection
from ddpm_lightning.simulation.processing import (
    Binned,
    Correlated,
    FileFormat,
    Median,
    Processing,
    Resized,
    SameForBoth,
    Step,
    UnequalPixels,
)
from ddpm_lightning.simulation.scene import log_uniform
from ddpm_lightning.utils.errors import UserError

__all__ = ["RandomProcessing"]

#: Relative frequencies of the reasons for correlated noise.
MECHANISMS = {"generic": 0.4, "mosaic": 0.17, "shift": 0.13, "zoom": 0.15, "filter": 0.08, "lines": 0.07}

#: Settings that are fractions of the images.
FRACTIONS = (
    *("correlated", "again", "binned", "jpeg", "eight_bits", "clipped", "quantised"),
    *("unequal", "hot", "emccd", "vignetted", "hazy"),
)
#: Settings that are ranges, and between what limits.
RANGES: Mapping[str, tuple[float, float]] = {
    "correlation": (0, HIGHEST),
    "amplitude": (1e-3, 100),
    "zoom": (0.1, 10),
    "quality": (1, 100),
    "black": (0, 0.9),
    "white": (0, 0.09),
    "effective_bits": (1, 16),
    "gain_sd": (1e-6, 1),
    "offset_sd": (1e-6, 1e3),
    "hot_pixels": (1e-9, 0.5),
    "corner": (1e-3, 1),
    "haze": (0, 1),
    "haze_width": (0.1, 1e4),
}


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
        jpeg: Fraction of the images that are compressed, with 8 bits.
        quality: Quality of the compression.
        eight_bits: Fraction of the images that are stretched to 8 bits without compression.
        clipped: Fraction of the images whose darkest and brightest pixels are lost.
        black: Fraction of the pixels of these images that become black.
        white: Fraction of their pixels that become white.
        quantised: Fraction of the images with few grey levels.
        effective_bits: Their effective number of bits.
        unequal: Fraction of the images of a camera whose pixels differ in gain, offset and read noise.
        gain_sd: Relative standard deviation of the gain of these pixels.
        offset_sd: Standard deviation of their offset in electrons.
        hot: Fraction of the images with hot and dead pixels.
        hot_pixels: Fraction of hot pixels in these images; a third as many are dead.
        emccd: Fraction of the images from EMCCDs, with an excess noise factor F² of 2.
        vignetted: Fraction of the images that darken towards the corners.
        corner: Fraction of the light in their corners.
        hazy: Fraction of the images with light from out of focus.
        haze: Fraction of their light that is out of focus.
        haze_width: Standard deviation of its blur in pixels.
    """

    correlated: float = 0.5
    mechanisms: Mapping[str, float] = field(default_factory=lambda: dict(MECHANISMS))
    again: float = 0.15
    binned: float = 0.03
    correlation: tuple[float, float] = (0.0, 0.75)
    amplitude: tuple[float, float] = (0.4, 1.0)
    zoom: tuple[float, float] = (0.5, 1.8)
    jpeg: float = 0.1
    quality: tuple[int, int] = (60, 95)
    eight_bits: float = 0.1
    clipped: float = 0.08
    black: tuple[float, float] = (0.0, 0.3)
    white: tuple[float, float] = (0.0, 0.01)
    quantised: float = 0.07
    effective_bits: tuple[float, float] = (4.0, 7.0)
    unequal: float = 0.1
    gain_sd: tuple[float, float] = (0.003, 0.05)
    offset_sd: tuple[float, float] = (0.1, 2.0)
    hot: float = 0.08
    hot_pixels: tuple[float, float] = (1e-4, 2e-3)
    emccd: float = 0.08
    vignetted: float = 0.12
    corner: tuple[float, float] = (0.4, 0.95)
    hazy: float = 0.12
    haze: tuple[float, float] = (0.1, 0.6)
    haze_width: tuple[float, float] = (8.0, 60.0)

    def __post_init__(self) -> None:
        for name in FRACTIONS:
            _check(name, 0 <= getattr(self, name) <= 1, getattr(self, name), "0 to 1")
        for name, (lowest, highest) in RANGES.items():
            low, high = getattr(self, name)
            _check(name, lowest <= low <= high <= highest, [low, high], f"between {lowest} and {highest}")
        weights = self.mechanisms.values()
        known = set(self.mechanisms) <= set(MECHANISMS) and all(weight >= 0 for weight in weights)
        allowed = f"frequencies of {', '.join(MECHANISMS)}, not all 0"
        _check("mechanisms", known and (sum(weights) > 0 or not self.correlated), self.mechanisms, allowed)

    def sample(self, rng: np.random.Generator) -> Processing:
        """Samples what happens to one pair."""
        processed = (*self._correlating(rng), *self._binning(rng))
        return Processing(
            light=self._light(rng),
            excess=2.0 if rng.random() < self.emccd else None,
            steps=(*self._sensor(rng), *processed),
            file=self._file(rng),
        )

    def _light(self, rng: np.random.Generator) -> tuple[Degradation, ...]:
        chain: list[Degradation] = []
        if rng.random() < self.hazy:
            width = float(log_uniform(rng, *self.haze_width))
            chain.append(Haze(float(rng.uniform(*self.haze)), width))
        if rng.random() < self.vignetted:
            chain.append(Vignetting(float(rng.uniform(*self.corner))))
        return tuple(chain)

    def _sensor(self, rng: np.random.Generator) -> list[Step]:
        camera = UnequalPixels(int(rng.integers(2**31)))
        if rng.random() < self.unequal:
            gain_sd, offset_sd = (float(log_uniform(rng, *one)) for one in (self.gain_sd, self.offset_sd))
            camera = replace(camera, gain_sd=gain_sd, offset_sd=offset_sd, read_noise=offset_sd / 2)
        if rng.random() < self.hot:
            hot = float(log_uniform(rng, *self.hot_pixels))
            camera = replace(camera, hot=hot, dead=hot / 3, level=float(log_uniform(rng, 0.2, 2)))
        return [] if camera == UnequalPixels(camera.serial) else [camera]

    def _file(self, rng: np.random.Generator) -> FileFormat:
        file = FileFormat()
        if rng.random() < self.jpeg:
            quality = int(rng.integers(self.quality[0], self.quality[1] + 1))
            file = replace(file, bits=8, limits=(0.0, 1.0), quality=quality)
        elif rng.random() < self.eight_bits:
            file = replace(file, bits=8, limits=(0.0, 1.0))
        if rng.random() < self.clipped:
            black, white = rng.uniform(*self.black), rng.uniform(*self.white)
            file = replace(file, limits=(float(black), 1 - float(white)))
        if rng.random() < self.quantised:
            file = replace(file, effective_bits=float(rng.uniform(*self.effective_bits)))
        return file

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


def _check(name: str, right: bool, found: object, allowed: str) -> None:
    if not right:
        raise UserError(f"data.processing.{name}", f"is {found}", allowed)
