r"""The magnitude-preserving U-Net after training: the same function, with everything constant computed once.

During training, the network normalises each weight at each evaluation, and multiplies activations by gains and by the
constants that preserve their magnitude. In a trained network all of these are constant, so they go into the weights:

===========================  ===============================================================
in training                  folded
===========================  ===============================================================
weight normalisation         done once
gain of embedding, output    into their weights; the ``+ 1`` of the modulation is a bias
constants of sums and SiLUs  into the weights beside them, once
one modulation per block     one matrix product for all blocks
===========================  ===============================================================

Activations are stored channels-last, and sums and SiLUs are computed in place. The outputs equal those of
:class:`~ddpm_lightning.networks.mp_unet.MPUNet` in evaluation mode up to rounding.
"""

import math
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ddpm_lightning.networks.mp_layers import SILU, MPAttention, MPConv, mp_silu, pixel_norm, sum_factors
from ddpm_lightning.networks.mp_unet import MPBlock, MPUNet

__all__ = ["FoldedUNet", "fold"]


def fold(network: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """Returns a network for use without gradients: a magnitude-preserving U-Net is folded, others are returned.

    Args:
        network: A trained network; it is not changed, and its later changes do not reach the folded one.
        dtype: Precision of the folded weights and activations; by default that of the network.
    """
    return FoldedUNet(network, dtype) if type(network) is MPUNet else network


class _Conv(nn.Module):
    """Convolution with a constant weight.

    Args:
        layer: The layer that was trained.
        factor: What its outputs are multiplied by.
        dtype: Precision.
        rows: Order of its output channels; by default as they are.
    """

    weight: Tensor

    def __init__(
        self, layer: MPConv, factor: float | Tensor, dtype: torch.dtype, rows: Tensor | None = None
    ) -> None:
        super().__init__()
        weight = layer.unit_weight(factor)
        weight = (weight if rows is None else weight[rows]).to(dtype)
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.padding = layer.padding

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, padding=self.padding)


class _Attention(nn.Module):
    """Self-attention whose projection is ordered by role (query, key, value), so that nothing is copied."""

    def __init__(self, layer: MPAttention, dtype: torch.dtype) -> None:
        super().__init__()
        channels, self.heads = layer.project.weight.shape[0], layer.heads
        # The trained layer orders its channels head, feature, role.
        rows = torch.arange(3 * channels, device=layer.qkv.weight.device)
        rows = rearrange(rows, "(heads features role) -> (role heads features)", heads=layer.heads, role=3)
        self.keep, share = sum_factors(layer.balance)
        self.qkv = _Conv(layer.qkv, 1.0, dtype, rows)
        self.project = _Conv(layer.project, share, dtype)

    def forward(self, x: Tensor) -> Tensor:
        sizes = {"role": 3, "heads": self.heads}
        b, _, h, w = x.shape
        roles = rearrange(self.qkv(x), "b (role heads features) h w -> (b h w role heads) features", **sizes)
        q, k, v = rearrange(
            pixel_norm(roles),
            "(b pixels role heads) features -> role b heads pixels features",
            b=b,
            **sizes,
        )
        y = functional.scaled_dot_product_attention(q, k, v)
        # By way of channels-last, so that the image lies in memory as all others do.
        y = rearrange(y, "b heads (h w) features -> b h w (heads features)", h=h, w=w)
        return self.project(rearrange(y, "b h w c -> b c h w")).add_(x, alpha=self.keep)


class _Block(nn.Module):
    """Residual block with its constants folded."""

    def __init__(self, block: MPBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder, self.resample, self.clip = block.encoder, block.resample, block.clip
        self.always_clip = block.always_clip
        keep, share = sum_factors(block.balance)
        self.keep, self.project = keep, nn.Identity()
        if isinstance(block.project, MPConv):
            # In the decoder the projection is a term of the sum, so its factor folds as well.
            self.keep = keep if block.encoder else 1.0
            self.project = _Conv(block.project, 1.0 if block.encoder else keep, dtype)
        self.residual_in = _Conv(block.residual_in, 1 / SILU, dtype)
        self.residual_out = _Conv(block.residual_out, share / SILU, dtype)
        self.attention = (
            _Attention(block.attention, dtype) if isinstance(block.attention, MPAttention) else nn.Identity()
        )

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        if self.resample == "down":
            x = functional.avg_pool2d(x, 2)
        elif self.resample == "up":
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
        if self.encoder:
            x = pixel_norm(self.project(x))
        y = self.residual_in(functional.silu(x)).mul_(modulation[:, :, None, None])
        y = self.residual_out(functional.silu(y, inplace=True))
        if not self.encoder:
            x = self.project(x)
        y = self.attention(y.add_(x, alpha=self.keep))
        return y.clamp_(-self.clip, self.clip) if self.always_clip or y.dtype == torch.float16 else y


def _cat(a: Tensor, b: Tensor) -> Tensor:
    """Joins channels at equal weight, scaling each directly into the result (equation 103 of EDM2)."""
    m, n = a.shape[1], b.shape[1]
    scale = math.sqrt((m + n) / 2)
    if torch.compiler.is_compiling():  # a compiler fuses the plain form, and cannot write to parts
        return torch.cat([a * (scale / math.sqrt(m)), b * (scale / math.sqrt(n))], dim=1)
    joined = torch.empty(
        (a.shape[0], m + n, *a.shape[2:]),
        dtype=a.dtype,
        device=a.device,
        memory_format=torch.channels_last,
    )
    torch.mul(a, scale / math.sqrt(m), out=joined[:, :m])
    torch.mul(b, scale / math.sqrt(n), out=joined[:, m:])
    return joined


class FoldedUNet(nn.Module):
    """A trained :class:`~ddpm_lightning.networks.mp_unet.MPUNet` for use.

    Args:
        network: The trained network.
        dtype: Precision of weights and activations; embeddings, norms and outputs stay float32.

    Attributes:
        size_divisor: Sides of the images must be divisible by this number.
    """

    embed: Tensor
    modulations: Tensor
    ones: Tensor

    @torch.no_grad()
    def __init__(self, network: MPUNet, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.dtype = dtype or network.input.weight.dtype
        self.patch, self.size_divisor = network.patch, network.size_divisor
        self.fourier = network.fourier
        self.register_buffer("embed", network.embed.unit_weight())
        parts = [
            cast("list[MPBlock]", part) for part in (network.encoder, network.bottleneck, network.decoder)
        ]
        blocks = [block for part in parts for block in part]
        self.register_buffer(
            "modulations",
            torch.cat([block.modulate.unit_weight(block.embedding_gain) for block in blocks]),
        )
        self.sizes = [block.modulate.weight.shape[0] for block in blocks]
        self.register_buffer("ones", torch.ones(sum(self.sizes), device=self.embed.device))
        self.input = _Conv(network.input, 1.0, self.dtype)
        self.output = _Conv(network.output, network.output_gain, self.dtype)
        self.encoder, self.bottleneck, self.decoder = (
            nn.ModuleList(_Block(block, self.dtype) for block in part) for part in parts
        )

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Maps images (B, C_in, H, W) and labels (B,) to images (B, C_out, H, W), float32.

        Raises:
            ValueError: If a side is not divisible by ``size_divisor``.
        """
        height, width = x.shape[-2:]
        if height % self.size_divisor or width % self.size_divisor:
            raise ValueError(
                f"images are {height} x {width}; this network needs sides divisible by {self.size_divisor}"
            )
        embedding = mp_silu(functional.linear(self.fourier(label), self.embed))
        modulations = functional.linear(embedding, self.modulations, self.ones).to(self.dtype)
        each = iter(modulations.split(self.sizes, dim=1))
        x = functional.pixel_unshuffle(x.to(self.dtype), self.patch)
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        x = self.input(x.contiguous(memory_format=torch.channels_last))
        skips = [x]
        for block in self.encoder:
            x = block(x, next(each))
            skips.append(x)
        for block in self.bottleneck:
            x = block(x, next(each))
        for block in self.decoder:
            if block.resample == "keep":
                x = _cat(x, skips.pop())
            x = block(x, next(each))
        return functional.pixel_shuffle(self.output(x), self.patch).float()
