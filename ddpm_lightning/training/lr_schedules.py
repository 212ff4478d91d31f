"""Learning-rate schedules over a run.

References:
    Loshchilov, Hutter. *SGDR: Stochastic Gradient Descent with Warm Restarts* (2017), arXiv 1608.03983.
    Isola et al. *Image-to-image translation with conditional adversarial networks* (2017), arXiv 1611.07004.
"""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau

from ddpm_lightning.utils.settings import Count, FromZero, UnitInterval

__all__ = ["Cosine", "LinearFall", "Plateau", "SawTooth"]


class Cosine:
    """Rises linearly during the warm-up, then falls along half a cosine to zero at the end of the run.

    The rate depends only on the step and the length of the run: a run that is resumed with more steps continues on the
    cosine of its new length, and reaches zero at its new end.

    Args:
        warmup: Steps of the linear rise; at most a tenth of the run.
    """

    def __init__(self, warmup: FromZero = 0) -> None:
        self.warmup = warmup

    def __call__(self, optimizer: Optimizer, total_steps: int) -> dict:
        """Makes the schedule of a run.

        Args:
            optimizer: The optimiser.
            total_steps: Optimiser steps of the whole run.

        Returns:
            Lightning's description of a scheduler that is stepped after each optimiser step.
        """
        warmup = min(self.warmup, total_steps // 10)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            fallen = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
            return (1 + math.cos(math.pi * fallen)) / 2

        return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


class SawTooth:
    """Falls and rises along a cosine without end, stepped once per epoch, as in the paper's code.

    Args:
        half_period: Epochs from the highest to the lowest rate.
    """

    def __init__(self, half_period: Count = 20) -> None:
        self.half_period = half_period

    def __call__(self, optimizer: Optimizer, total_steps: int) -> dict:
        """Makes the schedule, which does not depend on the length of the run; see :class:`Cosine`."""
        return {"scheduler": CosineAnnealingLR(optimizer, T_max=self.half_period), "interval": "epoch"}


class LinearFall:
    """Constant, then linear to zero; in pix2pix, over 100 + 100 epochs.

    Args:
        constant: Share of the run with the constant rate.
    """

    def __init__(self, constant: UnitInterval = 0.5) -> None:
        self.constant = constant

    def __call__(self, optimizer: Optimizer, total_steps: int) -> dict:
        """Makes the schedule of a run; see :class:`Cosine`."""
        first = self.constant * total_steps

        def factor(step: int) -> float:
            return 1 - max(0.0, step + 1 - first) / (total_steps - first + 1)

        return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


class Plateau:
    """Falls by a factor whenever the validation loss has not decreased for some validations.

    Args:
        factor: Factor by which the learning rate is multiplied.
        patience: Validations without a new minimum of the loss before the rate falls.
    """

    def __init__(self, factor: float = 0.5, patience: FromZero = 10) -> None:
        self.factor, self.patience = factor, patience

    def __call__(self, optimizer: Optimizer, total_steps: int) -> dict:
        """Makes the schedule, which does not depend on the length of the run; see :class:`Cosine`."""
        scheduler = ReduceLROnPlateau(optimizer, factor=self.factor, patience=self.patience, threshold=0.0)
        return {"scheduler": scheduler, "interval": "epoch", "monitor": "val/loss", "strict": False}
