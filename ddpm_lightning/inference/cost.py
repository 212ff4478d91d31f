"""Estimates the cost of a job before it starts: network evaluations, seconds, memory."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ddpm_lightning.inference.memory import available_bytes
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.models.sampling import samples_of

__all__ = ["Plan", "plan", "plane_cost"]

#: Bytes for each pixel of the canvas: state, noise, sums in float64.
CANVAS_BYTES = 100


def plane_cost(restorer: Restorer, info: ImageInfo, samples: int) -> int:
    """Returns the number of tiles that networks process for one plane of a file."""
    return restorer.tiles(*info.plane_shape) * restorer.trained.evaluations(samples)


@dataclass(frozen=True)
class Plan:
    """Cost of a job.

    Attributes:
        files: Files to be restored.
        planes: Planes in them.
        evaluations: Tiles that networks process.
        pixels: Pixels of all of these tiles, including their overlaps and the margins of planes.
        tile: Height and width of the largest tile in pixels.
        samples: Samples of each plane.
        steps: Network evaluations of each sample.
        seconds_per_pixel: Seconds for each pixel of a tile, measured with all threads busy.
        memory: Bytes for networks and the largest canvas.
        free: Bytes that are free.
        presets: For each preset of the model, its network evaluations for an image, and what it is good for.
    """

    files: int
    planes: int
    evaluations: int
    pixels: int
    tile: tuple[int, int]
    samples: int
    steps: int
    seconds_per_pixel: float
    memory: int
    free: int
    presets: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Expected duration of the job."""
        return self.pixels * self.seconds_per_pixel

    def cheaper(self) -> dict[str, tuple[float, str]]:
        """Returns cheaper settings, the most expensive first: their seconds, and what they are good for."""
        each = self.samples * self.steps
        found = {f"preset={name}": cost for name, cost in self.presets.items()}
        fewer = [samples for samples in (8, 5, 1) if samples < self.samples]
        found |= {f"samples={samples}": (samples * self.steps, "a noisier mean and std") for samples in fewer}
        less = {name: (self.seconds * n / each, use) for name, (n, use) in found.items() if n < each}
        return dict(sorted(less.items(), key=lambda item: -item[1][0]))

    def __str__(self) -> str:
        lines = [
            f"{self.files} files, {self.planes} planes, {self.samples} samples of {self.steps} steps: "
            f"{self.evaluations} network evaluations on tiles of up to {self.tile[0]} x {self.tile[1]} pixels",
            f"  time    {_duration(self.seconds)} at {self.seconds_per_pixel * 1e6:.3g} s for a million pixels",
            f"  memory  {self.memory / 1e9:.2g} GB of {self.free / 1e9:.3g} GB that are free",
        ]
        if cheaper := self.cheaper():
            lines.append("cheaper settings:")
            lines += [
                f"  {name:<20} {_duration(seconds):<13} {use}" for name, (seconds, use) in cheaper.items()
            ]
        return "\n".join(lines)


def plan(restorer: Restorer, infos: Sequence[ImageInfo], samples: int) -> Plan:
    """Measures one network evaluation, and estimates the cost of all files.

    Args:
        restorer: A loaded model.
        infos: Descriptions of the files.
        samples: Samples of each plane.
    """
    restorer.fit_memory()
    canvases = [restorer.canvas(*info.plane_shape) for info in infos]
    sizes = [restorer.tiler.size(*canvas) for canvas in canvases]
    tiles = [plane_cost(restorer, info, samples) * info.plane_count for info in infos]
    largest = max(sizes, key=math.prod)
    at_once = restorer.tiler.at_once(largest, restorer.device)
    return Plan(
        len(infos),
        sum(info.plane_count for info in infos),
        sum(tiles),
        sum(count * math.prod(size) for count, size in zip(tiles, sizes, strict=True)),
        largest,
        1 if restorer.method.deterministic else samples,
        restorer.method.evaluations,
        _seconds(restorer, largest, at_once) / (at_once * math.prod(largest)),
        int(restorer.bytes_per_pixel * at_once * math.prod(largest))
        + CANVAS_BYTES * max(map(math.prod, canvases)),
        available_bytes(restorer.device),
        restorer.trained.presets(),
    )


def _seconds(restorer: Restorer, size: tuple[int, int], count: int) -> float:
    """Returns the seconds that a network takes for so many tiles of a size at the same time."""
    taken: list[float] = []

    def apply(network: Any, *inputs: Tensor) -> Tensor:
        # The first network may be one that is applied only once for all samples.
        inputs = tuple(each[:1].expand(count, *each.shape[1:]) for each in inputs)
        for _ in range(2):  # the first one is slower
            began = time.perf_counter()
            result = restorer.apply(network, *inputs)
            result.sum().item()  # waits for a GPU
            taken.append(time.perf_counter() - began)
        raise _Enough

    low = torch.zeros(1, 1, *size, device=restorer.device)
    try:
        next(samples_of(restorer.method, low, "", [0], apply=apply))
    except _Enough:
        pass
    return min(taken)


class _Enough(Exception):
    """One network was timed."""


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
