r"""DPM-Solver++(2M): a deterministic sampler of second order.

In half log-SNR :math:`\lambda = \log(\sqrt{\bar\alpha} / \sqrt{1 - \bar\alpha})` the probability-flow equation has an
exact solution up to an integral over the estimates of the clean image. DDIM takes the estimate as constant over a step
:math:`h = \lambda_s - \lambda_t`; here it is a line through the estimate at t and the one before, a step
:math:`h' = r h` earlier:

.. math::
    D &= y_0 + \frac{1}{2r} (y_0 - y_0') \\
    y_s &= \frac{\sigma_s}{\sigma_t} y_t + \sqrt{\bar\alpha_s}\,(1 - e^{-h})\, D

The first step has no estimate before it and the last one, to 0, has infinite length: both are of first order.

References:
    Lu et al. *DPM-Solver++* (2022), arXiv 2211.01095, section 4 and algorithm 2.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ddpm_lightning.diffusion.objective import Objective
from ddpm_lightning.diffusion.process import per_image
from ddpm_lightning.diffusion.samplers import DiffusionSampler, Estimate
from ddpm_lightning.diffusion.schedule import Schedule

__all__ = ["DPMSolver"]

#: Largest 1 / 2r: how far the line is prolonged, in differences of two estimates. Beyond, errors of estimates grow.
MOST_EXTRAPOLATION = 2.0


def half_log_snr(alpha_bar: Tensor) -> Tensor:
    """Returns λ of levels inside of (0, 1), in their dtype."""
    return (torch.log(alpha_bar) - torch.log1p(-alpha_bar)) / 2


class DPMSolver(DiffusionSampler):
    """DPM-Solver++(2M).

    Args:
        steps: Number of network evaluations; ``None`` takes all of the schedule.
        antithetic: Whether samples come in pairs of antithetic noise.
        start: Where the grid begins, as a share of T.
    """

    deterministic = True

    @property
    def name(self) -> str:
        """Name of the sampler in results."""
        return "dpm_solver"

    def check(self, process: Schedule, objective: Objective | None = None) -> None:
        """Raises where a step is so much longer than the one before it that the solver diverges; see the base too."""
        super().check(process, objective)
        times = self.times(process)
        lambdas = half_log_snr(process.alpha_bar[times[:-1]])
        for (before, length), t, s in zip(
            pairwise(lambdas.diff().tolist()), times[1:], times[2:], strict=False
        ):
            if length > 2 * MOST_EXTRAPOLATION * before:
                raise ValueError(
                    f"DPM-Solver++(2M) diverges on this grid: the step from {t} to {s} is {length / before:.1f} times "
                    f"as long as the one before (in log-SNR; at most {2 * MOST_EXTRAPOLATION:g} times); "
                    "use sampler=ddim, or another sampler.steps or sampler.start"
                )

    def step(
        self,
        y_t: Tensor,
        estimate: Estimate,
        alpha_bar_s: Tensor,
        noise: Callable[[], Tensor],
        before: Estimate | None,
    ) -> Tensor:
        """Moves states from t to s: by the first order without an estimate before, else by the second."""
        y_0, alpha_bar_t = estimate
        length = half_log_snr(alpha_bar_s) - half_log_snr(alpha_bar_t)
        if before is not None:
            y_0_before, alpha_bar_before = before
            ratio = (half_log_snr(alpha_bar_t) - half_log_snr(alpha_bar_before)) / length
            y_0 = y_0 + per_image(1 / (2 * ratio), y_0).to(y_0.dtype) * (y_0 - y_0_before)
        keep = ((1 - alpha_bar_s) / (1 - alpha_bar_t)).sqrt()
        towards = -alpha_bar_s.sqrt() * torch.expm1(-length)
        return per_image(keep, y_t).to(y_t.dtype) * y_t + per_image(towards, y_t).to(y_t.dtype) * y_0
