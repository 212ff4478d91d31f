"""Movies: filaments and spots that rest, drift, diffuse or beat, bleach, jump with the stage, and light up.

Every movie has a known truth: the displacement of the structure, the paths of the spots, the curve of bleaching, and
place and trace of each transient.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm_lightning.simulation.chains import at, scatter_along, worm_like_chains
from ddpm_lightning.simulation.optics import Psf
from ddpm_lightning.simulation.scene import Canvas, log_uniform

__all__ = ["MOTIONS", "Movie", "beating", "bleaching", "diffusion", "transient"]

#: How the structure of a movie moves. Of ``unrelated`` movies, each frame shows something else.
MOTIONS = ("still", "drift", "diffusion", "beating", "unrelated")
MARGIN = 16
#: Width of the focus in pixels (full width at half maximum).
WIDTH = 3.0


def diffusion(rng: np.random.Generator, spots: int, frames: int, coefficient: float) -> np.ndarray:
    r"""Returns the displacements of diffusing spots with shape (frames, spots, 2), 0 in the first frame.

    The mean square displacement after t frames is :math:`4 D t`.

    Args:
        rng: Source of randomness.
        spots: Number of spots.
        frames: Number of frames.
        coefficient: Coefficient of diffusion D in square pixels per frame.
    """
    steps = rng.normal(0, np.sqrt(2 * coefficient), (frames, spots, 2))
    steps[0] = 0
    return np.cumsum(steps, axis=0)


def beating(
    points: np.ndarray, frames: int, amplitude: float, period: float, wavelength: float
) -> np.ndarray:
    """Returns the displacements of points along the columns by a travelling wave, with shape (frames, N, 2).

    Args:
        points: Positions with shape (N, 2), as (row, column).
        frames: Number of frames.
        amplitude: Largest displacement in pixels.
        period: Frames after which it repeats.
        wavelength: Pixels along the rows after which it repeats.
    """
    phase = np.arange(frames)[:, None] / period - points[:, 0] / wavelength
    return np.stack([np.zeros(phase.shape), amplitude * np.sin(2 * np.pi * phase)], axis=-1)


def bleaching(frames: int, lifetime: float) -> np.ndarray:
    """Returns the brightness in each frame relative to the first, which falls to 1 / e after ``lifetime`` frames."""
    return np.exp(-np.arange(frames) / lifetime)


def transient(frames: int, onset: float, rise: float, decay: float) -> np.ndarray:
    """Returns the trace of a transient: 0 until its onset, a linear rise to 1, then an exponential decay.

    Args:
        frames: Number of frames.
        onset: Frame at which it begins.
        rise: Frames from there to the peak, above 0.
        decay: Frames from the peak to 1 / e of it.
    """
    since = np.arange(frames) - onset
    return np.where(since < rise, np.clip(since / rise, 0, 1), np.exp(-np.maximum(since - rise, 0) / decay))


@dataclass(frozen=True)
class Movie:
    """Ranges of the properties of random movies; pixels and frames are the units.

    Attributes:
        planes: Number of frames.
        motions: Kinds of motion, which take turns.
        speed: Pixels per frame of drifting structure, and largest ones of a beating structure.
        coefficient: Coefficient of diffusion of spots, in square pixels per frame.
        bleached: Probability that a movie bleaches.
        lifetime: Frames after which a bleaching movie is at 1 / e.
        jump: Probability that the stage jumps once in a movie.
        transients: Most transients of a movie.
    """

    planes: int = 16
    motions: tuple[str, ...] = MOTIONS
    speed: tuple[float, float] = (0.1, 4.0)
    coefficient: tuple[float, float] = (0.02, 2.0)
    bleached: float = 0.3
    lifetime: tuple[float, float] = (6.0, 60.0)
    jump: float = 0.2
    transients: int = 12

    def __call__(self, rng: np.random.Generator, size: int, number: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Generates a movie.

        Args:
            rng: Source of randomness.
            size: Side of the frames in pixels.
            number: Number of the movie, which determines its kind of motion.

        Returns:
            Light with shape (frames, size, size), about 1 at the brightest structures, and the truth: ``motion``;
            ``shift`` of the field of view by the stage, (frames, 2); ``bleaching``, (frames,); and of N transients
            ``places``, (N, 2), without the shift, and ``traces``, (N, frames).
        """
        canvas, frames = Canvas(size, 1000.0, MARGIN), np.arange(self.planes)
        motion = self.motions[number % len(self.motions)]
        light = np.stack([canvas.splat(*points) for points in self._structure(rng, size, motion)])
        curve = np.ones(self.planes)
        if rng.random() < self.bleached:
            curve = bleaching(self.planes, float(log_uniform(rng, *self.lifetime)))
        shift = np.zeros((self.planes, 2))
        if rng.random() < self.jump:
            shift[frames >= rng.integers(1, self.planes)] = rng.uniform(-6, 6, 2)
        count = 0 if motion == "unrelated" else int(rng.integers(0, self.transients + 1))
        places = rng.uniform(4, size - 4, (count, 2))
        traces = np.zeros((count, self.planes))
        for trace in traces:
            onset, rise, decay = rng.uniform((1, 0.5, 1), (self.planes - 2, 3, 5))
            trace[:] = rng.uniform(0.5, 2) * transient(self.planes, onset, rise, decay)
        images = _imaged(light, shift)
        brightest = max(float(np.percentile(canvas.crop(images[0]), 99.8)), 1e-9)
        spots = np.stack([canvas.splat(places, traces[:, frame]) for frame in frames])
        # A spot of light 1 has this height in focus.
        height = 4 * np.log(2) / np.pi / WIDTH**2
        images = images / brightest + _imaged(spots / height, shift)
        light = np.stack([canvas.crop(image) for image in images * curve[:, None, None]])
        truth = {"motion": motion, "shift": shift, "bleaching": curve, "places": places, "traces": traces}
        return light, truth

    def _structure(
        self, rng: np.random.Generator, size: int, motion: str
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns points (N, 2) and their light (N,) in each frame."""
        if motion == "unrelated":
            return [_points(rng, size) for _ in range(self.planes)]
        points, weights = _points(rng, size)
        speed, angle = float(log_uniform(rng, *self.speed)), float(rng.uniform(0, 2 * np.pi))
        moved = np.zeros((self.planes, len(points), 2))
        if motion == "drift":
            moved += speed * np.arange(self.planes)[:, None, None] * np.array([np.sin(angle), np.cos(angle)])
            # A part of the structure rests.
            moved[:, : int(rng.uniform(0, 0.7) * len(points))] = 0
        elif motion == "beating":
            period = float(rng.uniform(4, 12))
            moved += beating(
                points, self.planes, speed * period / (2 * np.pi), period, float(rng.uniform(30, 120))
            )
        elif motion == "diffusion":
            spots = rng.uniform(-MARGIN, size + MARGIN, (int(log_uniform(rng, 1e-3, 1e-2) * size**2) + 1, 2))
            paths = diffusion(rng, len(spots), self.planes, float(log_uniform(rng, *self.coefficient)))
            points, moved = np.concatenate([points, spots]), np.concatenate([moved, paths], axis=1)
            weights = np.concatenate([0.3 * weights, 30 * rng.lognormal(0, 0.4, len(spots))])
        return [(points + step, weights) for step in moved]


def _points(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns points on filaments and spots, in pixels of the field of view, in random order of the filaments."""
    count, low, high = int(rng.integers(6, 30)), -MARGIN, size + MARGIN
    chains = worm_like_chains(
        rng,
        rng.uniform(low, high, (count, 2)),
        rng.uniform(0, 2 * np.pi, count),
        1.2 * size,
        1.0,
        float(log_uniform(rng, 30, 400)),
    )
    owner, along = scatter_along(rng, np.full((count, chains.shape[1] - 1), 4.0))
    spots = rng.uniform(low, high, (rng.poisson(float(log_uniform(rng, 5e-4, 1e-2)) * size**2), 2))
    light = rng.lognormal(0, 0.4, count)[owner] * rng.standard_gamma(3.0, len(owner)) / 3
    points = np.concatenate([at(chains, owner, along), spots])
    return points, np.concatenate([light, 20 * rng.lognormal(0, 0.6, len(spots))])


def _imaged(emitters: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Returns blurred frames (frames, S, S), each shifted by so many pixels."""
    psf = Psf((WIDTH,))
    images = np.stack([psf(frame, 1.0) for frame in emitters])
    rows, columns = np.fft.fftfreq(images.shape[1])[:, None], np.fft.rfftfreq(images.shape[2])
    for frame in np.flatnonzero(shift.any(axis=1)):
        phase = np.exp(-2j * np.pi * (shift[frame, 0] * rows + shift[frame, 1] * columns))
        images[frame] = np.maximum(np.fft.irfft2(np.fft.rfft2(images[frame]) * phase, images.shape[1:]), 0)
    return images
