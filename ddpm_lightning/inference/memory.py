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

from ddpm_lightning.errors import is_out_of_memory
from ddpm_lightning.models.protocol import Method, draws_of

__all__ = ["available_bytes", "bytes_per_pixel", "is_out_of_memory", "release"]

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
    side = -(-PROBE // method.multiple) * method.multiple
    counted = _Counted()

    def apply(network: Any, *inputs: Tensor) -> Tensor:
        with counted:
            network(*inputs)
        raise _Enough

    try:
        next(draws_of(method, torch.zeros(1, 1, side, side, device=device), "", [0], apply=apply))
    except _Enough:
        pass
    return counted.peak * WORKSPACE / side**2


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
