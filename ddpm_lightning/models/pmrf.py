r"""Posterior-mean rectified flow: an estimate of the mean, then a short flow from there to a clean image.

A frozen regressor gives :math:`\mu(x) ≈ E[y | x]`. A second network learns the rectified flow
(:mod:`ddpm_lightning.diffusion.flow`) from :math:`z_0 = \mu + \sigma_s \epsilon` to y.

=====================  ===============  ================================================================================
condition              name             input of the flow, and meaning of its samples
=====================  ===============  ================================================================================
``none``               pmrf             only the current state: it maps the distribution of means to that of clean
                                        images along short paths. Samples look realistic and have little additional
                                        error; their standard deviation is *not* that of the posterior.
``input_and_mean``     residual_flow    the low image and the mean as well: samples approximate posterior samples, and
                                        their standard deviation is an uncertainty.
=====================  ===============  ================================================================================

:math:`\sigma_s` is the root mean square error of the regressor (:mod:`ddpm_lightning.models.residual`).

References:
    Ohayon, Michaeli, Elad. *Posterior-Mean Rectified Flow* (2025), arXiv 2410.00418.
"""

import torch
from torch import Tensor, nn

from ddpm_lightning.diffusion.flow import START, RectifiedFlow, interpolate, training_times
from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.diffusion.samplers import Sampler
from ddpm_lightning.models.method import Apply, Batch, LossKey, Posterior, apply_directly
from ddpm_lightning.models.presets import Preset, of_flow
from ddpm_lightning.models.regression import Regression, scale_input
from ddpm_lightning.models.residual import ResidualMethod
from ddpm_lightning.utils.settings import Fraction, NonNegative

__all__ = ["PMRF"]

CONDITIONS = ("none", "input_and_mean")
#: Step of the keyed noise that gives the times in training.
TIME = 0


class PMRF(ResidualMethod):
    """Rectified flow that starts at the noisy estimate of a frozen regressor.

    Args:
        regression: The regressor. A new run gives it the weights of a trained one (``mean``), or trains it first.
        network: Maps states, with their condition, and labels (B,) to velocities in units of sigma.
        sampler: How the flow is followed.
        condition: Input of the network besides the state: ``none``, or ``input_and_mean`` (two more channels).
        sigma_factor: Standard deviation of the start noise in units of the regressor's error.
        mean: Checkpoint of a trained regressor, used only at the start of a new run; ``None`` trains one.
        mean_share: Share of a run's steps that train the regressor if the run trains one.

    Raises:
        ValueError: If a setting is out of its range.
    """

    def __init__(
        self,
        regression: Regression,
        network: nn.Module,
        sampler: Sampler,
        condition: str = "none",
        sigma_factor: NonNegative = 1.0,
        mean: str | None = None,
        mean_share: Fraction = 2 / 3,
    ) -> None:
        super().__init__(regression, network, mean, mean_share)
        if condition not in CONDITIONS:
            raise ValueError(f"model.condition is {condition!r}; allowed: {', '.join(CONDITIONS)}")
        self.sampler, self.condition, self.sigma_factor = sampler, condition, sigma_factor
        sampler.check(self.process)

    @property
    def process(self) -> RectifiedFlow:
        """The flow from noisy means to clean images."""
        return RectifiedFlow(self.sigma)

    @property
    def deterministic(self) -> bool:
        """Whether the sampler returns the mean alone."""
        return not self.sampler.random

    @property
    def antithetic(self) -> bool:
        """Whether the sampler pairs its samples."""
        return self.sampler.antithetic

    @property
    def evaluations(self) -> int:
        """Network evaluations of one sample: the steps of the flow."""
        return self.sampler.evaluations(self.process)

    @property
    def presets(self) -> dict[str, Preset]:
        """Named choices of sampler and number of samples, the default first."""
        return of_flow(conditional=self.condition == "input_and_mean")

    @property
    def preset(self) -> str:
        """The steps and the realism, in words."""
        return f"mean, then {self.sampler.describe(self.process)}" if self.sampler.random else "mean"

    def velocity(
        self, state: Tensor, t: Tensor, low: Tensor, mean: Tensor, apply: Apply = apply_directly
    ) -> Tensor:
        """Returns the velocity at states (B, 1, H, W) and times (B,), float32."""
        seen = scale_input(state)
        if self.condition == "input_and_mean":
            seen = torch.cat([(state - mean) / self.sigma, scale_input(low), scale_input(mean)], dim=1)
        # The Fourier features of the label resolve differences of about 1, so times are mapped to [-2, 2].
        return self.sigma * apply(self.network, seen, 4 * t - 2).float()

    def loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns the error of the velocity at random times and starts; see :meth:`Method.loss`.

        Returns:
            Mean squared error in units of sigma squared, a scalar of at least 0.
        """
        high, noise = batch["high"], key.noise(batch["name"])
        with torch.no_grad():
            low = self.combined(batch["low"])
            mean = self.regression.estimate(low)
        start = mean + self.sigma * noise(START, high.shape[1:], high.device)
        t = training_times(noise.uniform(TIME, 1, high.device)[:, 0]).float()
        velocity = self.velocity(interpolate(start, high, t), t, low, mean)
        return ((velocity - (high - start)) / self.sigma).square().mean()

    def sample_around(
        self, posterior: Posterior, low: Tensor, noise: KeyedNoise, apply: Apply = apply_directly
    ) -> Tensor:
        """Restores images; see :meth:`Method.sample_around`."""
        mean = posterior.mean

        def velocity(state: Tensor, t: Tensor) -> Tensor:
            return self.velocity(state, t, low, mean, apply)

        return self.sampler(velocity, self.process, noise, low.shape[1:], low.device, guess=mean)
