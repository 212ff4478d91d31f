r"""From noise to an image: one loop, in which each sampler is a step.

A sampler walks down a grid :math:`T = t_0 > t_1 > … > t_K = 0` of the schedule. At each point the network's
prediction is turned into an estimate of the clean image, clipped to the range that clean images have, and the state is
moved from t to s. The noise implied by the estimate is recomputed after clipping, so that state, start and noise stay
consistent.

A grid may begin below T, where the state still holds :math:`\sqrt{\bar\alpha}` of the clean image. The noisy image
stands for it there (``guess``): diffused as far, it differs little from what the clean one would have become. Without a
guess pure noise is taken, in which the network misses that share: at 0.8 T of the cosine schedule, the one evaluation
of ``one_step`` then loses 2 dB on images of few photons (measured: experiments/speed).

References:
    Ho, Jain, Abbeel (2020), arXiv 2006.11239, algorithm 2 (ancestral).
    Song, Meng, Ermon. *Denoising Diffusion Implicit Models* (2021), arXiv 2010.02502, equations 12 and 16.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from ddpm_lightning.diffusion.objective import Objective
from ddpm_lightning.diffusion.process import noise_from_start, per_image, posterior, q_sample
from ddpm_lightning.diffusion.schedule import Schedule
from ddpm_lightning.utils.settings import Count, UnitInterval, UpToOne

__all__ = ["DDIM", "Ancestral", "DiffusionSampler", "Estimate", "Noise", "OneStep", "Predict", "Sampler"]

#: Relative error of predicted noise that a grid must bear, and how far it may move the state that follows.
NOISE_ERROR, MOST_HARM = 0.01, 0.1

#: Clean images (B, C, H, W) as they were estimated at levels (B,).
Estimate = tuple[Tensor, Tensor]
#: Maps states (B, C, H, W) and their levels or times (B,) to images (B, C, H, W).
Predict = Callable[[Tensor, Tensor], Tensor]


class Noise(Protocol):
    """Standard normal noise for a step; see :class:`ddpm_lightning.diffusion.randomness.KeyedNoise`."""

    def __len__(self) -> int: ...

    def __call__(self, step: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Returns the noise of a step with shape (B, C, H, W)."""
        ...

    def antithetic(self) -> "Noise":
        """Returns this noise in antithetic pairs."""
        ...


class Sampler(ABC):
    """How images are sampled: a walk from noise to an image along a process, which a network guides.

    Attributes:
        antithetic: Whether samples come in pairs of antithetic noise.
    """

    antithetic: bool

    @property
    def random(self) -> bool:
        """Whether samples of different noise differ at all."""
        return True

    @abstractmethod
    def check(self, process: Any, objective: Objective | None = None) -> None:
        """Raises a ValueError, with the reason, if the sampler cannot follow a process for a model of an objective."""

    @abstractmethod
    def evaluations(self, process: Any) -> int:
        """Returns the number of network evaluations of one sample."""

    @abstractmethod
    def describe(self, process: Any) -> str:
        """Returns the sampler and its steps in words, for results."""

    @abstractmethod
    def __call__(
        self,
        predict: Predict,
        process: Any,
        noise: Noise,
        shape: tuple[int, ...],
        device: torch.device | str = "cpu",
        clip: tuple[float, float] | None = (-1.0, 1.0),
        guess: Tensor | None = None,
    ) -> Tensor:
        """Samples images.

        Args:
            predict: Network output from states (B, C, H, W) and levels or times (B,): estimates of the clean images
                for a diffusion, velocities for a flow.
            process: What the model was trained on: a :class:`Schedule`, or a
                :class:`ddpm_lightning.diffusion.flow.RectifiedFlow`.
            noise: Source of all noise, with one row for each image.
            shape: Shape of one image, (C, H, W).
            device: Where to compute.
            clip: Range that clean images have; a diffusion clips its estimates to it. ``None`` leaves them.
            guess: Images (B, C, H, W) near the clean ones: a flow starts there, and a diffusion takes them for the
                clean ones if its grid begins below T.

        Returns:
            One image for each row of the noise, with shape (B, C, H, W), float32.
        """


class DiffusionSampler(Sampler):
    """The loop that all samplers of diffusion models share.

    Args:
        steps: Number of network evaluations, between 1 and the schedule's T; ``None`` takes all.
        antithetic: Whether samples come in pairs of antithetic noise. Their mean is free of all that is odd in the
            noise: a pair of a deterministic sampler is worth about eight independent samples.
        start: Where the grid begins, as a share of T.
    """

    #: Whether the same start noise always leads to the same image.
    deterministic: bool

    def __init__(self, steps: Count | None = None, antithetic: bool = False, start: UpToOne = 1.0) -> None:
        self.steps, self.antithetic, self.start = steps, antithetic, start

    @property
    def name(self) -> str:
        """Name of the sampler in results."""
        return type(self).__name__.lower()

    def times(self, schedule: Schedule) -> list[int]:
        """Returns the grid on a schedule: falling steps that end with 0."""
        return schedule.times(self.steps, self.start)

    def evaluations(self, process: Schedule) -> int:
        """Returns the number of network evaluations of one sample."""
        return len(self.times(process)) - 1

    def describe(self, process: Schedule) -> str:
        """Returns the sampler and its steps in words."""
        return f"{self.name} with {self.evaluations(process)} of {process.steps} steps"

    def check(self, process: Schedule, objective: Objective | None = None) -> None:
        r"""Raises if the process has no such grid, or a model of this objective is useless on it.

        An epsilon model estimates :math:`y_0` with :math:`\sqrt{1 / \bar\alpha - 1}` times the error of its noise: 4058
        times at the end of the cosine schedule. The many steps of the paper give that estimate no weight; a long first
        step makes it the state.

        Raises:
            ValueError: With the reason.
        """
        if not isinstance(process, Schedule):
            raise ValueError(
                f"a {type(process).__name__} is followed by Euler, Midpoint or Heun steps, not by {type(self).__name__}"
            )
        t, s = self.times(process)[:2]
        alpha_bar_t, alpha_bar_s = process.alpha_bar[t].item(), process.alpha_bar[s].item()
        if objective is None or objective.name != "epsilon":
            return
        amplified = (1 / alpha_bar_t - 1) ** 0.5
        weight = alpha_bar_s**0.5 * (1 - alpha_bar_t / alpha_bar_s) / (1 - alpha_bar_t)
        if weight * min(1.0, NOISE_ERROR * amplified) > MOST_HARM:
            raise ValueError(
                f"the first step goes from {t} to {s} of {process.steps}, but an epsilon model knows the clean image "
                f"at {t} only up to {amplified:.0f} times the error of its noise; begin at sampler.start=0.9 "
                "(one_step: sampler.at=0.8), take more steps, or train with model.objective.name=v"
            )

    def __call__(
        self,
        predict: Predict,
        process: Schedule,
        noise: Noise,
        shape: tuple[int, ...],
        device: torch.device | str = "cpu",
        clip: tuple[float, float] | None = (-1.0, 1.0),
        guess: Tensor | None = None,
    ) -> Tensor:
        """Samples images; see :meth:`Sampler.__call__`."""
        schedule = process
        times = self.times(schedule)
        device = torch.device(device)
        noise = noise.antithetic() if self.antithetic else noise
        y_t = noise(times[0], shape, device)
        if guess is not None and times[0] < schedule.steps:
            y_t = q_sample(guess, schedule.alpha_bar[times[0]].expand(len(noise)), y_t)
        before: Estimate | None = None
        for t, s in pairwise(times):
            level_t, level_s = (schedule.alpha_bar[k].expand(len(noise)) for k in (t, s))
            y_0 = predict(y_t, level_t)
            if clip is not None:
                y_0 = y_0.clamp(*clip)
            if s == 0:
                return y_0
            y_t = self.step(y_t, (y_0, level_t), level_s, lambda s=s: noise(s, shape, device), before)
            before = (y_0, level_t)
        return y_t

    def step(
        self,
        y_t: Tensor,
        estimate: Estimate,
        alpha_bar_s: Tensor,
        noise: Callable[[], Tensor],
        before: Estimate | None,
    ) -> Tensor:
        """Moves states to a level s > 0.

        Args:
            y_t: States with shape (B, C, H, W).
            estimate: The clean images as they are estimated at these states, and the levels of the states.
            alpha_bar_s: Levels to go to, with shape (B,).
            noise: Draws the noise of the step; called only if it is needed.
            before: The estimate of the step before this one; ``None`` at the first.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no step")


class Ancestral(DiffusionSampler):
    """Samples each state from the posterior q(y_s | y_t, y_0); the paper's sampler when all T steps are taken."""

    deterministic = False

    def step(
        self,
        y_t: Tensor,
        estimate: Estimate,
        alpha_bar_s: Tensor,
        noise: Callable[[], Tensor],
        before: Estimate | None,
    ) -> Tensor:
        """Moves states from t to s by the strided posterior."""
        y_0, alpha_bar_t = estimate
        mean, variance = posterior(y_0, y_t, alpha_bar_s, alpha_bar_t)
        return mean + variance.sqrt() * noise()


class DDIM(DiffusionSampler):
    """Implicit sampler: deterministic with eta = 0, ancestral with eta = 1.

    Args:
        steps: Number of network evaluations; ``None`` takes all of the schedule.
        eta: Share of the ancestral noise that is added anew at each step, in [0, 1].
        antithetic: Whether samples come in pairs of antithetic noise.
        start: Where the grid begins, as a share of T.

    Raises:
        ValueError: If eta lies outside [0, 1].
    """

    def __init__(
        self,
        steps: Count | None = None,
        eta: UnitInterval = 0.0,
        antithetic: bool = False,
        start: UpToOne = 1.0,
    ) -> None:
        super().__init__(steps, antithetic, start)
        if not 0 <= eta <= 1:
            raise ValueError(f"sampler.eta is {eta}; allowed: 0 (deterministic) to 1 (ancestral)")
        self.eta = eta
        self.deterministic = eta == 0

    def step(
        self,
        y_t: Tensor,
        estimate: Estimate,
        alpha_bar_s: Tensor,
        noise: Callable[[], Tensor],
        before: Estimate | None,
    ) -> Tensor:
        """Moves states from t to s (equation 12)."""
        y_0, alpha_bar_t = estimate
        epsilon = noise_from_start(y_t, alpha_bar_t, y_0)
        variance = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
        sigma = self.eta * variance.sqrt()
        direction = (1 - alpha_bar_s - sigma**2).clamp(min=0).sqrt()
        coefficients = (per_image(c, y_t).to(y_t.dtype) for c in (alpha_bar_s.sqrt(), direction, sigma))
        a, b, c = coefficients
        y_s = a * y_0 + b * epsilon
        return y_s if self.deterministic else y_s + c * noise()


class OneStep(DiffusionSampler):
    r"""The estimate of the clean image at one level, from pure noise: nearly :math:`E[y_0 | x]` in one evaluation.

    At T itself that is what the estimate means; but a network sees T in one training step of T, and is bad there unless
    it was trained with ``p_terminal``. Others do best at 0.8 T, from the diffused noisy image (measured:
    experiments/speed).

    Args:
        at: The level, as a share of T.
        antithetic: Whether samples come in pairs of antithetic noise.
    """

    deterministic = True

    def __init__(self, at: UpToOne = 0.8, antithetic: bool = False) -> None:
        super().__init__(1, antithetic, at)

    @property
    def name(self) -> str:
        """Name of the sampler in results."""
        return "one_step"
