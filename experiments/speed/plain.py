"""The network equation by equation as in the EDM2 paper (arXiv 2312.02696), for comparison with ours.

Weights are normalised in every evaluation and, while the network learns, forced back to unit length inside of it;
magnitude-preserving sums and SiLUs are divided one by one; attention is a softmax of a product; channels come first.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ddpm_lightning.networks.mp_layers import EPSILON, MPAttention, MPConv, mp_silu, pixel_norm
from ddpm_lightning.networks.mp_unet import MPBlock, MPUNet

__all__ = ["spelled_out"]


def spelled_out(network: MPUNet) -> MPUNet:
    """Gives the layers of a network their plain forward passes; parameters and outputs stay what they are."""
    for layer in network.modules():
        for kind, plain in PLAIN.items():
            if type(layer) is kind:
                layer.__class__ = plain
    return network


def _sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Equation 88."""
    return torch.lerp(a, b, t) / math.hypot(1 - t, t)


class PlainConv(MPConv):
    """Equations 47 and 66."""

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """Maps (B, C_in, H, W), or (B, C_in), to C_out channels, scaled by the gain."""
        if self.training:
            self.normalise_()
        length = torch.linalg.vector_norm(self.weight, dim=tuple(range(1, self.weight.ndim)), keepdim=True)
        inputs = math.sqrt(self.weight[0].numel())
        weight = (self.weight / (length / inputs + EPSILON) * (gain / inputs)).to(x.dtype)
        if weight.ndim == 2:
            return functional.linear(x, weight)
        return functional.conv2d(x, weight, padding=self.padding)


class PlainAttention(MPAttention):
    """Cosine attention, its weights in full."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        b, c, h, w = x.shape
        roles = self.qkv(x).reshape(b * self.heads, c // self.heads, 3, h * w)
        q, k, v = pixel_norm(roles).unbind(2)
        weights = torch.einsum("ncq,nck->nqk", q, k / math.sqrt(q.shape[1])).softmax(dim=2)
        y = torch.einsum("nqk,nck->ncq", weights, v)
        return _sum(x, self.project(y.reshape(b, c, h, w)), self.balance)


class PlainBlock(MPBlock):
    """Figure 21 of the paper."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Maps (B, C_in, H, W) to (B, C_out, H', W'), given embeddings (B, E)."""
        if self.resample == "down":
            x = functional.avg_pool2d(x, 2)
        elif self.resample == "up":
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
        if self.encoder:
            x = pixel_norm(self.project(x))
        modulation = self.modulate(embedding, gain=self.embedding_gain) + 1
        y = self.residual_in(mp_silu(x))
        y = mp_silu(y * modulation[:, :, None, None])
        y = self.residual_out(functional.dropout(y, self.dropout, self.training))
        if not self.encoder:
            x = self.project(x)
        return self.attention(_sum(x, y, self.balance)).clamp(-self.clip, self.clip)


PLAIN = {MPConv: PlainConv, MPAttention: PlainAttention, MPBlock: PlainBlock}
