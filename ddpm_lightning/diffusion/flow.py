r"""Rectified flow: a short, straight way from a guess to an image.

Between a start :math:`z_0` and a clean image y the state moves along :math:`z_t = (1 - t) z_0 + t y`. A network learns
the mean velocity at a place and time,

.. math:: v(z, t) = E[y - z_0 \mid z_t = z],

by least squares, and to draw an image the ordinary differential equation :math:`dz = v(z, t) dt` is followed from
t = 0 to 1. It carries the distribution of the starts to that of the ends. Where they are near each other, as noisy
posterior means :math:`z_0 = \mu + \sigma \epsilon` and clean images are, the ways are nearly straight and a few Euler
steps do.

References:
    Liu, Gong, Liu. *Flow Straight and Fast* (2023), arXiv 2209.03003, section 2.
    Ohayon, Michaeli, Elad. *Posterior-Mean Rectified Flow* (2025), arXiv 2410.00418, section 3.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from ddpm_lightning.utils.settings import Count, UnitInterval

__all__ = ["Euler", "interpolate", "training_times"]

#: Mean velocity at states (B, C, H, W) and times (B,).
Velocity = Callable[[Tensor, Tensor], Tensor]


def interpolate(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Returns the states at times with shape (B,) on the ways from starts to ends with shape (B, C, H, W)."""
    return torch.lerp(start, end, rearrange(t.to(start), "b -> b 1 1 1"))


def training_times(uniform: Tensor, at_start: float = 0.02) -> Tensor:
    """Turns uniform numbers into times for training: uniform in [0, 1], and a share of exactly 0.

    Every sample passes through time 0, which a uniform time never hits.

    Args:
        uniform: Numbers in [0, 1) with shape (B,).
        at_start: Share of times that are 0.
    """
    return ((uniform - at_start) / (1 - at_start)).clamp(min=0)


#: Most steps of a flow, which needs a handful.
MOST_STEPS = 10_000


class Euler:
    """Follows a flow by equal steps, and blends what it finds with the mean it started from.

    Args:
        steps: Number of network evaluations.
        antithetic: Whether samples come in pairs that start from antithetic noise.
        realism: Share λ of the way from the mean to the sample that is kept: mean + λ (sample - mean). 1 is the sample
            and 0 the mean; the error is that of the average of 1 / λ² samples, at the price of one.

    Raises:
        ValueError: If there is no step, or realism lies outside [0, 1].
    """

    def __init__(self, steps: Count = 3, antithetic: bool = True, realism: UnitInterval = 1.0) -> None:
        if not 1 <= steps <= MOST_STEPS:
            raise ValueError(f"sampler.steps is {steps}; allowed: a whole number from 1 to {MOST_STEPS}")
        if not 0 <= realism <= 1:
            raise ValueError(f"sampler.realism is {realism}; allowed: 0 (the mean) to 1 (the sample)")
        self.steps, self.antithetic, self.realism = steps, antithetic, realism

    @property
    def evaluations(self) -> int:
        """Network evaluations of one sample; the mean alone needs none."""
        return self.steps if self.realism else 0

    def __call__(self, velocity: Velocity, start: Tensor) -> Tensor:
        """Carries starts with shape (B, C, H, W) from time 0 to 1."""
        state = start
        for k in range(self.steps):
            t = state.new_full((len(state),), k / self.steps)
            state = state + velocity(state, t) / self.steps
        return state

    def blend(self, mean: Tensor, sample: Tensor) -> Tensor:
        """Returns mean + λ (sample - mean)."""
        return torch.lerp(mean, sample, self.realism)
