r"""Code shared by the methods that make samples around the estimate of a frozen regressor.

The regressor gives :math:`\mu(x) ≈ E[y | x]`, once for each image; a second network generates samples around it. The
unit of all residuals is :math:`\sigma`, the root mean square error of the regressor. It is measured on the validation
crops before the first step (training crops would make it a fifth too small), and kept in the checkpoint beside both
networks.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.models.method import (
    Apply,
    Batch,
    FirstStage,
    Method,
    Posterior,
    Reduce,
    apply_directly,
    size_divisor_of,
)
from ddpm_lightning.models.regression import Regression

__all__ = ["ResidualMethod"]


class ResidualMethod(Method):
    """Base of methods that make samples around the estimate of a frozen regressor.

    Args:
        regression: The regressor. A new run gives it the weights of a trained one (``mean``), or trains it first.
        network: The network that makes the samples.
        mean: Checkpoint of a trained regressor that a new run starts from; ``None`` trains one. Not used later.
        mean_share: Share of a run's steps that train the regressor if the run trains one, in (0, 1).

    Attributes:
        sigma: Root mean square error of the regressor on the normalised scale, a scalar; 0 before it is measured.

    Raises:
        ValueError: If a setting is out of its range.
    """

    sigma: Tensor
    #: Factor between the error of the regressor and ``sigma``.
    sigma_factor: float = 1.0

    def __init__(
        self, regression: Regression, network: nn.Module, mean: str | None, mean_share: float
    ) -> None:
        super().__init__()
        if not 0 < mean_share < 1:
            raise ValueError(f"model.mean_share is {mean_share}; allowed: between 0 and 1")
        self.regression, self.network = regression.requires_grad_(False), network
        self.mean, self.mean_share = mean, mean_share
        self.size_divisor = max(size_divisor_of(network), regression.size_divisor)
        self.register_buffer("sigma", torch.zeros(()))

    @property
    def neighbours(self) -> int:
        """Planes on each side that the regressor makes use of."""
        return self.regression.neighbours

    def combined(self, low: Tensor, apply: Apply = apply_directly) -> Tensor:
        """Returns images that include the neighbours of planes, as the regressor sees them."""
        return self.regression.combined(low, apply)

    @property
    def first_stage(self) -> FirstStage:
        """The regressor."""
        return FirstStage("regression", "regression", "mean", self.mean, self.mean_share)

    def train(self, mode: bool = True) -> "ResidualMethod":
        """Switches the second network to training; the frozen regressor stays in evaluation mode."""
        super().train(mode)
        self.regression.eval()
        return self

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch], reduce: Reduce) -> None:
        """Measures sigma on the validation crops, unless it is known; see :meth:`Method.calibrate`."""
        if self.sigma > 0:
            return
        device, total = self.sigma.device, torch.zeros(2, dtype=torch.float64)
        for batch in batches:
            low = self.combined(batch["low"].to(device))
            error = self.regression.estimate(low) - batch["high"].to(device)
            total += torch.tensor([error.double().square().sum().item(), error.numel()], dtype=torch.float64)
        total = reduce(total.to(device, torch.float32), "sum")
        self.sigma.copy_(self.sigma_factor * (total[0] / total[1]).sqrt())

    def reset_calibration(self) -> None:
        """Lets sigma be measured again."""
        self.sigma.zero_()

    @property
    def mean_evaluations(self) -> int:
        """Network evaluations of the posterior mean."""
        return self.regression.evaluations

    def posterior(self, low: Tensor, apply: Apply = apply_directly) -> Posterior:
        """Returns the regressor's estimates; see :meth:`Method.posterior`."""
        return Posterior(self.regression.estimate(low, apply))

    def image_of(self, network: object, output: Tensor) -> Tensor | None:
        """Returns the regressor's estimate; see :meth:`Method.image_of`."""
        return self.regression.image_of(network, output)

    def sample(self, low: Tensor, noise: KeyedNoise, apply: Apply = apply_directly) -> Tensor:
        """Restores images; see :meth:`Method.sample`."""
        return self.sample_around(self.posterior(low, apply), low, noise, apply)
