r"""Adds to a plane of a stack what its neighbours have in common with it, before a restoring network sees it.

With the plane :math:`x` and its neighbours :math:`x_k`, the network sees

.. math:: x(p) + \sum_k g_k(p) \sum_j a_{kj}\, (x_k(p + j) - x(p))

with a small kernel :math:`a_k` for each neighbour, which is learnt, and a gate :math:`g_k` between 0 and 1 for each
pixel, which small convolutions compute from the plane, the differences of the neighbours, and local means of their
absolute values. Where a neighbour shows something else, its gate closes.

All kernels start at 0: **the network first sees exactly the plane itself**, as a network for single planes does. So any
such network can be trained further with neighbours. A missing neighbour adds nothing; without any, the plane is
unchanged.

References:
    Mildenhall et al. *Burst denoising with kernel prediction networks* (2018), arXiv 1712.02327. Here, only the gates
    differ from pixel to pixel.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_lightning.networks.mp_layers import MPConv, mp_silu, mp_sum
from ddpm_lightning.networks.unet import reflect_to_multiple
from ddpm_lightning.utils.settings import Count

__all__ = ["NeighbourStem"]

#: Side of the squares of pixels that are folded into channels.
PATCH = 2
#: Factor on planes and differences, which then have about unit variance; see ``scale_input`` of the regressor.
SCALE = 4.0
#: Side in patches of the squares over which absolute differences are averaged.
REGION = 5


class NeighbourStem(nn.Module):
    """Maps a plane and its neighbours to one image.

    Args:
        neighbours: Planes on each side.
        features: Channels of the convolutions.
        kernel: Side of the kernels in pixels, odd.

    Raises:
        ValueError: If the side of the kernels is even.
    """

    def __init__(self, neighbours: Count = 2, features: Count = 16, kernel: Count = 3) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; allowed: odd numbers")
        self.neighbours, self.kernel = neighbours, kernel
        around = 2 * neighbours
        self.differences = MPConv(PATCH**2 * (1 + around) + 2 * around + 1, features, kernel=3)
        self.features = MPConv(features, features, kernel=3)
        self.gates = MPConv(features + 1, PATCH**2 * around, kernel=1)
        self.kernels = nn.Parameter(torch.zeros(around, kernel**2))

    def forward(self, planes: Tensor) -> Tensor:
        """Maps planes (B, 1 + 2 N, H, W), NaN where neighbours are missing, to images (B, 1, H, W)."""
        own, others = planes[:, :1], planes[:, 1:]
        present = others.isfinite()
        others = torch.where(present, others, own)
        gates = self._gates(own, others - own, present) * present
        batch, around, height, width = others.shape
        margin = self.kernel // 2
        padded = functional.pad(others, (margin,) * 4, mode="replicate")
        moved = functional.unfold(padded.flatten(0, 1)[:, None], self.kernel)
        moved = moved.view(batch, around, self.kernel**2, height, width) - own[:, None]
        return own + torch.einsum("bkhw,kj,bkjhw->bhw", gates, self.kernels, moved)[:, None]

    def _gates(self, own: Tensor, differences: Tensor, present: Tensor) -> Tensor:
        """Returns the gates of all neighbours, (B, 2 N, H, W), in (0, 1)."""
        height, width = own.shape[-2:]
        seen = SCALE * torch.cat([own + 1, differences], dim=1)
        seen, present = (reflect_to_multiple(each, PATCH) for each in (seen, present.to(seen.dtype)))
        change = functional.avg_pool2d(seen[:, 1:], PATCH).abs()
        change = functional.avg_pool2d(change, REGION, 1, REGION // 2, count_include_pad=False)
        x = [functional.pixel_unshuffle(seen, PATCH), SCALE * change, present[..., ::PATCH, ::PATCH]]
        ones = torch.ones_like(change[:, :1])
        x = mp_silu(self.differences(torch.cat([*x, ones], dim=1)))
        x = mp_sum(x, mp_silu(self.features(x)), 0.5)
        gates = functional.pixel_shuffle(self.gates(torch.cat([x, ones], dim=1)), PATCH)
        return torch.sigmoid(gates)[..., :height, :width]
