r"""Posterior samples from one evaluation of a small network, trained with a proper scoring rule.

A frozen regressor gives :math:`\mu(x) ≈ E[y | x]`, and a small network :math:`\tau(x) ≈ \mathrm{Std}[y | x]`, both once
for each image. A third one makes a sample from the low image, the mean, and a map of white noise z:

.. math:: s(x, z) = \mu(x) + \tau(x) f(x, \mu(x), z)

:math:`\tau` is trained by the likelihood of the regressor's error under a normal distribution. It multiplies the noise
by the content, which the layers of a light network hardly can; and as a map of the standard deviation it has no
sampling error. The convolution of z with a small filter :math:`k` is a random field that does not depend on the
content. A light network that works on blocks of pixels makes it badly, with the grid of its blocks in every sample.
:math:`f` and :math:`k` are trained with two independent samples of each crop by a proper scoring rule
(:mod:`ddpm_lightning.models.scoring_rules`) of the errors in units of :math:`\tau`, so that dark and bright regions
have the same weight. The rule stays proper, because :math:`\tau` depends on x alone; it is smallest for samples of the
posterior itself. No differential equation has to be solved.

The two samples of a training step must be independent. The difference between antithetic samples is larger than that
between independent ones, so the score would be smallest for samples that are much too far apart.

References:
    Nix, Weigend. *Estimating the mean and variance of the target probability distribution* (1994),
    doi 10.1109/ICNN.1994.374138.
    Lang et al. *AIFS-CRPS* (2024), arXiv 2412.15832.
    Alet et al. *Skillful joint probabilistic weather forecasting from marginals* (2025), arXiv 2506.10772.
"""

import torch
from torch import Tensor, nn

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.models.method import (
    Apply,
    Batch,
    LossKey,
    Posterior,
    apply_directly,
    size_divisor_of,
)
from ddpm_lightning.models.presets import SCORED, Preset
from ddpm_lightning.models.regression import Regression, scale_input
from ddpm_lightning.models.residual import ResidualMethod
from ddpm_lightning.models.scoring_rules import score_of_pair
from ddpm_lightning.utils.settings import Count, Fraction

__all__ = ["Scored"]

#: Steps of the keyed noise that make the two samples of a training step; the first one makes all samples later.
FIRST, SECOND = 1, 2
#: Natural logarithm of the smallest and largest standard deviation in units of sigma.
LOG_STD = (-4.6, 4.6)
#: Side in pixels of the filter of the noise.
FILTER = 7


class Scored(ResidualMethod):
    """Samples of the posterior in one evaluation each, trained by a proper scoring rule.

    Args:
        regression: The regressor. A new run gives it the weights of a trained one (``mean``), or trains it first.
        network: Maps low image, mean and noise (B, 3, H, W), and labels (B,) that are 0, to residuals (B, 1, H, W) in
            units of the standard deviation.
        std_network: Maps low image and mean (B, 2, H, W), and labels (B,) that are 0, to half the logarithm of the
            standard deviation (B, 1, H, W) in units of sigma.
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
        std_network: nn.Module,
        window: Count = 16,
        mean: str | None = None,
        mean_share: Fraction = 2 / 3,
    ) -> None:
        super().__init__(regression, network, mean, mean_share)
        self.std_network, self.window = std_network, window
        # Circular, because white noise has no borders. Samples start as the mean plus white noise of the right size.
        self.noise_filter = nn.Conv2d(1, 1, FILTER, padding="same", padding_mode="circular", bias=False)
        nn.init.dirac_(self.noise_filter.weight)
        self.size_divisor = max(self.size_divisor, size_divisor_of(std_network))

    @property
    def deterministic(self) -> bool:
        """Samples differ by their noise."""
        return False

    @property
    def evaluations(self) -> int:
        """Evaluations of the light network for one sample."""
        return 1

    @property
    def mean_evaluations(self) -> int:
        """Evaluations of the regressor and of the network of the standard deviation."""
        return self.regression.evaluations + 1

    @property
    def predicts_std(self) -> bool:
        """The standard deviation is that of a network."""
        return True

    @property
    def presets(self) -> dict[str, Preset]:
        """Named numbers of samples, the default first."""
        return SCORED

    @property
    def preset(self) -> str:
        """How samples are made, in words."""
        return "mean and standard deviation, then one light evaluation for each sample"

    def log_std(self, low: Tensor, mean: Tensor, apply: Apply = apply_directly) -> Tensor:
        """Returns the logarithm of the standard deviation in units of sigma with shape (B, 1, H, W), float32."""
        seen = torch.cat([scale_input(low), scale_input(mean)], dim=1)
        return (2 * apply(self.std_network, seen, low.new_zeros(len(low))).float()).clamp(*LOG_STD)

    def residual(self, low: Tensor, mean: Tensor, z: Tensor, apply: Apply = apply_directly) -> Tensor:
        """Returns residuals with shape (B, 1, H, W) in units of the standard deviation, float32.

        Args:
            low: Low images with shape (B, 1, H, W), normalised.
            mean: Estimates of the mean with the same shape, normalised.
            z: White noise with the same shape.
            apply: How networks are applied.
        """
        seen = torch.cat([scale_input(low), scale_input(mean), z], dim=1)
        content = apply(self.network, seen, low.new_zeros(len(low))).float()
        return self.noise_filter(z.float()) + content

    def loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns the score of two independent samples of each crop, plus that of the standard deviation.

        The second term is the negative logarithm of the likelihood of the regressor's error, without a constant. It
        alone trains the network of the standard deviation.
        """
        high, noise = batch["high"], key.noise(batch["name"])
        with torch.no_grad():
            low = self.combined(batch["low"])
            mean = self.regression.estimate(low)
        log_std = self.log_std(low, mean)
        error = (high - mean) / (self.sigma * log_std.exp())
        likelihood = (log_std + error.square() / 2).mean()
        z = torch.cat([noise(step, low.shape[1:], low.device) for step in (FIRST, SECOND)])
        residual = self.residual(low.repeat(2, 1, 1, 1), mean.repeat(2, 1, 1, 1), z)
        first, second = (residual - error.detach().repeat(2, 1, 1, 1)).chunk(2)
        return score_of_pair(first, second, self.window, key.generator()) + likelihood

    def posterior(self, low: Tensor, apply: Apply = apply_directly) -> Posterior:
        """Returns mean and standard deviation; see :meth:`Method.posterior`."""
        mean = self.regression.estimate(low, apply)
        return Posterior(mean, self.sigma * self.log_std(low, mean, apply).exp())

    def sample_around(
        self, posterior: Posterior, low: Tensor, noise: KeyedNoise, apply: Apply = apply_directly
    ) -> Tensor:
        """Restores images; see :meth:`Method.sample_around`."""
        assert posterior.std is not None
        mean, std = posterior.mean, posterior.std
        return mean + std * self.residual(low, mean, noise(FIRST, low.shape[1:], low.device), apply)
