r"""Posterior samples from one evaluation of a small network, trained with a proper scoring rule.

A frozen regressor gives :math:`\mu(x) ≈ E[y | x]`, once for each image. A second, smaller network sees the low image,
the mean, and a map of white noise z, and makes a sample of it:

.. math:: s(x, z) = \mu(x) + \sigma f(x, \mu(x), z)

It is trained with two independent samples of each crop by a proper scoring rule
(:mod:`ddpm_lightning.models.scoring_rules`), which is smallest for samples of the posterior itself. No differential
equation has to be solved, and the standard deviation of the samples needs no correction factor.

The two samples of a training step must be independent. The difference between antithetic samples is larger than that
between independent ones, so the score would be smallest for samples that are much too far apart.

References:
    Lang et al. *AIFS-CRPS* (2024), arXiv 2412.15832.
    Alet et al. *Skillful joint probabilistic weather forecasting from marginals* (2025), arXiv 2506.10772.
"""

import torch
from torch import Tensor, nn

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.models.method import Apply, Batch, LossKey, apply_directly
from ddpm_lightning.models.presets import SCORED, Preset
from ddpm_lightning.models.regression import Regression, scale_input
from ddpm_lightning.models.residual import ResidualMethod
from ddpm_lightning.models.scoring_rules import score_of_pair
from ddpm_lightning.utils.settings import Count, Fraction

__all__ = ["Scored"]

#: Steps of the keyed noise that make the two samples of a training step; the first one makes all samples later.
FIRST, SECOND = 1, 2


class Scored(ResidualMethod):
    """Samples of the posterior in one evaluation each, trained by a proper scoring rule.

    Args:
        regression: The regressor. A new run gives it the weights of a trained one (``mean``), or trains it first.
        network: Maps low image, mean and noise (B, 3, H, W), and labels (B,) that are 0, to residuals (B, 1, H, W) in
            units of sigma.
        window: Side in pixels of the windows whose Fourier coefficients are scored.
        mean: Checkpoint of a trained regressor that a new run starts from; ``None`` trains one. Not used later.
        mean_share: Share of a run's steps that train the regressor if the run trains one, in (0, 1).

    Raises:
        ValueError: If a setting is out of its range.
    """

    def __init__(
        self,
        regression: Regression,
        network: nn.Module,
        window: Count = 16,
        mean: str | None = None,
        mean_share: Fraction = 2 / 3,
    ) -> None:
        super().__init__(regression, network, mean, mean_share)
        self.window = window

    @property
    def deterministic(self) -> bool:
        """Samples differ by their noise."""
        return False

    @property
    def evaluations(self) -> int:
        """Evaluations of the light network for one sample."""
        return 1

    @property
    def presets(self) -> dict[str, Preset]:
        """Named numbers of samples, the default first."""
        return SCORED

    @property
    def preset(self) -> str:
        """How samples are made, in words."""
        return "mean, then one light evaluation for each sample"

    def residual(self, low: Tensor, mean: Tensor, z: Tensor, apply: Apply = apply_directly) -> Tensor:
        """Returns residuals with shape (B, 1, H, W) in units of sigma, float32, from noise of the same shape."""
        seen = torch.cat([scale_input(low), scale_input(mean), z], dim=1)
        return apply(self.network, seen, low.new_zeros(len(low))).float()

    def loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns the score of two independent samples of each crop in units of sigma."""
        low, high, noise = batch["low"], batch["high"], key.noise(batch["name"])
        with torch.no_grad():
            mean = self.regression.estimate(low)
        z = torch.cat([noise(step, low.shape[1:], low.device) for step in (FIRST, SECOND)])
        residual = self.residual(low.repeat(2, 1, 1, 1), mean.repeat(2, 1, 1, 1), z)
        first, second = (residual - ((high - mean) / self.sigma).repeat(2, 1, 1, 1)).chunk(2)
        return score_of_pair(first, second, self.window, key.generator())

    def sample_around(
        self, mean: Tensor, low: Tensor, noise: KeyedNoise, apply: Apply = apply_directly
    ) -> Tensor:
        """Restores images; see :meth:`Method.sample_around`."""
        return mean + self.sigma * self.residual(low, mean, noise(FIRST, low.shape[1:], low.device), apply)
