r"""The magnitude-preserving U-Net for use: the same function, with all that is constant computed once.

While it learns, the network normalises each weight at each evaluation and multiplies activations by gains and by the
constants that keep their magnitude. Of a trained network all of that is constant, so it goes into the weights:

===========================  ===============================================================
in training                  folded
===========================  ===============================================================
weight normalisation         done once
gain of embedding, output    into their weights; the ``+ 1`` of the modulation is a bias
constants of sums and SiLUs  into the weights beside them, once
one modulation per block     one matrix product for all blocks
===========================  ===============================================================

Activations lie channels-last, and sums and SiLUs are made in place. The outputs are those of
:class:`~ddpm_lightning.networks.mp_unet.MPUNet` in evaluation up to rounding.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_lightning.networks.mp_layers import SILU, MPAttention, MPConv, mp_silu, pixel_norm, sum_factors
from ddpm_lightning.networks.mp_unet import MPBlock, MPUNet

__all__ = ["FoldedUNet", "fold"]


def fold(network: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """Returns a network for use without gradients: folded if it is a magnitude-preserving U-Net, else itself.

    Args:
        network: A trained network; it is not changed, and its later changes do not reach the folded one.
        dtype: Precision of the folded weights and activations; by default that of the network.
    """
    return FoldedUNet(network, dtype) if type(network) is MPUNet else network


class _Conv(nn.Module):
    """Convolution with a constant weight.

    Args:
        layer: The layer that was trained.
        factor: What its outputs are multiplied with.
        dtype: Precision.
        rows: Order of its output channels; by default as they are.
    """

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
    """Self-attention whose projection comes out ordered by role, so that nothing is copied."""

    def __init__(self, layer: MPAttention, dtype: torch.dtype) -> None:
        super().__init__()
        channels, self.heads = layer.project.weight.shape[0], layer.heads
        # The trained layer orders its channels head, feature, role.
        rows = torch.arange(3 * channels, device=layer.qkv.weight.device)
        rows = rows.reshape(layer.heads, channels // layer.heads, 3).permute(2, 0, 1).flatten()
        self.keep, share = sum_factors(layer.balance)
        self.qkv = _Conv(layer.qkv, 1.0, dtype, rows)
        self.project = _Conv(layer.project, share, dtype)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        roles = self.qkv(x).permute(0, 2, 3, 1).reshape(b * h * w * 3 * self.heads, c // self.heads)
        # (B, HW, 3, heads, C / heads) -> three of (B, heads, HW, C / heads)
        roles = pixel_norm(roles).reshape(b, h * w, 3, self.heads, c // self.heads)
        q, k, v = roles.permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v)
        y = y.transpose(1, 2).reshape(b, h, w, c).permute(0, 3, 1, 2)
        return self.project(y).add_(x, alpha=self.keep)


class _Block(nn.Module):
    """Residual block with its constants folded."""

    def __init__(self, block: MPBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder, self.resample, self.clip = block.encoder, block.resample, block.clip
        keep, share = sum_factors(block.balance)
        projects = isinstance(block.project, MPConv)
        # In the decoder the projection ends in the sum, so its factor folds as well.
        self.keep = 1.0 if projects and not block.encoder else keep
        self.project = (
            _Conv(block.project, 1.0 if block.encoder else keep, dtype) if projects else nn.Identity()
        )
        self.residual_in = _Conv(block.residual_in, 1 / SILU, dtype)
        self.residual_out = _Conv(block.residual_out, share / SILU, dtype)
        attends = isinstance(block.attention, MPAttention)
        self.attention = _Attention(block.attention, dtype) if attends else nn.Identity()

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
        return y.clamp_(-self.clip, self.clip) if y.dtype == torch.float16 else y


def _cat(a: Tensor, b: Tensor) -> Tensor:
    """Joins channels at equal weight, each written to its place while it is scaled (equation 103 of EDM2)."""
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

    @torch.no_grad()
    def __init__(self, network: MPUNet, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.dtype = dtype or network.input.weight.dtype
        self.patch, self.size_divisor = network.patch, network.size_divisor
        self.fourier = network.fourier
        self.register_buffer("embed", network.embed.unit_weight())
        blocks = [*network.encoder, *network.bottleneck, *network.decoder]
        self.register_buffer(
            "modulations",
            torch.cat([block.modulate.unit_weight(block.embedding_gain) for block in blocks]),
        )
        self.sizes = [block.modulate.weight.shape[0] for block in blocks]
        self.register_buffer("ones", torch.ones(sum(self.sizes), device=self.embed.device))
        self.input = _Conv(network.input, 1.0, self.dtype)
        self.output = _Conv(network.output, network.output_gain, self.dtype)
        self.encoder, self.bottleneck, self.decoder = (
            nn.ModuleList(_Block(block, self.dtype) for block in part)
            for part in (network.encoder, network.bottleneck, network.decoder)
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
