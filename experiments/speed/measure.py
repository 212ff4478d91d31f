"""Timing that is affected as little as possible by other load: paired, interleaved, in CPU time of the process."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Timing", "flops_of", "hot_spots", "paired", "ratio"]


class Timing:
    """Seconds of one piece of work, repeated.

    Args:
        seconds: CPU seconds of the process, or, on a GPU, seconds until it was done.
    """

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds

    @property
    def median(self) -> float:
        """Median of the repeats."""
        return statistics.median(self.seconds)

    def to_dict(self) -> dict[str, object]:
        """Returns median and range as plain numbers."""
        return {
            "median": self.median,
            "least": min(self.seconds),
            "most": max(self.seconds),
            "repeats": len(self.seconds),
        }


def paired(work: Mapping[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, Timing]:
    """Runs all pieces of work in turn, again and again, so that other load affects all of them equally."""
    for do in work.values():
        do()
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, do in work.items():
            found[name].append(_seconds(do, device))
    return {name: Timing(seconds) for name, seconds in found.items()}


def _seconds(do: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        began = time.perf_counter()
        do()
        torch.cuda.synchronize()
        return time.perf_counter() - began
    began = time.process_time()
    do()
    return time.process_time() - began


def ratio(slow: Timing, fast: Timing) -> dict[str, float]:
    """Returns the median of the ratios of neighbouring repeats, with their quartiles."""
    ratios = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    if len(ratios) < 2:
        return {"ratio": ratios[0], "low": ratios[0], "high": ratios[0]}
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"ratio": statistics.median(ratios), "low": low, "high": high}


def flops_of(do: Callable[[], object]) -> float:
    """Returns the floating-point operations of a piece of work: convolutions, products and attention."""
    counter = FlopCounterMode(display=False)
    with counter:
        do()
    return float(counter.get_total_flops())


def hot_spots(do: Callable[[], object], count: int = 8) -> list[tuple[str, float]]:
    """Returns the operations that take most of the time, with their share."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        do()
    events = sorted(profiled.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events) or 1
    return [(event.key, event.self_cpu_time_total / total) for event in events[:count]]
