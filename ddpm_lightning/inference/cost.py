"""Estimates the cost of a job before it starts: network evaluations, seconds, memory."""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from ddpm_lightning.inference.memory import available_bytes
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.models.sampling import Evaluations, ImageSampler

__all__ = ["Plan", "plan", "plane_cost"]

#: Bytes for each pixel of the canvas: state, noise, sums in float64.
CANVAS_BYTES = 100


def plane_cost(restorer: Restorer, info: ImageInfo, samples: int) -> int:
    """Returns the number of tiles that networks process for one plane of a file."""
    return restorer.tiles(*info.plane_shape) * restorer.trained.evaluations(samples).total


@dataclass(frozen=True)
class Plan:
    """Cost of a job.

    Attributes:
        files: Files to be restored.
        planes: Planes in them.
        tiles: Tiles of all planes, each of which networks process several times.
        pixels: Pixels of all of these tiles, including their overlaps and the margins of planes.
        tile: Height and width of the largest tile in pixels.
        samples: Samples of each plane.
        evaluations: Network evaluations for a plane.
        speed: Seconds for each pixel in one evaluation of the networks that estimate the posterior, on average (0 if
            there are none), and in one of the network that makes samples, measured with all threads busy.
        memory: Bytes for networks and the largest canvas.
        free: Bytes that are free.
        presets: For each preset of the model, its network evaluations for an image, and what it is good for.
    """

    files: int
    planes: int
    tiles: int
    pixels: int
    tile: tuple[int, int]
    samples: int
    evaluations: Evaluations
    speed: tuple[float, float]
    memory: int
    free: int
    presets: dict[str, tuple[Evaluations, str]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Expected duration of the job."""
        return self.seconds_of(self.evaluations)

    def seconds_of(self, evaluations: Evaluations) -> float:
        """Returns the expected duration of the job with this many network evaluations for each plane."""
        of_mean, of_sample = self.speed
        return self.pixels * (evaluations.mean * of_mean + evaluations.samples * of_sample)

    def cheaper(self) -> dict[str, tuple[float, str]]:
        """Returns cheaper settings, the most expensive first: their seconds, and what they are good for."""
        found = {f"preset={name}": (self.seconds_of(cost), use) for name, (cost, use) in self.presets.items()}
        for count in (8, 5, 1):
            if count < self.samples:
                fewer = self.evaluations._replace(samples=self.evaluations.samples * count // self.samples)
                found[f"samples={count}"] = self.seconds_of(fewer), "a noisier mean and std"
        less = {name: (seconds, use) for name, (seconds, use) in found.items() if seconds < self.seconds}
        return dict(sorted(less.items(), key=lambda item: -item[1][0]))

    def __str__(self) -> str:
        lines = [
            f"{self.files} files, {self.planes} planes{f', {self.samples} samples' * bool(self.samples)}: "
            f"{self.tiles * self.evaluations.total} network evaluations on tiles of up to "
            f"{self.tile[0]} x {self.tile[1]} pixels",
            f"  time    {_duration(self.seconds)} at {self.speed[1] * 1e6:.3g} s for a million pixels",
            f"  memory  {self.memory / 1e9:.2g} GB of {self.free / 1e9:.3g} GB that are free",
        ]
        if cheaper := self.cheaper():
            lines.append("cheaper settings:")
            lines += [
                f"  {name:<20} {_duration(seconds):<13} {use}" for name, (seconds, use) in cheaper.items()
            ]
        return "\n".join(lines)


def plan(restorer: Restorer, infos: Sequence[ImageInfo], samples: int) -> Plan:
    """Measures one evaluation of each network, and estimates the cost of all files.

    Args:
        restorer: A loaded model.
        infos: Descriptions of the files.
        samples: Samples of each plane.
    """
    restorer.fit_memory()
    canvases = [restorer.canvas(*info.plane_shape) for info in infos]
    sizes = [restorer.tiler.size(*canvas) for canvas in canvases]
    tiles = [restorer.tiles(*info.plane_shape) * info.plane_count for info in infos]
    largest = max(sizes, key=math.prod)
    at_once = restorer.tiler.at_once(largest, restorer.device)
    return Plan(
        len(infos),
        sum(info.plane_count for info in infos),
        sum(tiles),
        sum(count * math.prod(size) for count, size in zip(tiles, sizes, strict=True)),
        largest,
        1 if restorer.method.deterministic else samples,
        restorer.trained.evaluations(samples),
        _speed(restorer, largest, at_once),
        int(restorer.bytes_per_pixel * at_once * math.prod(largest))
        + CANVAS_BYTES * max(map(math.prod, canvases)),
        available_bytes(restorer.device),
        restorer.trained.presets(),
    )


def _speed(restorer: Restorer, size: tuple[int, int], count: int) -> tuple[float, float]:
    """Measures the networks on this many tiles of a size at the same time; see :attr:`Plan.speed`."""
    taken: list[float] = []

    def apply(network: Any, *inputs: Tensor) -> Tensor:
        inputs = tuple(each[:1].expand(count, *each.shape[1:]) for each in inputs)
        restorer.apply(network, *inputs).sum().item()  # the first one is slower
        began = time.perf_counter()
        result = restorer.apply(network, *inputs)
        result.sum().item()  # waits for a GPU
        taken.append((time.perf_counter() - began) / (count * math.prod(size)))
        if sampling:
            raise _Enough
        return result[:1]

    sampling = False
    sampler = ImageSampler(restorer.method, torch.zeros(1, 1, *size, device=restorer.device), "", apply=apply)
    sampler.posterior()
    of_mean = fmean(taken) if taken else 0.0
    taken.clear()
    sampling = True
    with suppress(_Enough):
        next(sampler.samples([0]))
    return of_mean, min(taken, default=0.0)


class _Enough(Exception):
    """One network was timed."""


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
