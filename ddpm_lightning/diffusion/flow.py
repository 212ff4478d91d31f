r"""Rectified flow: a short, straight path from a guess to an image.

Between a start :math:`z_0` and a clean image y the state moves along :math:`z_t = (1 - t) z_0 + t y`. A network learns
the mean velocity at a place and time,

.. math:: v(z, t) = E[y - z_0 \mid z_t = z],

by least squares, and to sample an image the ordinary differential equation :math:`dz = v(z, t) dt` is followed from
t = 0 to 1. It carries the distribution of the starts to that of the ends. Where they are near each other, as noisy
posterior means :math:`z_0 = \mu + \sigma \epsilon` and clean images are, the paths are nearly straight and a few steps
are enough.

Euler steps make the standard deviation of the samples too small. For a Gaussian posterior with the standard deviation
of the start noise and the exact velocity, 10 Euler steps give 0.88 of it, 2 midpoint steps (4 network evaluations)
0.98, and 3 midpoint steps 0.995.

References:
    Liu, Gong, Liu. *Flow Straight and Fast* (2023), arXiv 2209.03003, section 2.
    Ohayon, Michaeli, Elad. *Posterior-Mean Rectified Flow* (2025), arXiv 2410.00418, section 3.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from ddpm_lightning.diffusion.objective import Objective
from ddpm_lightning.diffusion.samplers import Noise, Predict, Sampler
from ddpm_lightning.utils.settings import Count, UnitInterval

__all__ = [
    "START",
    "Euler",
    "FlowSampler",
    "Heun",
    "Midpoint",
    "RectifiedFlow",
    "interpolate",
    "training_times",
]


def interpolate(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Returns the states at times with shape (B,) on the paths from starts to ends with shape (B, C, H, W)."""
    return torch.lerp(start, end, rearrange(t.to(start), "b -> b 1 1 1"))


def training_times(uniform: Tensor, at_start: float = 0.02) -> Tensor:
    """Turns uniform numbers into times for training: uniform in [0, 1], and a share of exactly 0.

    Every sample passes through time 0, which a uniform time never hits.

    Args:
        uniform: Numbers in [0, 1) with shape (B,).
        at_start: Share of times that are 0.
    """
    return ((uniform - at_start) / (1 - at_start)).clamp(min=0)


#: Most steps of a flow, which needs only a few.
MOST_STEPS = 10_000
#: Step of the keyed noise at which a flow starts.
START = 1


@dataclass(frozen=True)
class RectifiedFlow:
    """The process that a flow model was trained on: from noisy guesses to clean images.

    Attributes:
        sigma: Standard deviation of the initial noise about the guess, a scalar tensor.
    """

    sigma: Tensor


class FlowSampler(Sampler):
    """Follows a flow by equal steps, and blends the sample with the guess that it started from.

    Args:
        steps: Number of steps; a step takes one network evaluation or two.
        antithetic: Whether samples come in pairs that start from antithetic noise.
        realism: Share λ of the way from the guess to the sample: guess + λ (sample - guess). 1 is the sample and 0 the
            guess, which for posterior means has the least error; the error is that of the average of 1 / λ² samples, at
            the price of one.

    Attributes:
        unit: What its steps are called in results.
        per_step: Network evaluations of one step.

    Raises:
        ValueError: If there is no step, or realism is outside [0, 1].
    """

    unit: str
    per_step: int

    def __init__(self, steps: Count = 3, antithetic: bool = True, realism: UnitInterval = 1.0) -> None:
        if not 1 <= steps <= MOST_STEPS:
            raise ValueError(f"sampler.steps is {steps}; allowed: a whole number from 1 to {MOST_STEPS}")
        if not 0 <= realism <= 1:
            raise ValueError(f"sampler.realism is {realism}; allowed: 0 (the mean) to 1 (the sample)")
        self.steps, self.antithetic, self.realism = steps, antithetic, realism

    @abstractmethod
    def step(self, velocity: Predict, state: Tensor, t: Tensor, h: float) -> Tensor:
        """Carries states with shape (B, C, H, W) from times t with shape (B,) to t + h."""

    @property
    def random(self) -> bool:
        """Without realism only the guess is left."""
        return self.realism > 0

    def check(self, process: RectifiedFlow, objective: Objective | None = None) -> None:
        """Raises a ValueError if the process is not a flow."""
        if not isinstance(process, RectifiedFlow):
            raise ValueError(f"a diffusion model has no use for the sampler {type(self).__name__}")

    def evaluations(self, process: RectifiedFlow) -> int:
        """Returns the network evaluations of one sample; the guess alone needs none."""
        return self.steps * self.per_step if self.random else 0

    def describe(self, process: RectifiedFlow) -> str:
        """Returns the steps and the realism in words."""
        return f"{self.steps} {self.unit}" + (f", realism {self.realism:g}" if self.realism < 1 else "")

    def __call__(
        self,
        predict: Predict,
        process: RectifiedFlow,
        noise: Noise,
        shape: tuple[int, ...],
        device: torch.device | str = "cpu",
        clip: tuple[float, float] | None = None,
        guess: Tensor | None = None,
    ) -> Tensor:
        """Samples images; see :meth:`Sampler.__call__`. Nothing is clipped; without a guess it is 0."""
        device = torch.device(device)
        guess = torch.zeros(len(noise), *shape, device=device) if guess is None else guess
        if not self.random:
            return guess
        noise = noise.antithetic() if self.antithetic else noise
        sample = self.follow(predict, guess + process.sigma * noise(START, shape, device))
        return self.blend(guess, sample)

    def follow(self, velocity: Predict, start: Tensor) -> Tensor:
        """Carries starts with shape (B, C, H, W) from time 0 to 1."""
        state = start
        for k in range(self.steps):
            t = state.new_full((len(state),), k / self.steps)
            state = self.step(velocity, state, t, 1 / self.steps)
        return state

    def blend(self, guess: Tensor, sample: Tensor) -> Tensor:
        """Returns guess + λ (sample - guess)."""
        return torch.lerp(guess, sample, self.realism)


class Euler(FlowSampler):
    """Steps along the velocity at their start: of first order."""

    unit, per_step = "steps", 1

    def step(self, velocity: Predict, state: Tensor, t: Tensor, h: float) -> Tensor:
        """Carries states from times t to t + h; see :meth:`FlowSampler.step`."""
        return state + h * velocity(state, t)


class Midpoint(FlowSampler):
    """Steps along the velocity at their middle, to which half an Euler step leads: of second order."""

    unit, per_step = "midpoint steps", 2

    def step(self, velocity: Predict, state: Tensor, t: Tensor, h: float) -> Tensor:
        """Carries states from times t to t + h; see :meth:`FlowSampler.step`."""
        middle = state + h / 2 * velocity(state, t)
        return state + h * velocity(middle, t + h / 2)


class Heun(FlowSampler):
    """Steps along the average of the velocities at their start and at the end of an Euler step: of second order."""

    unit, per_step = "Heun steps", 2

    def step(self, velocity: Predict, state: Tensor, t: Tensor, h: float) -> Tensor:
        """Carries states from times t to t + h; see :meth:`FlowSampler.step`."""
        first = velocity(state, t)
        return state + h / 2 * (first + velocity(state + h * first, t + h))
