"""The most that the device can do, and how close the layers of the network come to it.

The roof of a layer is the lower of the rate of products and the rate at which memory delivers its operands. Both are
measured: by a product of large matrices in bfloat16, and by a copy.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from experiments.gpu.results import Results, opened

#: Channels and side of the four levels of the network, for crops of 256 x 256 pixels.
LEVELS = ((64, 256), (128, 128), (256, 64), (512, 32))
#: Peak of products in bfloat16 without sparsity according to the data sheets, in FLOP/s.
DATA_SHEET = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12}


def seconds_of(work: Callable[[], Any], device: torch.device, rounds: int = 3) -> float:
    """Returns the seconds of a piece of work: the least mean of some rounds, after a first call."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def timed(repeats: int) -> float:
        wait()
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        wait()
        return (time.perf_counter() - began) / repeats

    work()
    least = 0.2 if device.type == "cuda" else 0.002
    repeats = max(1, min(200, int(least / max(timed(1), 1e-6))))
    return min(timed(repeats) for _ in range(rounds))


def peak_of(device: torch.device, measured: float) -> float:
    """Returns the peak rate in FLOP/s that a utilisation refers to: that of the data sheet, or the measured one."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((rate for part, rate in DATA_SHEET.items() if part in name), measured)


def product(device: torch.device, side: int) -> dict[str, float]:
    """Returns the rate of a product of square matrices in bfloat16."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = seconds_of(lambda: a @ b, device)
    return {"tflops": round(2e-12 * side**3 / seconds, 6)}


def copy(device: torch.device, size: int) -> dict[str, float]:
    """Returns the rate of a copy, bytes that are read and written together."""
    a = torch.zeros(size, device=device, dtype=torch.uint8)
    b = torch.empty_like(a)
    return {"gb_per_second": round(2e-9 * size / seconds_of(lambda: b.copy_(a), device), 1)}


def convolution(device: torch.device, batch: int, channels: int, side: int) -> dict[str, float]:
    """Times a 3 x 3 convolution of a level, channels last, in bfloat16."""
    options: dict[str, Any] = {"device": device, "dtype": torch.bfloat16}
    x = torch.randn(batch, channels, side, side, **options).to(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, **options).to(memory_format=torch.channels_last)
    seconds = seconds_of(lambda: functional.conv2d(x, weight, padding=1), device)
    return _rates(18 * channels**2 * batch * side**2, 2 * (2 * x.numel() + weight.numel()), seconds)


def activation(device: torch.device, batch: int, channels: int, side: int) -> dict[str, float]:
    """Times an elementwise function of a level, which only moves data."""
    x = torch.randn(batch, channels, side, side, device=device, dtype=torch.bfloat16)
    return _rates(x.numel(), 4 * x.numel(), seconds_of(lambda: functional.silu(x), device))


def attention(device: torch.device, batch: int, channels: int, side: int) -> dict[str, float]:
    """Times the attention of a level, with 16 channels for each head."""
    shape = (batch, channels // 16, side**2, 16)
    q, k, v = (torch.randn(shape, device=device, dtype=torch.bfloat16) for _ in range(3))
    seconds = seconds_of(lambda: functional.scaled_dot_product_attention(q, k, v), device)
    return _rates(4 * batch * channels * side**4, 8 * q.numel(), seconds)


def _rates(flops: float, size: float, seconds: float) -> dict[str, float]:
    return {
        "gflop": round(flops / 1e9, 3),
        "mb": round(size / 1e6, 2),
        "ms": round(1e3 * seconds, 4),
        "tflops": round(1e-12 * flops / seconds, 2),
        "gb_per_second": round(1e-9 * size / seconds, 1),
    }


def measure(results: Results) -> None:
    """Measures roofs and layers."""
    device, tiny = results.device, results.tiny
    batch, levels = (1, ((16, 16), (32, 8))) if tiny else (32, LEVELS)
    results.measure("product", lambda: product(device, 64 if tiny else 8192))
    results.measure("copy", lambda: copy(device, 2**16 if tiny else 2**32))
    for channels, side in levels:
        for name, time_layer in (("3 x 3 convolution", convolution), ("SiLU", activation)):
            results.measure(
                f"{name}, {channels} x {side} x {side}",
                lambda f=time_layer, c=channels, s=side: f(device, batch, c, s),
            )
    channels, side = levels[-1]
    results.measure(
        f"attention, {channels} x {side} x {side}", lambda: attention(device, batch, channels, side)
    )
    results.write(complete=True)


if __name__ == "__main__":
    measure(opened())
