"""Noise2Void, N2V2 and structN2V: denoising that is learnt from noisy images alone.

Some pixels are hidden from the network, which must predict them from their surroundings. Noise that is independent from
pixel to pixel cannot be predicted, so the network learns the signal.

**The clean image is never used**, neither in training nor in the validation loss, which is also computed from noisy
pixels. That loss is comparable between epochs, but the epoch with the lowest loss is not the one with the best PSNR.
The output is therefore a denoised *low* image on the normalised scale of low images. Evaluation and restoration map it
to intensities like the raw low image; a gain or offset between low and high images remains, and only the protocol
``affine`` removes it.

References:
    Krull, Buchholz, Jug. *Noise2Void* (2019), https://arxiv.org/abs/1811.10980
    Höck et al. *N2V2* (2022), https://arxiv.org/abs/2211.08512
    Broaddus et al. *Removing structured noise with self-supervised blind-spot networks* (2020),
    https://doi.org/10.1109/ISBI45749.2020.9098336
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ddpm_lightning.models.blind_spot import hide_pixels, line_structure
from ddpm_lightning.models.losses import blind_spot_loss
from ddpm_lightning.models.method import Apply, Batch, LossKey, apply_directly
from ddpm_lightning.models.regression import DeterministicRegressor, from_unit, to_unit
from ddpm_lightning.networks.neighbours import NeighbourStem

__all__ = ["Noise2Void"]


class Noise2Void(DeterministicRegressor):
    """Self-supervised denoiser.

    Args:
        network: Maps images (B, 1, H, W) to images (B, 1, H, W).
        percent: Expected share of hidden pixels, in percent.
        radius: Half the side of the window that replacements come from.
        replacement: ``uniform``, a random neighbour (Noise2Void), or ``median`` of the neighbours (N2V2).
        exclude_center: Whether a pixel cannot be replaced by itself.
        structure: ``span`` and ``orientation`` of the lines that structN2V hides as well, or ``None``.
        error: ``mse`` or ``mae``.
        stem: Combines planes of stacks and their neighbours, if these are used. Pixels of neighbours are not hidden:
            their noise is independent of that of the plane.

    Raises:
        ValueError: If a setting is out of its range.
    """

    averaged = False  # batch normalisation
    needs_clean = False

    def __init__(
        self,
        network: nn.Module,
        percent: float = 0.198,
        radius: int = 5,
        replacement: Literal["uniform", "median"] = "uniform",
        exclude_center: bool = False,
        structure: dict[str, Any] | None = None,
        error: Literal["mse", "mae"] = "mse",
        stem: NeighbourStem | None = None,
    ) -> None:
        super().__init__(network, stem)
        self.hiding = {
            "percent": percent,
            "radius": radius,
            "replacement": replacement,
            "exclude_center": exclude_center,
            "structure": line_structure(**structure) if structure else None,
        }
        self.error: Literal["mse", "mae"] = error
        # Invalid settings are rejected now, not at the first step.
        images = torch.zeros(1, 1, 8, 8, device="cpu")
        _, mask = hide_pixels(images, torch.Generator(), **{**self.hiding, "structure": None})
        blind_spot_loss(images, images, mask, error)

    def estimate(self, low: Tensor, apply: Apply = apply_directly) -> Tensor:
        """Returns denoised low images, float32, for low images with shape (B, 1, H, W)."""
        return from_unit(apply(self.network, to_unit(low)).float())

    def loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns the error at hidden pixels of the low images, chosen by the key; see :meth:`Method.loss`.

        Returns:
            Mean squared or absolute error over the hidden pixels of the batch, a scalar of at least 0.
        """
        low, neighbours = batch["low"][:, :1], batch["low"][:, 1:]
        hidden, mask = hide_pixels(low, key.generator(), **self.hiding)
        hidden = self.combined(torch.cat([hidden, neighbours], dim=1))
        return blind_spot_loss(self.estimate(hidden), low, mask, self.error)
