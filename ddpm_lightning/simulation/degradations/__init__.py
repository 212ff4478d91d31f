"""Degradations beyond the noise of a detector, for any image, in any order.

Each is a frozen dataclass that is called as ``degradation(image, rng)``. Some affect the light (``stage = "photons"``:
dose, bleaching, haze, vignetting, jitter), others occur in the electronics and in software
(``stage = "image"``: line noise, crosstalk, camera pattern, resampling, compression). A simulation applies the first
kind to expected photons, before the detector, and the second kind to the recorded image. Both kinds can be applied to
images of real microscopes. Those derived from :class:`~ddpm_lightning.simulation.degradations.base.Shared` are applied
to the clean image of a pair as well.

An image of integers is a recorded one: the result has the same type, rounded and clipped, and less light means that a
random part of the counts is kept (binomial thinning, which preserves the Poisson distribution). An image of floats
contains expected photons. Lines are rows: the beam scans along a row.
"""

from ddpm_lightning.simulation.degradations.base import Degradation, Shared, degrade, expected
from ddpm_lightning.simulation.degradations.camera_filter import CameraFilter
from ddpm_lightning.simulation.degradations.correlated_noise import CorrelatedNoise
from ddpm_lightning.simulation.degradations.electronics import (
    Afterpulsing,
    Bandwidth,
    CameraPattern,
    Crosstalk,
    ExcessNoise,
    HotPixels,
    LineNoise,
)
from ddpm_lightning.simulation.degradations.file_format import Clipping, Jpeg, Quantisation
from ddpm_lightning.simulation.degradations.light import Dose, Flicker, Haze, Photobleaching, Vignetting
from ddpm_lightning.simulation.degradations.mosaic import ColourMosaic
from ddpm_lightning.simulation.degradations.motion import Misregistration, ScanJitter
from ddpm_lightning.simulation.degradations.resampling import Binning, DriftCorrection, Zoom

__all__ = [
    "Afterpulsing",
    "Bandwidth",
    "Binning",
    "CameraFilter",
    "CameraPattern",
    "Clipping",
    "ColourMosaic",
    "CorrelatedNoise",
    "Crosstalk",
    "Degradation",
    "Dose",
    "DriftCorrection",
    "ExcessNoise",
    "Flicker",
    "Haze",
    "HotPixels",
    "Jpeg",
    "LineNoise",
    "Misregistration",
    "Photobleaching",
    "Quantisation",
    "ScanJitter",
    "Shared",
    "Vignetting",
    "Zoom",
    "degrade",
    "expected",
]
