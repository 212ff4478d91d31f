r"""The magnitude-preserving U-Net of EDM2, for images of any size that its levels divide.

::

    input ─ conv ─ [block × n] ─ down ─ [block × n] … bottleneck ─ [block × n+1] ─ up ─ [block × n+1] … ─ conv ─ gain
                     └─────────────── skips, joined at equal weight ───────────────┘

Each level halves the image and multiplies the channels. An encoder block normalises each pixel, a decoder block takes
one skip. A number for each image (the noise level) modulates every block; a constant channel of ones takes the place
of biases. The last gain starts at zero: **a fresh network returns exactly 0**.

References:
    Karras et al. (2024), arXiv 2312.02696, figure 21 and appendix B (config G without its preconditioning).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_lightning.networks.mp_layers import (
    SILU,
    MPAttention,
    MPConv,
    MPFourier,
    mp_cat,
    mp_silu,
    pixel_norm,
    sum_factors,
)
from ddpm_lightning.networks.unet import MOST_LEVELS
from ddpm_lightning.utils.settings import BelowOne, Count

__all__ = ["MPBlock", "MPUNet"]


class MPBlock(nn.Module):
    """Residual block, modulated by the embedding of the label.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        embedding: Number of features of the label's embedding.
        encoder: Whether the block is in the encoder (projects first and normalises pixels) or in the decoder.
        resample: ``down``, ``up`` or ``keep``.
        heads: Number of attention heads; 0 for none.
        dropout: Probability of dropping an activation.
        balance: Share of the residual branch in the sum.
        clip: Bound on activations in float16, which reaches only to 65504.
        always_clip: Whether that bound holds in all data types.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        encoder: bool,
        resample: str = "keep",
        heads: int = 0,
        dropout: float = 0.0,
        balance: float = 0.3,
        clip: float = 256.0,
        always_clip: bool = False,
    ) -> None:
        super().__init__()
        self.always_clip = always_clip
        self.encoder, self.resample, self.dropout, self.balance, self.clip = (
            encoder,
            resample,
            dropout,
            balance,
            clip,
        )
        self.embedding_gain = nn.Parameter(torch.zeros(()))
        self.modulate = MPConv(embedding, outputs)
        self.residual_in = MPConv(outputs if encoder else inputs, outputs, kernel=3)
        self.residual_out = MPConv(outputs, outputs, kernel=3)
        self.project = MPConv(inputs, outputs, kernel=1) if inputs != outputs else nn.Identity()
        self.attention = MPAttention(outputs, heads, balance) if heads else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Maps (B, C_in, H, W) to (B, C_out, H', W'), given embeddings (B, E)."""
        if self.resample == "down":
            x = functional.avg_pool2d(x, 2)
        elif self.resample == "up":
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
        if self.encoder:
            x = pixel_norm(self.project(x))
        keep, share = sum_factors(self.balance)
        modulation = self.modulate(embedding, gain=self.embedding_gain) + 1
        y = self.residual_in(functional.silu(x), gain=1 / SILU)
        y = functional.silu(y * modulation[:, :, None, None].to(y.dtype))
        y = functional.dropout(y, self.dropout, self.training)
        y = self.residual_out(y, gain=share / SILU)
        if not self.encoder:
            x = self.project(x)
        y = self.attention(torch.add(y, x, alpha=keep))
        # Other types reach further; to clamp them would only cost a twelfth of a training step.
        return y.clamp(-self.clip, self.clip) if self.always_clip or y.dtype == torch.float16 else y


class MPUNet(nn.Module):
    """Magnitude-preserving U-Net with a number for each image as its second input.

    Args:
        in_channels: Channels of the input (2 for a state beside its condition).
        out_channels: Channels of the output.
        base: Channels of the first level.
        multipliers: Channels of each level, as multiples of ``base``.
        blocks: Residual blocks for each level of the encoder; the decoder has one more.
        attention_levels: Levels (0 is full resolution) whose blocks attend; the bottleneck is set apart.
        bottleneck_attention: Whether the first block of the bottleneck attends.
        channels_per_head: Channels of one attention head.
        dropout: Probability of dropping an activation inside of a block.
        bandwidth: Bandwidth of the Fourier features of the label.
        patch: Side of the square of pixels that is folded into channels at the input and unfolded at the output.
        always_clip: Whether activations are clipped to ±256 in all data types, as in EDM2's code, not only in float16.

    Attributes:
        size_divisor: Sides of the images must be divisible by this number.

    Raises:
        ValueError: If a level named for attention does not exist.
    """

    def __init__(
        self,
        in_channels: Count = 2,
        out_channels: Count = 1,
        base: Count = 64,
        multipliers: Sequence[Count] = (1, 2, 4, 8),
        blocks: Count = 2,
        attention_levels: Sequence[int] = (),
        bottleneck_attention: bool = True,
        channels_per_head: Count = 32,
        dropout: BelowOne = 0.2,
        bandwidth: float = 1.0,
        patch: Count = 1,
        always_clip: bool = False,
    ) -> None:
        super().__init__()
        levels = len(multipliers)
        if not 1 <= levels <= MOST_LEVELS:
            raise ValueError(f"multipliers names {levels} levels; allowed: 1 to {MOST_LEVELS}")
        if unknown := set(attention_levels) - set(range(levels)):
            raise ValueError(f"attention_levels names {sorted(unknown)}; the levels are 0 to {levels - 1}")
        self.patch = patch
        self.size_divisor = patch * 2 ** (levels - 1)
        channels = [base * m for m in multipliers]
        features = max(channels)

        def block(
            inputs: int, level: int, resample: str = "keep", attends: bool = False, **kind: bool
        ) -> MPBlock:
            outputs = channels[level] if resample == "keep" else inputs
            heads = outputs // channels_per_head if attends else 0
            return MPBlock(
                inputs,
                outputs,
                features,
                resample=resample,
                heads=heads,
                dropout=dropout,
                always_clip=always_clip,
                **kind,
            )

        self.fourier = MPFourier(channels[0], bandwidth)
        self.embed = MPConv(channels[0], features)
        self.input = MPConv(in_channels * patch**2 + 1, channels[0], kernel=3)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        width, skips = channels[0], [channels[0]]
        for level in range(levels):
            if level:
                self.encoder.append(block(width, level, "down", encoder=True))
                skips.append(width)
            for _ in range(blocks):
                self.encoder.append(block(width, level, attends=level in attention_levels, encoder=True))
                width = channels[level]
                skips.append(width)
        self.bottleneck = nn.ModuleList(
            [
                block(width, levels - 1, attends=bottleneck_attention, encoder=False),
                block(width, levels - 1, encoder=False),
            ]
        )
        for level in reversed(range(levels)):
            if level < levels - 1:
                self.decoder.append(block(width, level, "up", encoder=False))
            for _ in range(blocks + 1):
                attends = level in attention_levels
                self.decoder.append(block(width + skips.pop(), level, attends=attends, encoder=False))
                width = channels[level]
        self.output = MPConv(width, out_channels * patch**2, kernel=3)
        self.output_gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Maps images (B, C_in, H, W) and labels (B,) to images (B, C_out, H, W).

        Raises:
            ValueError: If a side is not divisible by ``size_divisor``.
        """
        height, width = x.shape[-2:]
        if height % self.size_divisor or width % self.size_divisor:
            raise ValueError(
                f"images are {height} x {width}; this network needs sides divisible by {self.size_divisor}"
            )
        embedding = mp_silu(self.embed(self.fourier(label)))
        x = functional.pixel_unshuffle(x, self.patch)
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        # All further activations are then channels-last, too, which makes training steps on CPUs faster.
        x = self.input(x.contiguous(memory_format=torch.channels_last))
        skips = [x]
        for block in self.encoder:
            x = block(x, embedding)
            skips.append(x)
        for block in self.bottleneck:
            x = block(x, embedding)
        for block in self.decoder:
            if block.resample == "keep":
                x = mp_cat(x, skips.pop())
            x = block(x, embedding)
        return functional.pixel_shuffle(self.output(x, gain=self.output_gain), self.patch)
