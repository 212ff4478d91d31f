r"""What the network predicts, and how its error is weighted over noise levels.

=========  ==================================================================  =======================
name       target of the network                                               used by
=========  ==================================================================  =======================
epsilon    the noise :math:`\epsilon`                                          the paper
v          the velocity :math:`\sqrt{\bar\alpha}\epsilon - \sqrt{1-\bar\alpha}y_0`  our default
x0         the clean image :math:`y_0`
=========  ==================================================================  =======================

References:
    Salimans, Ho. *Progressive Distillation* (2022), arXiv 2202.00512, appendix D (v).
    Hang et al. *Efficient Diffusion Training via Min-SNR Weighting* (2023), arXiv 2303.09556, section 3.4.
"""

import torch
from torch import Tensor

from ddpm_lightning.diffusion import process

__all__ = ["Objective"]

NAMES = ("epsilon", "v", "x0")
WEIGHTINGS = ("uniform", "min_snr")


class Objective:
    """The regression target of the network and the way back to the clean image.

    Args:
        name: ``epsilon``, ``v`` or ``x0``.
        weighting: ``uniform`` (mean squared error in the target's own units) or ``min_snr``.
        snr_limit: Largest weight of the clean-image error under ``min_snr``.

    Raises:
        ValueError: If a name is unknown.
    """

    def __init__(self, name: str = "epsilon", weighting: str = "uniform", snr_limit: float = 5.0) -> None:
        if name not in NAMES:
            raise ValueError(f"model.objective.name is {name!r}; allowed: {', '.join(NAMES)}")
        if weighting not in WEIGHTINGS:
            raise ValueError(f"model.objective.weighting is {weighting!r}; allowed: {', '.join(WEIGHTINGS)}")
        self.name, self.weighting, self.snr_limit = name, weighting, snr_limit

    def target(self, y_0: Tensor, alpha_bar: Tensor, noise: Tensor) -> Tensor:
        """Returns what the network should predict, with the shape of y_0."""
        if self.name == "epsilon":
            return noise
        if self.name == "x0":
            return y_0
        return process.velocity(y_0, alpha_bar, noise)

    def start(self, prediction: Tensor, y_t: Tensor, alpha_bar: Tensor) -> Tensor:
        """Returns the clean image that a prediction stands for, with the shape of y_t."""
        if self.name == "epsilon":
            return process.start_from_noise(y_t, alpha_bar, prediction)
        if self.name == "x0":
            return prediction
        return process.start_from_velocity(y_t, alpha_bar, prediction)

    def weight(self, alpha_bar: Tensor) -> Tensor:
        """Returns the weight of the squared error at levels with shape (B,)."""
        if self.weighting == "uniform":
            return torch.ones_like(alpha_bar)
        snr = process.snr(alpha_bar)
        capped = snr.clamp(max=self.snr_limit)
        # The error of epsilon (v) is that of the clean image times the SNR (SNR + 1).
        return {"epsilon": capped / snr, "v": capped / (snr + 1), "x0": capped}[self.name]

    def loss(self, prediction: Tensor, y_0: Tensor, alpha_bar: Tensor, noise: Tensor) -> Tensor:
        """Returns the weighted mean squared error of each image, with shape (B,)."""
        error = (prediction.float() - self.target(y_0, alpha_bar, noise).float()).square()
        return self.weight(alpha_bar).to(error) * error.flatten(1).mean(1)
