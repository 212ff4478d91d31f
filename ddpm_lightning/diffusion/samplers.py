r"""From noise to an image: one loop, in which each sampler is a step.

A sampler walks down a grid :math:`T = t_0 > t_1 > … > t_K = 0` of the schedule. At each point the network's
prediction is turned into an estimate of the clean image, clipped to the range that clean images have, and the state is
moved from t to s. The noise implied by the estimate is recomputed after clipping, so that state, start and noise stay
consistent.

References:
    Ho, Jain, Abbeel (2020), arXiv 2006.11239, algorithm 2 (ancestral).
    Song, Meng, Ermon. *Denoising Diffusion Implicit Models* (2021), arXiv 2010.02502, equations 12 and 16.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from ddpm_lightning.diffusion.process import noise_from_start, per_image, posterior
from ddpm_lightning.diffusion.schedule import Schedule

__all__ = ["DDIM", "Ancestral", "PredictStart", "Sampler"]

#: Estimates the clean images from states (B, C, H, W) and their levels (B,).
PredictStart = Callable[[Tensor, Tensor], Tensor]


class Noise(Protocol):
    """Standard normal noise for a step; see :class:`ddpm_lightning.diffusion.randomness.KeyedNoise`."""

    def __len__(self) -> int: ...

    def __call__(self, step: int, shape: tuple[int, ...], device: torch.device) -> Tensor: ...

    def antithetic(self) -> "Noise": ...


class Sampler:
    """The loop that all samplers share.

    Args:
        steps: Number of network evaluations, between 1 and the schedule's T; ``None`` takes all T.
        antithetic: Whether draws come in pairs of opposite noise. Their mean is free of all that is odd in the noise:
            a pair of a deterministic sampler is worth about eight independent draws.
    """

    #: Whether the same start noise always leads to the same image.
    deterministic: bool

    def __init__(self, steps: int | None = None, antithetic: bool = False) -> None:
        self.steps, self.antithetic = steps, antithetic

    def evaluations(self, schedule: Schedule) -> int:
        """Returns the number of network evaluations of one draw."""
        return schedule.steps if self.steps is None else self.steps

    def __call__(
        self,
        predict_start: PredictStart,
        schedule: Schedule,
        noise: Noise,
        shape: tuple[int, ...],
        device: torch.device | str = "cpu",
        clip: tuple[float, float] | None = (-1.0, 1.0),
    ) -> Tensor:
        """Draws images.

        Args:
            predict_start: Estimates clean images from states (B, C, H, W) and levels (B,).
            schedule: The forward process that the model was trained on.
            noise: Source of the start noise (step T) and of that of each transition (to step s).
            shape: Shape of one image, (C, H, W).
            device: Where to compute.
            clip: Range that clean images have; estimates are clipped to it. ``None`` leaves them.

        Returns:
            One image for each row of the noise, with shape (B, C, H, W), float32.
        """
        times = schedule.times(self.evaluations(schedule))
        device = torch.device(device)
        noise = noise.antithetic() if self.antithetic else noise
        y_t = noise(times[0], shape, device)
        for t, s in pairwise(times):
            level_t, level_s = (schedule.alpha_bar[k].expand(len(noise)) for k in (t, s))
            y_0 = predict_start(y_t, level_t)
            if clip is not None:
                y_0 = y_0.clamp(*clip)
            y_t = (
                y_0 if s == 0 else self.step(y_t, y_0, level_t, level_s, lambda s=s: noise(s, shape, device))
            )
        return y_t

    def step(
        self, y_t: Tensor, y_0: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor, noise: Callable[[], Tensor]
    ) -> Tensor:
        """Moves states from t to s, given the estimate of the clean images; noise() is drawn only if needed."""
        raise NotImplementedError(f"{type(self).__name__} defines no step")


class Ancestral(Sampler):
    """Draws each state from the posterior q(y_s | y_t, y_0); the paper's sampler when all T steps are taken."""

    deterministic = False

    def step(
        self, y_t: Tensor, y_0: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor, noise: Callable[[], Tensor]
    ) -> Tensor:
        """Moves states from t to s by the strided posterior."""
        mean, variance = posterior(y_0, y_t, alpha_bar_s, alpha_bar_t)
        return mean + variance.sqrt() * noise()


class DDIM(Sampler):
    """Implicit sampler: deterministic with eta = 0, ancestral with eta = 1.

    Args:
        steps: Number of network evaluations; ``None`` takes all of the schedule.
        eta: Share of the ancestral noise that is added anew at each step, in [0, 1].
        antithetic: Whether draws come in pairs of opposite noise.

    Raises:
        ValueError: If eta lies outside [0, 1].
    """

    def __init__(self, steps: int | None = None, eta: float = 0.0, antithetic: bool = False) -> None:
        super().__init__(steps, antithetic)
        if not 0 <= eta <= 1:
            raise ValueError(f"sampler.eta is {eta}; allowed: 0 (deterministic) to 1 (ancestral)")
        self.eta = eta
        self.deterministic = eta == 0

    def step(
        self, y_t: Tensor, y_0: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor, noise: Callable[[], Tensor]
    ) -> Tensor:
        """Moves states from t to s (equation 12)."""
        epsilon = noise_from_start(y_t, alpha_bar_t, y_0)
        variance = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
        sigma = self.eta * variance.sqrt()
        direction = (1 - alpha_bar_s - sigma**2).clamp(min=0).sqrt()
        coefficients = (per_image(c, y_t).to(y_t.dtype) for c in (alpha_bar_s.sqrt(), direction, sigma))
        a, b, c = coefficients
        y_s = a * y_0 + b * epsilon
        return y_s if self.deterministic else y_s + c * noise()
