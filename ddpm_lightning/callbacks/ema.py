"""Exponential moving average of the weights, with a warm-up.

Lightning's :class:`WeightAveraging` does the work: during validation the model has the averaged weights, and
checkpoints hold them as ``state_dict`` and the latest weights as ``current_model_state``. This class only defines the
average: over parameters alone (buffers are constants here), in one fused operation, and with a decay that starts low,
so that the first steps are soon forgotten.
"""

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import PARAM_LIST, get_ema_multi_avg_fn

from ddpm_lightning.utils.settings import BelowOne

__all__ = ["EMA"]


class EMA(WeightAveraging):
    """Average over optimiser steps; after n steps the decay is min(decay, (1 + n) / (10 + n)).

    Args:
        decay: Weight of the old average in each step: 0.999 averages over about 1000 steps.

    Raises:
        ValueError: If the decay lies outside [0, 1).
    """

    def __init__(self, decay: BelowOne = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"callbacks.ema.decay is {decay}; allowed: 0 to below 1")
        self.decay = decay
        super().__init__(use_buffers=False, multi_avg_fn=self._average)

    def _average(self, averages: PARAM_LIST, currents: PARAM_LIST, count: Tensor | int) -> None:
        # The counter is on the CPU, so reading it as a float does not wait for a GPU.
        number = float(count)
        get_ema_multi_avg_fn(min(self.decay, (1 + number) / (10 + number)))(averages, currents, count)
