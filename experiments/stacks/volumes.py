"""Simulated stacks and movies with their truth: volumes of filaments and spots, what moves, and what appears."""

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter

__all__ = ["CASES", "PLANES", "SPOTS", "early", "peaks", "recorded"]

PLANES, SIDE = 12, 128
BACKGROUND = 0.1
#: Gain of the camera, its read noise in electrons, and its offset.
GAIN, READ_NOISE, OFFSET = 2.0, 1.5, 100.0
#: Number of transients, and planes after which one has decayed to 1 / e.
SPOTS, DECAY = 24, 1.5


@cache
def _volume(planes: int, blur: float, seed: int) -> np.ndarray:
    """Returns filaments and spots with shape (planes, 128, 128) and values from 0 to 1, blurred along depth."""
    rng, margin = np.random.default_rng(seed), 12
    volume = np.zeros((planes + 2 * margin, SIDE, SIDE))
    flat = np.array([0.35, 1, 1])
    for _ in range(60):
        place, direction = rng.uniform(0, volume.shape), rng.normal(size=3) * flat
        for _ in range(400):
            direction += rng.normal(size=3) * 0.05 * flat
            direction /= np.linalg.norm(direction)
            place = place + 0.5 * direction
            at = np.round(place).astype(int)
            if (at < 0).any() or (at >= volume.shape).any():
                break
            volume[tuple(at)] += rng.gamma(2)
    for _ in range(400):
        volume[tuple(rng.integers(0, volume.shape))] += 30 * rng.gamma(2)
    volume = gaussian_filter(volume, (blur, 1.3, 1.3))[margin : margin + planes]
    return volume / np.percentile(volume, 99.8)


def _plane(seed: int) -> np.ndarray:
    return _volume(3, 2.0, seed)[1]


def _moving(step: int) -> np.ndarray:
    """Returns structure that moves by this many pixels from frame to frame before a background that does not."""
    still, moving = _plane(7), _plane(5)
    return np.stack([0.5 * still + 0.5 * np.roll(moving, step * frame, axis=1) for frame in range(PLANES)])


def _light(planes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return planes * weights[:, None, None]


@cache
def _spots() -> tuple[np.ndarray, ...]:
    """Returns place, first frame, brightness and width of each transient."""
    rng = np.random.default_rng(3)
    return (
        rng.uniform(10, SIDE - 10, (SPOTS, 2)),
        rng.integers(2, PLANES - 3, SPOTS),
        rng.uniform(0.4, 1, SPOTS),
        rng.choice([1.3, 1.8, 3.0], SPOTS),
    )


def _transients() -> np.ndarray:
    found = np.repeat(0.5 * _plane(7)[None], PLANES, axis=0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    frames = np.arange(PLANES)
    for (row, column), first, bright, width in zip(*_spots(), strict=True):
        trace = np.where(frames >= first, np.exp((first - frames) / DECAY), 0)
        shape = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * width**2))
        found += bright * trace[:, None, None] * shape
    return found


#: Light of each case, from 0 to about 1, with shape (planes, H, W).
CASES: dict[str, Callable[[], np.ndarray]] = {
    "nothing moves": lambda: np.repeat(_plane(0)[None], PLANES, axis=0),
    "slow movie": lambda: _moving(1),
    "fast movie": lambda: _moving(3),
    "transients": _transients,
    "deep focus": lambda: _volume(PLANES, 4.0, 0),
    "volume": lambda: _volume(PLANES, 2.0, 0),
    "shallow focus": lambda: _volume(PLANES, 1.0, 0),
    "dark ends": lambda: _light(
        _volume(PLANES, 2.0, 0), np.sin(np.linspace(0.02, np.pi - 0.02, PLANES)) ** 4
    ),
    "bleaching": lambda: _light(CASES["nothing moves"](), np.exp(-np.arange(PLANES) / 5)),
    "unrelated": lambda: np.stack([_plane(20 + number) for number in range(PLANES)]),
}


def recorded(light: np.ndarray, photons: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns a recorded stack and the expected one without noise, both in grey levels.

    Args:
        light: Light from 0 to about 1.
        photons: Photons at a light of 1.
        seed: Seed of the noise.
    """
    rng = np.random.default_rng(seed)
    expected = photons * (light + BACKGROUND)
    electrons = rng.poisson(expected) + READ_NOISE * rng.normal(size=expected.shape)
    return (OFFSET + GAIN * electrons).astype(np.float32), OFFSET + GAIN * expected


def peaks(stack: np.ndarray) -> np.ndarray:
    """Returns the height of each transient in its first frame above the frames before, in grey levels."""
    return np.array([trace[first] - trace[:first].mean() for first, trace in _traces(stack)])


def early(stack: np.ndarray) -> np.ndarray:
    """Returns the light of each transient in the frame before it appears, relative to its height: 0 in the truth.

    A model that mixes frames shows a transient before it appears, so its rise is too slow.
    """
    return np.array(
        [
            (trace[first - 1] - trace[: first - 1].mean()) / (trace[first] - trace[: first - 1].mean())
            for first, trace in _traces(stack)
        ]
    )


def _traces(stack: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Returns the first frame of each transient, and the mean of 3 x 3 pixels in each frame."""
    places, firsts, _, _ = _spots()
    return [
        (
            int(first),
            stack[:, round(row) - 1 : round(row) + 2, round(column) - 1 : round(column) + 2].mean((1, 2)),
        )
        for (row, column), first in zip(places, firsts, strict=True)
    ]
