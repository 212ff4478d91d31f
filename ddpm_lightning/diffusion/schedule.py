r"""Noise schedules as float64 tables.

A schedule of :math:`T` steps is given by the variances :math:`\beta_1 … \beta_T` of the forward process

.. math:: q(y_t | y_{t-1}) = N(\sqrt{1 - \beta_t}\, y_{t-1},\; \beta_t I)

and is used through the cumulative products :math:`\bar\alpha_t = \prod_{s \le t} (1 - \beta_s)`, with
:math:`\bar\alpha_0 = 1`. Tables have T + 1 entries, so that index t is step t. They are plain tensors: they belong to
no module, so no average and no checkpoint ever touches them.

References:
    Ho, Jain, Abbeel. *Denoising Diffusion Probabilistic Models* (2020), arXiv 2006.11239.
    Nichol, Dhariwal. *Improved Denoising Diffusion Probabilistic Models* (2021), arXiv 2102.09672, equation 17.
    Chen et al. *WaveGrad* (2020), arXiv 2009.00713, section 2.3: continuous noise levels.
"""

import math

import torch
from torch import Tensor

from ddpm_lightning.utils.settings import Count

__all__ = ["CosineSchedule", "LinearSchedule", "Schedule", "log_snr"]

#: Longest table.
MOST_STEPS = 100_000


class Schedule:
    """A forward process, as the table of its cumulative alphas.

    Args:
        betas: Variances of the T steps, each in (0, 1), with shape (T,), float64.

    Attributes:
        steps: Number of steps T.
        betas: Table with shape (T + 1,); ``betas[0]`` is 0.
        alpha_bar: Cumulative alphas with shape (T + 1,), falling from 1; float64 on the CPU.

    Raises:
        ValueError: If a beta lies outside (0, 1).
    """

    def __init__(self, betas: Tensor) -> None:
        betas = betas.to(torch.float64)
        if betas.ndim != 1 or len(betas) < 1 or not bool(((betas > 0) & (betas < 1)).all()):
            found = [beta for beta in betas.flatten()[:3].tolist()] + ["…"] * (betas.numel() > 3)
            raise ValueError(f"betas must be a non-empty list of numbers in (0, 1), found {found}")
        self.steps = len(betas)
        self.betas = torch.cat([betas.new_zeros(1), betas])
        self.alpha_bar = torch.cumprod(1 - self.betas, dim=0)

    def levels(self, uniform: Tensor, continuous: bool = True, first_step: int = 1) -> Tensor:
        """Turns uniform numbers into noise levels for training.

        The first number chooses a step t of ``first_step``…T. The level is then ``alpha_bar[t]``, or, if continuous,
        lies where the second number says between ``alpha_bar[t]`` and ``alpha_bar[t - 1]`` (WaveGrad; the paper's code
        likewise).

        Args:
            uniform: Numbers in [0, 1) with shape (B, 2), float64.
            continuous: Whether levels lie between the entries of the table.
            first_step: Least step that is chosen, 1…T.

        Returns:
            Levels in (0, 1] with shape (B,), float64.
        """
        t = first_step + (uniform[:, 0] * (self.steps + 1 - first_step)).long()
        table = self.alpha_bar.to(uniform.device)
        if not continuous:
            return table[t]
        return table[t] + (table[t - 1] - table[t]) * uniform[:, 1]

    def times(self, count: int | None = None, start: float = 1.0) -> list[int]:
        """Returns falling steps, evenly spaced, that end with 0: the grid of a sampler.

        Args:
            count: Number of steps that are made; by default one for each step of the schedule.
            start: Where the grid begins, as a share of T.

        Raises:
            ValueError: If start is not in (0, 1], or count not in 1…start · T.
        """
        if not 0 < start <= 1:
            raise ValueError(f"sampler.start is {start}; allowed: above 0, at most 1 (pure noise)")
        first = round(self.steps * start)
        count = first if count is None else count
        if not 1 <= count <= first:
            raise ValueError(f"sampler.steps is {count}; the schedule has steps 1 to {first}")
        return [round(first * (count - k) / count) for k in range(count + 1)]


class CosineSchedule(Schedule):
    r"""The paper's schedule: :math:`\bar\alpha_t \propto \cos^2\left(\frac{t/T + s}{1 + s}\frac{\pi}{2}\right)`.

    Args:
        steps: Number of steps T (200 in the paper).
        s: Offset that keeps the first steps from being too small (0.008 in the paper).
        max_beta: Largest beta; it clips the last steps, where the cosine falls to zero (0.999 in the paper).
    """

    def __init__(self, steps: Count = 200, s: float = 0.008, max_beta: float = 0.999) -> None:
        _check_steps(steps)
        t = torch.arange(steps + 1, dtype=torch.float64, device="cpu") / steps
        f = torch.cos((t + s) / (1 + s) * (math.pi / 2)) ** 2
        super().__init__((1 - f[1:] / f[:-1]).clamp(max=max_beta))


class LinearSchedule(Schedule):
    """Betas that rise linearly (Ho et al. 2020).

    Args:
        steps: Number of steps T.
        first: Beta of step 1; by default 0.0001 · 1000 / T, which keeps the total noise of the original T = 1000.
        last: Beta of step T; by default 0.02 · 1000 / T, at most 0.999.
    """

    def __init__(self, steps: Count = 200, first: float | None = None, last: float | None = None) -> None:
        _check_steps(steps)
        first = 0.1 / steps if first is None else first
        last = min(20 / steps, 0.999) if last is None else last
        super().__init__(torch.linspace(first, last, steps, dtype=torch.float64, device="cpu"))


def _check_steps(steps: int) -> None:
    if not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"model.schedule.steps is {steps}; allowed: 1 to {MOST_STEPS}")


def log_snr(alpha_bar: Tensor, limit: float = 20.0) -> Tensor:
    r"""Returns the log signal-to-noise ratio :math:`\log \bar\alpha / (1 - \bar\alpha)`, clamped to ±limit.

    Args:
        alpha_bar: Cumulative alphas in [0, 1], any shape.
        limit: Bound that keeps the clean and the purely noisy end finite.
    """
    return (torch.log(alpha_bar) - torch.log1p(-alpha_bar)).clamp(-limit, limit)
