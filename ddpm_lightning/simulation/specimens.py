"""The simulated counterparts of the four published data sets: a structure under two microscopes.

============ ================================== ================================= ========= ======
specimen     low                                high                              dose      pixel
============ ================================== ================================= ========= ======
microtubules STED, 60 nm                        the same STED                     1:17      25 nm
mitochondria STED, 58 nm, live                  the same STED                     1:10      20 nm
synapses     confocal, blurred as in tissue     Airyscan                          1:6       95 nm
zebrafish    confocal, photomultiplier, 1 frame mean of 50 such frames            1:50      200 nm
============ ================================== ================================= ========= ======

Doses, pixel sizes and modalities of the first two sets, the modalities and the pixel size of the third and
the number of frames of the fourth are those of the published sets; the rest is typical of such microscopes.
Both images of a pair show the same emitters, with independent noise. The photons at the brightest structures
vary from image to image, log-uniformly, because cells differ in their labelling.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ddpm_lightning.simulation.detector import Detector, Recorder
from ddpm_lightning.simulation.embryo import embryo
from ddpm_lightning.simulation.filaments import microtubules
from ddpm_lightning.simulation.mitochondria import mitochondria
from ddpm_lightning.simulation.optics import Psf, airyscan, confocal, image_of, spectrum_of, sted, with_haze
from ddpm_lightning.simulation.scene import Canvas, Scene, log_uniform
from ddpm_lightning.simulation.synapses import synapses

Structure = Callable[[np.random.Generator, Canvas, bool], Scene]


@dataclass(frozen=True)
class Microscope:
    """Optics and a detector.

    Attributes:
        psf: Point-spread function.
        detector: Converts photons to integers.
        frames: Frames whose mean is stored.
        dose: Photons per emitter and frame, relative to one frame of the clean image of the pair.
    """

    psf: Psf
    detector: Recorder = field(default_factory=Detector)
    frames: int = 1
    dose: float = 1.0


@dataclass(frozen=True)
class SimulatedSpecimen:
    """A kind of specimen and the two microscopes that image it.

    Attributes:
        structure: Generates the specimen.
        pixel: Size of a pixel in nm.
        low: Microscope of the degraded image.
        high: Microscope of the clean image.
        peak: Range of the photons per frame at the brightest structures (99.5th percentile) of the clean
            image.
        margin: Pixels simulated beyond the field of view.
    """

    structure: Structure
    pixel: float
    low: Microscope
    high: Microscope
    peak: tuple[float, float]
    margin: int = 32


@dataclass(frozen=True)
class Exposure:
    """The light that reaches the two detectors in one frame.

    Attributes:
        low: Expected photons of the degraded image with shape (H, W), float32.
        high: Expected photons of the clean image with shape (H, W), float32.
        truth: Ground truth: the geometry; see :class:`Scene`.
        parameters: Random parameters, by name.
    """

    low: np.ndarray
    high: np.ndarray
    truth: dict[str, Any]
    parameters: dict[str, Any]


def expose(specimen: SimulatedSpecimen, rng: np.random.Generator, size: int, truth: bool = True) -> Exposure:
    """Generates a specimen and images it under both microscopes, without noise."""
    canvas = Canvas(size, specimen.pixel, specimen.margin)
    peak = float(log_uniform(rng, *specimen.peak))
    scene = specimen.structure(rng, canvas, truth)
    spectrum = spectrum_of(scene.emitters)
    clean = canvas.crop(image_of(spectrum, canvas.shape, specimen.pixel, specimen.high.psf))
    if specimen.low.psf == specimen.high.psf:
        blurred = clean
    else:
        blurred = canvas.crop(image_of(spectrum, canvas.shape, specimen.pixel, specimen.low.psf))
    brightest = _percentile(clean, 99.5)
    haze = canvas.crop(scene.haze) if isinstance(scene.haze, np.ndarray) and scene.haze.ndim else scene.haze
    photons = peak / max(brightest, 1e-6)
    high = (photons * clean + peak * haze).astype(np.float32)
    low = specimen.low.dose * (photons * blurred + peak * haze).astype(np.float32)
    return Exposure(low, high, scene.truth, {"peak_photons": peak, **scene.parameters})


def _percentile(image: np.ndarray, percent: float) -> float:
    rank = int(percent / 100 * (image.size - 1))
    return float(np.partition(image, rank, axis=None)[rank])


_STED_FIXED = with_haze(sted(confocal(690, 1.42), saturation=16, pedestal=0.03), width=1200, energy=0.08)
_STED_LIVE = with_haze(sted(confocal(670, 1.42), saturation=16, pedestal=0.03), width=1200, energy=0.08)
# Deep in living tissue the confocal image is as blurred as with an objective of lower aperture.
_IN_VIVO = with_haze(confocal(525, 0.65), 2500, 0.25)
_GAASP = Detector(gain=20, offset=40, read_noise=0.3, excess=1.2, dark=0.05)
_EMBRYO = with_haze(Psf((450,)), 3000, 0.2)
_PMT = Detector(gain=12, offset=20, read_noise=0.3, excess=1.3, dark=0.02, bits=12)

SPECIMENS: Mapping[str, SimulatedSpecimen] = {
    "microtubules": SimulatedSpecimen(
        structure=microtubules,
        pixel=25,
        low=Microscope(_STED_FIXED, Detector(dark=0.01), dose=1 / 17),
        high=Microscope(_STED_FIXED, Detector(dark=0.1)),
        peak=(20, 70),
    ),
    "mitochondria": SimulatedSpecimen(
        structure=mitochondria,
        pixel=20,
        low=Microscope(_STED_LIVE, Detector(dark=0.01), dose=1 / 10),
        high=Microscope(_STED_LIVE, Detector(dark=0.1)),
        peak=(10, 32),
        margin=40,
    ),
    "synapses": SimulatedSpecimen(
        structure=synapses,
        pixel=95,
        low=Microscope(_IN_VIVO, _GAASP, dose=1 / 6),
        high=Microscope(with_haze(airyscan(525, 1.0, gain=1.25), 1500, 0.1), _GAASP),
        peak=(60, 200),
        margin=20,
    ),
    "zebrafish": SimulatedSpecimen(
        structure=embryo,
        pixel=200,
        low=Microscope(_EMBRYO, _PMT),
        high=Microscope(_EMBRYO, _PMT, frames=50),
        peak=(4, 16),
        margin=24,
    ),
}
