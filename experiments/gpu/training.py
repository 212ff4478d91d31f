"""How fast the published network is trained: crops a second, share of the peak rate, memory.

A step is what a training does: keyed noise, loss, backward pass, clipping, fused optimiser, weights of unit length,
moving average. Crops are on the device beforehand; the loader is measured by itself.
"""

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm_lightning.models.method import Batch, LossKey, Method
from ddpm_lightning.networks.mp_layers import force_unit_weights
from experiments.gpu.models import settings_of, untrained
from experiments.gpu.results import Results, opened
from experiments.gpu.roofline import peak_of, product

#: Batch, precision and compiler of the rows, the most telling first.
ROWS = (
    (32, "bf16", False),
    (8, "bf16", False),
    (64, "bf16", False),
    (32, "bf16", True),
    (64, "bf16", True),
    (16, "bf16", False),
    (32, "fp32", False),
    (8, "bf16", True),
)
TINY = ((2, "bf16", False), (2, "fp32", False))
STEPS, WARMUP = 12, 3


class Step:
    """A training step.

    Args:
        method: The method, on its device.
        bfloat16: Whether under autocast, as with ``trainer.precision=bf16-mixed``.
        compiled: Whether the network is compiled.
    """

    def __init__(self, method: Method, bfloat16: bool, compiled: bool) -> None:
        self.method, self.bfloat16, self.number = method, bfloat16, 0
        self.parameters = list(method.parameters())
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5, fused=True)
        if compiled:
            torch.compiler.reset()
            method.network.compile()

    def __call__(self, batch: Batch) -> Tensor:
        """Takes the step; nothing in it waits for the device."""
        device = batch["low"].device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bfloat16):
            loss = self.method.loss(batch, LossKey.of_step(0, self.number))
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        force_unit_weights(self.method)
        torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.parameters], 0.001)
        self.number += 1
        return loss.detach()


def crops(batch: int, side: int, device: torch.device) -> Batch:
    """Returns random crops."""
    low, high = (torch.rand(batch, 1, side, side, device=device) for _ in range(2))
    return {"low": low, "high": high, "name": [str(number) for number in range(batch)]}


def training_flops(method: Method, side: int) -> float:
    """Returns the operations of forward and backward pass for a crop, without those of normalising weights."""
    with FlopCounterMode(display=False) as counter:
        method.loss(crops(1, side, torch.device("cpu")), LossKey.of_step(0, 0)).backward()
    method.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def timed_step(
    settings: dict[str, Any], device: torch.device, batch: int, side: int, precision: str, compiled: bool
) -> dict[str, Any]:
    """Times the steps of a configuration."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    method = untrained(settings).to(device, memory_format=torch.channels_last).train()
    step, given = Step(method, precision == "bf16", compiled), crops(batch, side, device)
    first = _seconds(step, given, 1)
    _seconds(step, given, WARMUP)
    taken = _seconds(step, given, STEPS if device.type == "cuda" else 1)
    row = {
        "batch": batch,
        "precision": precision,
        "compiled": compiled,
        "images_per_second": round(batch / taken, 2),
        "ms_per_step": round(1e3 * taken, 2),
        "first_step_seconds": round(first, 2),
    }
    if device.type == "cuda":
        row["memory_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return row


def _seconds(step: Step, batch: Batch, count: int) -> float:
    device = batch["low"].device
    began, loss = time.perf_counter(), torch.zeros((), device=device)
    for _ in range(count):
        loss = step(batch)
    if not torch.isfinite(loss):  # also waits for the device
        raise FloatingPointError("the loss is not finite")
    return (time.perf_counter() - began) / count


def measure(results: Results) -> None:
    """Measures all configurations."""
    tiny, device = results.tiny, results.device
    settings, side = settings_of(tiny), 32 if tiny else 256
    peak = results.measure("product", lambda: product(device, 64 if tiny else 8192))
    gflop = results.measure(
        "network",
        lambda: {
            "parameters": sum(p.numel() for p in untrained(settings).parameters()),
            # Counted for a small crop: the operations are proportional to the pixels but for attention.
            "gflop_per_crop": round(_flops(settings, side) / 1e9, 3),
        },
    )["gflop_per_crop"]
    rate = peak_of(device, 1e12 * peak["tflops"])
    for batch, precision, compiled in TINY if tiny else ROWS:

        def work(b: int = batch, p: str = precision, c: bool = compiled) -> dict[str, Any]:
            row = timed_step(settings, device, b, side, p, c)
            done = row["images_per_second"] * gflop * 1e9
            return {**row, "tflops": round(done / 1e12, 2), "utilisation": round(done / rate, 4)}

        results.measure(
            f"batch {batch}, {precision}{', compiled' * compiled}", work, needs=40 if compiled else 5
        )
    results.write(complete=True)


def _flops(settings: dict[str, Any], side: int) -> float:
    small = min(side, 64)
    return training_flops(untrained(settings).train(), small) * (side / small) ** 2


if __name__ == "__main__":
    measure(opened())
