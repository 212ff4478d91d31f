"""Exponential moving average of the weights, with a warm-up.

Lightning's :class:`WeightAveraging` does the work: it swaps the average in for validation, and checkpoints hold the
average as ``state_dict`` and the live weights as ``current_model_state``. This class only says how the average is
taken: over parameters alone (buffers are constants here), one fused operation for all of them, and with a decay that
starts low, so that the first steps are soon forgotten.
"""

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from ddpm_lightning.utils.settings import BelowOne

__all__ = ["EMA"]


class EMA(WeightAveraging):
    """Average over optimiser steps; after n steps the decay is min(decay, (1 + n) / (10 + n)).

    Args:
        decay: Share of the old average that each step keeps: 0.999 looks back over about 1000 steps.

    Raises:
        ValueError: If the decay lies outside [0, 1).
    """

    def __init__(self, decay: BelowOne = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"callbacks.ema.decay is {decay}; allowed: 0 to below 1")
        self.decay = decay
        super().__init__(use_buffers=False, multi_avg_fn=self._average)

    @torch.no_grad()
    def _average(self, averages: list[Tensor], currents: list[Tensor], count: Tensor | int) -> None:
        # A float: the counter lives on the CPU, so reading it waits for nothing.
        number = float(count)
        decay = min(self.decay, (1 + number) / (10 + number))
        torch._foreach_lerp_(averages, currents, 1 - decay)
