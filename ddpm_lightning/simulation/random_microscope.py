"""Noisy and clean images of a specimen under a random microscope.

Each simulated data set has fixed microscopes. Here magnification, blur, background, light and detector vary from image
to image, and the two images of a pair differ only in noise: a model learns to remove weak and strong noise, but not to
sharpen, because an image does not show how much its own optics have blurred it.
"""

from dataclasses import dataclass, replace
from functools import reduce
from typing import cast

import numpy as np
from scipy import ndimage

from ddpm_lightning.simulation.degradations import degrade
from ddpm_lightning.simulation.detector import Detector
from ddpm_lightning.simulation.processing import Processing
from ddpm_lightning.simulation.scene import log_uniform, smooth_field
from ddpm_lightning.simulation.simple_structures import SIMPLE_STRUCTURES
from ddpm_lightning.simulation.specimens import SPECIMENS, expose

__all__ = ["RandomMicroscope"]

#: Pixels around the field that interpolation and blur may distort.
MARGIN = 8
#: Exponents with which the amplitude of textures decreases with frequency: from fine grain to clouds.
TEXTURE_EXPONENTS = (0.6, 2.0)


@dataclass(frozen=True)
class RandomMicroscope:
    """Ranges of the properties of a microscope; all but layers, background and excess are sampled log-uniformly.

    Attributes:
        layers: Number of overlapping fields of the specimen with random brightness, which determines the density.
        texture: Brightness of a texture with a power-law spectrum, relative to the brightest structures. Half of the
            images have one, because cells contain much that the simulated structures do not.
        zoom: Magnification relative to the sampling of the simulated specimen.
        blur: Standard deviation of a Gaussian blur, in addition to that of the specimen's own optics, in pixels.
        photons: Photons at the brightest structures (99.5th percentile).
        background: Background light relative to the brightest structures.
        read_noise: Standard deviation of the read noise in electrons.
        excess: Excess noise factor F².
        bits: Bit depths of detectors.
    """

    layers: tuple[int, int] = (1, 3)
    texture: tuple[float, float] = (0.1, 3.0)
    zoom: tuple[float, float] = (0.3, 2.5)
    blur: tuple[float, float] = (0.15, 2.0)
    photons: tuple[float, float] = (3.0, 500.0)
    background: tuple[float, float] = (0.0, 0.5)
    read_noise: tuple[float, float] = (0.1, 4.0)
    excess: tuple[float, float] = (1.0, 1.5)
    bits: tuple[int, ...] = (8, 12, 16)

    def __call__(
        self,
        specimen: str,
        rng: np.random.Generator,
        size: int,
        processing: Processing | None = None,
        processing_rng: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Generates a specimen and records it.

        Args:
            specimen: Name of a simulated specimen.
            rng: Source of randomness.
            size: Side of the images in pixels.
            processing: What happens to the light before the sensor, and to the images after it.
            processing_rng: Its source of randomness; by default the same as that of the microscope.

        Returns:
            A noisy image as integers, and its expectation, float32; both with shape (size, size).
        """
        processing, other = processing or Processing(), processing_rng or rng
        light = self._light(specimen, rng, processing.side(size))
        light = degrade(light, processing.light, other)
        detector = self._detector(light, rng)
        if processing.excess is not None:
            detector = replace(detector, excess=processing.excess)
        low = detector(light, rng)
        clean = np.clip(detector.expected(light), 0, 2**detector.bits - 1).astype(np.float32)
        return processing(low, clean, detector, other, size)

    def _detector(self, light: np.ndarray, rng: np.random.Generator) -> Detector:
        read_noise = float(log_uniform(rng, *self.read_noise))
        bits, excess = int(rng.choice(self.bits)), float(rng.uniform(*self.excess))
        offset = float(rng.uniform(2, 12)) * (1 if bits == 8 else 10)
        # The brightest structures use between a third and 110 % of the detector's range: some images are clipped.
        room = (2**bits - 1 - offset) * float(log_uniform(rng, 0.33, 1.1))
        gain = room / max(float(light.max()), 10 * read_noise)
        return Detector(gain=gain, offset=offset, read_noise=read_noise, excess=excess, bits=bits)

    def _light(self, specimen: str, rng: np.random.Generator, size: int) -> np.ndarray:
        """Returns the expected photons of a specimen."""
        blur = float(log_uniform(rng, *self.blur))
        layers = int(rng.integers(self.layers[0], self.layers[1] + 1))
        image = reduce(
            np.add,
            (float(log_uniform(rng, 0.3, 1)) * self._structures(specimen, rng, size) for _ in range(layers)),
        )
        if rng.random() < 0.5:
            image = image + float(log_uniform(rng, *self.texture)) * texture(rng, len(image))
        image = np.maximum(ndimage.gaussian_filter(image, blur), 0)[MARGIN:-MARGIN, MARGIN:-MARGIN]
        image = image / max(float(np.percentile(image, 99.5)), 1e-6)
        haze = np.exp(0.5 * smooth_field(rng, size, size / 3))
        image = image + float(rng.uniform(*self.background)) * haze / haze.mean()
        return float(log_uniform(rng, *self.photons)) * image

    def _structures(self, specimen: str, rng: np.random.Generator, size: int) -> np.ndarray:
        """Returns a field of the specimen with margins; the brightest structures are about 1."""
        zoom = float(log_uniform(rng, *self.zoom))
        side = int(np.ceil((size + 2 * MARGIN) / zoom))
        if specimen in SIMPLE_STRUCTURES:
            image = SIMPLE_STRUCTURES[specimen](rng, max(side, 32)).astype(np.float32)
        else:
            image = expose(SPECIMENS[specimen], rng, max(side, 32), truth=False).high.astype(np.float32)
        if zoom < 1:  # avoids aliasing
            image = ndimage.gaussian_filter(image, 0.5 / zoom)
        image = cast("np.ndarray", ndimage.zoom(image, zoom, order=3, mode="reflect", grid_mode=True))
        top, left = ((length - size - 2 * MARGIN) // 2 for length in image.shape)
        image = image[top : top + size + 2 * MARGIN, left : left + size + 2 * MARGIN]
        return image / max(float(np.percentile(image, 99.5)), 1e-6)


def texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Returns a random texture: fine grain, clouds or bundles of fibres, often within the shape of a cell.

    It is log-normal; the amplitude of its logarithm falls with frequency by a power law, more slowly across the fibres.

    Args:
        rng: Source of randomness.
        size: Side in pixels.

    Returns:
        An image (size, size), float32, not negative, its 99.5th percentile at about 1.
    """
    angle, length = rng.uniform(0, np.pi), float(log_uniform(rng, 1, 10))
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    along, across = (np.cos(turn) * columns + np.sin(turn) * rows for turn in (angle, angle + np.pi / 2))
    frequency = np.maximum(np.hypot(length * along, across), 1 / size)
    amplitude = frequency ** -rng.uniform(*TEXTURE_EXPONENTS)
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) * amplitude, (size, size))
    image = np.exp((field - field.mean()) / field.std() * rng.uniform(0.3, 1.0))
    if rng.random() < 0.5:
        shape = smooth_field(rng, size, size / rng.uniform(3, 10))
        image = image / (1 + np.exp((rng.uniform(-0.5, 0.5) - shape) / rng.uniform(0.02, 0.2)))
    return (image / np.percentile(image, 99.5)).astype(np.float32)
