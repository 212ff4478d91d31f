"""Measures computing time in a way that other programs on the same machine hardly affect."""

import time

import torch

__all__ = ["seconds"]


def seconds(device: torch.device) -> float:
    """Returns seconds from an arbitrary beginning: of this process on CPUs, of the clock on GPUs, its queue emptied."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()
