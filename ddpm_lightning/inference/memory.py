"""Free memory, and the memory that a method needs for each pixel.

The latter is measured: the method runs once on a small canvas, until its first network has been applied, and every
tensor that it creates is counted.
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

#: Side in pixels of the canvas on which the memory is measured.
PROBE = 64
#: Factor for the working memory of libraries, which is not counted.
WORKSPACE = 1.5


def available_bytes(device: torch.device) -> int:
    """Returns the free memory of a device in bytes."""
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
    """Returns the maximum memory that a network of the method needs at once, in bytes for each pixel of its input."""
    side = _probe(method)
    return _peak(method, side, device, training=False) * WORKSPACE / side**2


def training_bytes(method: Method, pixels: int) -> int:
    """Returns approximately how much memory a training needs, in bytes.

    For each weight, these are the weight itself, its gradient, two moments of the optimiser and the moving average; for
    each pixel of a batch, the activations. Networks that are not used for restoring, such as a discriminator, are not
    counted.

    Args:
        method: The method, on the CPU.
        pixels: Pixels of all crops of a batch.
    """
    weights = sum(weight.numel() * weight.element_size() for weight in method.parameters())
    side, cpu = _probe(method), torch.device("cpu")
    small, large = (_peak(method, n, cpu, training=True) for n in (side, 2 * side))
    # Part of the memory, such as normalised weights, does not depend on the size of the image.
    of_pixels = (large - small) / (3 * side**2) * pixels
    return int(5 * weights + max(small - (large - small) / 3, 0) + of_pixels)


def _probe(method: Method) -> int:
    return -(-PROBE // method.size_divisor) * method.size_divisor


def _peak(method: Method, side: int, device: torch.device, training: bool) -> int:
    """Returns the maximum memory of a network for a canvas in bytes, in training including what its gradient needs."""
    counted = _Counted()

    def apply(network: Any, *inputs: Tensor) -> Tensor:
        with torch.inference_mode(not training), torch.set_grad_enabled(training):
            copies = [each.clone() for each in inputs]
            with counted:
                kept = network(*copies)  # keeps everything that its gradient needs
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
    """Counts the bytes of all existing tensors that were created while it is active."""

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
    """Frees unused memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
