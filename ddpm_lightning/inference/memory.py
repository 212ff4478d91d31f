"""How much memory there is, and how much a method needs for each pixel that a network sees.

The need is measured, not estimated: the method runs once on a small canvas while every tensor that it makes is
counted, until its first network has been applied.
"""

import gc
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm_lightning.models.method import Method
from ddpm_lightning.models.sampling import samples_of
from ddpm_lightning.utils.errors import is_out_of_memory

__all__ = ["available_bytes", "bytes_per_pixel", "is_out_of_memory", "release", "training_bytes"]

#: Side of the canvas on which the need is measured.
PROBE = 64
#: What libraries need for their own work, relative to the tensors that are seen.
WORKSPACE = 1.5


def available_bytes(device: torch.device) -> int:
    """Returns the memory that is free for a program on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + held
    found = [2**32]
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found = [int(lines["MemAvailable"].split()[0]) * 1024]
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        found.append(limit - used)
    except (OSError, ValueError, KeyError):
        pass  # not Linux, or no limit
    return max(min(found), 0)


def bytes_per_pixel(method: Method, device: torch.device) -> float:
    """Returns the most memory that a network of the method holds at once, for each pixel that it sees."""
    side = _probe(method)
    return _peak(method, side, device, training=False) * WORKSPACE / side**2


def training_bytes(method: Method, pixels: int) -> int:
    """Returns about how much memory a training takes: what it holds of each weight and of each pixel of a batch.

    Of a weight it holds the weight itself, its gradient, two moments of the optimiser and the moving average. What a
    method needs beside the networks that it restores with, such as a discriminator, is not counted.

    Args:
        method: The method, on the CPU.
        pixels: Pixels of all crops of a batch.
    """
    weights = sum(weight.numel() * weight.element_size() for weight in method.parameters())
    side, cpu = _probe(method), torch.device("cpu")
    small, large = (_peak(method, n, cpu, training=True) for n in (side, 2 * side))
    # Part of it, such as normalised weights, does not grow with the image.
    of_pixels = (large - small) / (3 * side**2) * pixels
    return int(5 * weights + max(small - (large - small) / 3, 0) + of_pixels)


def _probe(method: Method) -> int:
    return -(-PROBE // method.size_divisor) * method.size_divisor


def _peak(method: Method, side: int, device: torch.device, training: bool) -> int:
    """Returns the bytes that a network holds at once for a canvas; in training, all that its gradient needs."""
    counted = _Counted()

    def apply(network: Any, *inputs: Tensor) -> Tensor:
        with torch.inference_mode(not training), torch.set_grad_enabled(training):
            copies = [each.clone() for each in inputs]
            with counted:
                kept = network(*copies)  # with it, all that it was computed from
        del kept
        raise _Enough

    try:
        next(samples_of(method, torch.zeros(1, 1, side, side, device=device), "", [0], apply=apply))
    except _Enough:
        pass
    return counted.peak


class _Enough(Exception):
    """The first network was applied."""


class _Counted(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.alive -= size


def release() -> None:
    """Gives memory back that nothing holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
