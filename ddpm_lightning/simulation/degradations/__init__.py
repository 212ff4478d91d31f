"""Degradations beyond the noise of a detector, for any image, in any order.

Each is a frozen dataclass that is called as ``degradation(image, rng)``. Some affect the light (``stage = "photons"``:
dose, bleaching, flicker, jitter, misregistration), others occur in the electronics and in software
(``stage = "image"``: line noise, crosstalk, camera pattern, resampling). A simulation applies the first kind to
expected photons, before the detector, and the second kind to the recorded image. Both kinds can be applied to images
of real microscopes. Those derived from :class:`~ddpm_lightning.simulation.degradations.base.Linear` are applied to the
clean image of a pair as well.

An image of integers is a recorded one: the result has the same type, rounded and clipped, and less light means that a
random part of the counts is kept (binomial thinning, which preserves the Poisson distribution). An image of floats
contains expected photons. Lines are rows: the beam scans along a row.
"""

from ddpm_lightning.simulation.degradations.base import Degradation, Linear, degrade, expected
from ddpm_lightning.simulation.degradations.camera_filter import CameraFilter
from ddpm_lightning.simulation.degradations.correlated_noise import CorrelatedNoise
from ddpm_lightning.simulation.degradations.electronics import (
    Afterpulsing,
    Bandwidth,
    CameraPattern,
    Crosstalk,
    LineNoise,
)
from ddpm_lightning.simulation.degradations.light import Dose, Flicker, Photobleaching
from ddpm_lightning.simulation.degradations.mosaic import ColourMosaic
from ddpm_lightning.simulation.degradations.motion import Misregistration, ScanJitter
from ddpm_lightning.simulation.degradations.resampling import Binning, DriftCorrection, Zoom

__all__ = [
    "Afterpulsing",
    "Bandwidth",
    "Binning",
    "CameraFilter",
    "CameraPattern",
    "ColourMosaic",
    "CorrelatedNoise",
    "Crosstalk",
    "Degradation",
    "Dose",
    "DriftCorrection",
    "Flicker",
    "LineNoise",
    "Linear",
    "Misregistration",
    "Photobleaching",
    "ScanJitter",
    "Zoom",
    "degrade",
    "expected",
]
