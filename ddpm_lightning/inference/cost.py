"""Estimates the cost of a job before it starts: network evaluations, seconds, memory."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ddpm_lightning.checkpoints.presets import costs
from ddpm_lightning.inference.memory import available_bytes
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.models.sampling import samples_of

__all__ = ["Plan", "plan", "plane_cost"]

#: Bytes for each pixel of the canvas: state, noise, sums in float64.
CANVAS_BYTES = 100


def plane_cost(restorer: Restorer, info: ImageInfo, samples: int) -> int:
    """Returns the number of tiles that networks process for one plane of a file."""
    count = 1 if restorer.method.deterministic else samples
    return restorer.tiles(*info.plane_shape) * count * restorer.method.evaluations


@dataclass(frozen=True)
class Plan:
    """Cost of a job.

    Attributes:
        files: Files to be restored.
        planes: Planes in them.
        evaluations: Tiles that networks process.
        tile: Side of the tiles in pixels, or ``None`` for whole planes.
        samples: Samples of each plane.
        steps: Network evaluations of each sample.
        seconds_per_evaluation: Seconds for each tile, measured with all threads busy.
        memory: Bytes for networks and the largest canvas.
        free: Bytes that are free.
        presets: For each preset of the model, its network evaluations for an image, and what it is good for.
    """

    files: int
    planes: int
    evaluations: int
    tile: int | None
    samples: int
    steps: int
    seconds_per_evaluation: float
    memory: int
    free: int
    presets: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Expected duration of the job."""
        return self.evaluations * self.seconds_per_evaluation

    def cheaper(self) -> dict[str, tuple[float, str]]:
        """Returns cheaper settings, the most expensive first: their seconds, and what they are good for."""
        each = self.samples * self.steps
        found = {f"preset={name}": cost for name, cost in self.presets.items()}
        fewer = [samples for samples in (8, 5, 1) if samples < self.samples]
        found |= {f"samples={samples}": (samples * self.steps, "a noisier mean and std") for samples in fewer}
        less = {name: (self.seconds * n / each, use) for name, (n, use) in found.items() if n < each}
        return dict(sorted(less.items(), key=lambda item: -item[1][0]))

    def __str__(self) -> str:
        tiles = f"tiles of {self.tile} pixels" if self.tile else "whole planes"
        lines = [
            f"{self.files} files, {self.planes} planes, {self.samples} samples of {self.steps} steps: "
            f"{self.evaluations} network evaluations on {tiles}",
            f"  time    {_duration(self.seconds)} at {self.seconds_per_evaluation:.3g} s each",
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
    largest = max((info.plane_shape for info in infos), key=lambda shape: shape[0] * shape[1])
    side = restorer.tiler.tile or max(largest)
    shape = [
        -(-min(side, length) // restorer.method.size_divisor) * restorer.method.size_divisor
        for length in largest
    ]
    tiles = sum(plane_cost(restorer, info, samples) * info.plane_count for info in infos)
    return Plan(
        len(infos),
        sum(info.plane_count for info in infos),
        tiles,
        restorer.tiler.tile,
        1 if restorer.method.deterministic else samples,
        restorer.method.evaluations,
        _seconds(restorer, *shape),
        restorer.tile_bytes * restorer.tiler.at_once(restorer.device)
        + CANVAS_BYTES * largest[0] * largest[1],
        available_bytes(restorer.device),
        costs(restorer.trained.card["model"], restorer.trained.trust),
    )


def _seconds(restorer: Restorer, height: int, width: int) -> float:
    """Returns the seconds that a network takes for one tile when as many as possible are processed together."""
    count = restorer.tiler.at_once(restorer.device)
    taken: list[float] = []

    def apply(network: Any, *inputs: Tensor) -> Tensor:
        for _ in range(2):  # the first one is slower
            began = time.perf_counter()
            result = restorer.apply(network, *inputs)
            result.sum().item()  # waits for a GPU
            taken.append(time.perf_counter() - began)
        raise _Enough

    low = torch.zeros(1, 1, height, width, device=restorer.device)
    try:
        next(samples_of(restorer.method, low, "", range(count), apply=apply, batch=count))
    except _Enough:
        pass
    return min(taken) / count


class _Enough(Exception):
    """One network was timed."""


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
