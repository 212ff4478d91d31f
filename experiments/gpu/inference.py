"""How long a plane of 2048 x 2048 pixels takes in every preset, for the published network and the shipped model.

A preset that would take longer than the time that is left is estimated from one evaluation of its networks, as
``restore plan=true`` does, and marked as estimated.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpm_lightning.inference.arrays import described_array
from ddpm_lightning.inference.cost import plan
from ddpm_lightning.inference.restorer import Restorer
from experiments.gpu.models import write_untrained
from experiments.gpu.results import Results, opened

#: Longest restoration in seconds that is timed rather than estimated.
LONGEST = 8.0
#: How the published network is run for the goal: eight evaluations in bfloat16, once compiled.
EIGHT: dict[str, Any] = {"sampler": {"steps": 8, "start": 0.9}, "samples": 1}
WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"bfloat16": True},
    "bfloat16, compiled": {"bfloat16": True, "compiled": True},
}


def restored(
    device: torch.device, plane: np.ndarray, checkpoint: str, longest: float, **settings: Any
) -> dict:
    """Times a plane, or estimates its time."""
    samples = settings.pop("samples", None)
    restorer = Restorer.load(checkpoint, str(device), samples=samples, **settings)
    info = described_array(plane, None, None)
    cost = plan(restorer, [info], restorer.trained.samples)
    row = {
        "preset": restorer.trained.preset,
        "samples": cost.samples,
        "evaluations": cost.evaluations.total,
        "tile": max(cost.tile),
        "seconds": round(cost.seconds, 3),
        "estimated": True,
    }
    if 2 * cost.seconds > longest:
        return row
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    restorer.restore(plane, image="warm-up")
    began = time.perf_counter()
    restorer.restore(plane, image="plane")
    row |= {"seconds": round(time.perf_counter() - began, 3), "estimated": False}
    if device.type == "cuda":
        row["memory_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return row


def measure(results: Results) -> None:
    """Measures all presets."""
    device, side = results.device, 64 if results.tiny else 2048
    plane = np.random.default_rng(0).poisson(20, (side, side)).astype(np.uint16)

    def add(name: str, checkpoint: str, needs: float = 3.0, **settings: Any) -> None:
        longest = min(LONGEST, results.seconds_left / 2)
        results.measure(name, lambda: restored(device, plane, checkpoint, longest, **settings), needs)

    with tempfile.TemporaryDirectory() as folder:
        published = str(write_untrained(Path(folder) / "ddpm.ckpt", results.tiny))
        ways = dict(list(WAYS.items())[:2]) if results.tiny else WAYS
        for way, settings in reversed(ways.items()):
            add(
                f"ddpm, 8 evaluations, {way}",
                published,
                40 if "compiled" in settings else 3,
                **EIGHT,
                **settings,
            )
        bfloat16 = {"bfloat16": not results.tiny}
        for model, checkpoint in {"default": "default", "ddpm": published}.items():
            presets = Restorer.load(checkpoint, "cpu").trained.presets()
            for preset in presets if not results.tiny else {"one_step"} & presets.keys():
                add(f"{model}, {preset}", checkpoint, preset=preset, **bfloat16)
    results.write(complete=True)


if __name__ == "__main__":
    measure(opened())
