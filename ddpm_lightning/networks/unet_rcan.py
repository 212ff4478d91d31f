"""UNet-RCAN: a U-Net, and a residual channel-attention network that corrects it at full resolution.

    y1 = UNetStage(x)                a coarse restoration
    y2 = RCANStage([y1, x])          the prediction; it sees the raw image again

Both are trained against the same target (deep supervision). There is no normalisation layer, leaky ReLUs have
Keras' slope 0.3, and convolutions start Glorot uniform. Parameters:

    kernel                      U-Net        RCAN         total
    3 (original)           14 748 880   1 935 457    16 684 337
    7 (authors' notebook)  77 174 480  10 460 257    87 634 737

References:
    Deep learning enables fast, gentle STED microscopy (Ebrahimi et al., 2023),
    https://doi.org/10.1038/s42003-023-05054-z
    Image super-resolution using very deep residual channel attention networks (Zhang et al., 2018),
    https://arxiv.org/abs/1807.02758
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_lightning.networks.unet import MOST_LEVELS, glorot_uniform_
from ddpm_lightning.utils.settings import BelowOne, Count

LEAKY_SLOPE = 0.3


def same_conv(before: int, after: int, kernel_size: int) -> nn.Conv2d:
    """Convolution that keeps the size of its input."""
    return nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2)


class ConvBlock(nn.Module):
    """Two convolutions beside a 1 x 1 projection: lrelu(conv(lrelu(conv(x))) + project(x)).

    Args:
        in_channels: Channels of the input.
        filters: Channels of the output.
        kernel_size: Side of the kernels, odd.
    """

    def __init__(self, in_channels: int, filters: int, kernel_size: int) -> None:
        super().__init__()
        self.first = same_conv(in_channels, filters, kernel_size)
        self.second = same_conv(filters, filters, kernel_size)
        self.project = nn.Conv2d(in_channels, filters, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps shape (B, in_channels, H, W) to (B, filters, H, W)."""
        hidden = F.leaky_relu(self.first(x), LEAKY_SLOPE)
        return F.leaky_relu(self.second(hidden) + self.project(x), LEAKY_SLOPE)


class ChannelAttentionBlock(nn.Module):
    """Adds an update u whose channels are weighed by what their global means say.

    x + u · sigmoid(expand(lrelu(squeeze(mean u)))) with u = conv(lrelu(conv(x))).

    Args:
        filters: Channels of input and output.
        kernel_size: Side of the kernels, odd.
        attention_channels: Channels of the bottleneck between squeeze and expand.
    """

    def __init__(self, filters: int, kernel_size: int, attention_channels: int = 4) -> None:
        super().__init__()
        self.first = same_conv(filters, filters, kernel_size)
        self.second = same_conv(filters, filters, kernel_size)
        self.squeeze = nn.Conv2d(filters, attention_channels, 1)
        self.expand = nn.Conv2d(attention_channels, filters, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps shape (B, filters, H, W) to the same shape."""
        update = self.second(F.leaky_relu(self.first(x), LEAKY_SLOPE))
        pooled = update.mean(dim=(-2, -1), keepdim=True)
        weight = torch.sigmoid(self.expand(F.leaky_relu(self.squeeze(pooled), LEAKY_SLOPE)))
        return x + update * weight


class UNetStage(nn.Module):
    """First stage: a U-Net whose skips pass through channel attention. Its last activation is a leaky ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        filters: Filters of the levels, finest first; the bridge has twice the last.
        kernel_size: Side of the kernels, odd.
        attention_channels: Bottleneck of the channel attention.
        dropout: Probability that an activation is dropped after each level.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: Sequence[int],
        kernel_size: int,
        attention_channels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        self.attentions = nn.ModuleList()
        bridge = 2 * filters[-1]
        for before, width, below in zip(
            [in_channels, *filters[:-1]], filters, [*filters[1:], bridge], strict=True
        ):
            self.downs.append(nn.Sequential(ConvBlock(before, width, kernel_size), nn.Dropout(dropout)))
            self.ups.append(nn.Sequential(ConvBlock(below + width, width, kernel_size), nn.Dropout(dropout)))
            self.attentions.append(ChannelAttentionBlock(width, kernel_size, attention_channels))
        self.bridge = nn.Sequential(
            ConvBlock(filters[-1], bridge, kernel_size), ConvBlock(bridge, bridge, kernel_size)
        )
        self.head = ConvBlock(filters[0], out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps shape (B, in_channels, H, W) to (B, out_channels, H, W)."""
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bridge(x)
        for n in reversed(range(len(self.ups))):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.ups[n](torch.cat([x, self.attentions[n](skips[n])], dim=1))
        return self.head(x)


class ResidualGroup(nn.Module):
    """A chain of channel-attention blocks and a convolution, added to its input.

    Args:
        filters: Channels of input and output.
        kernel_size: Side of the kernels, odd.
        blocks: Number of channel-attention blocks.
        attention_channels: Bottleneck of the channel attention.
    """

    def __init__(self, filters: int, kernel_size: int, blocks: int, attention_channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(ChannelAttentionBlock(filters, kernel_size, attention_channels) for _ in range(blocks))
        )
        self.conv = same_conv(filters, filters, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Maps shape (B, filters, H, W) to the same shape."""
        return x + self.conv(self.blocks(x))


class RCANStage(nn.Module):
    """Second stage: residual groups inside a residual, at full resolution; linear output, no global skip.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        filters: Channels inside.
        kernel_size: Side of the kernels, odd.
        groups: Number of residual groups.
        blocks: Channel-attention blocks in a group.
        attention_channels: Bottleneck of the channel attention.
        dropout: Probability that an activation is dropped after each group.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: int,
        kernel_size: int,
        groups: int,
        blocks: int,
        attention_channels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.lift = same_conv(in_channels, filters, kernel_size)
        layers: list[nn.Module] = []
        for _ in range(groups):
            layers += [ResidualGroup(filters, kernel_size, blocks, attention_channels), nn.Dropout(dropout)]
        self.groups = nn.Sequential(*layers, same_conv(filters, filters, kernel_size))
        self.head = nn.Conv2d(filters, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps shape (B, in_channels, H, W) to (B, out_channels, H, W)."""
        lifted = self.lift(x)
        return self.head(lifted + self.groups(lifted))


class UNetRCAN(nn.Module):
    """Both stages; returns both restorations. The defaults are the authors' original settings.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        filters: Filters of the U-Net's levels, finest first.
        kernel_size: Side of the kernels, odd; 3 originally, 7 in the authors' notebook.
        rcan_filters: Channels inside the second stage.
        groups: Residual groups of the second stage.
        blocks: Channel-attention blocks in a group.
        attention_channels: Bottleneck of the channel attention (an absolute number, not a reduction).
        dropout: Dropout probability of both stages.

    Attributes:
        size_divisor: The sides of the input must be divisible by this.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        filters: Sequence[Count] = (64, 128, 256),
        kernel_size: Count = 3,
        rcan_filters: Count = 64,
        groups: Count = 3,
        blocks: Count = 8,
        attention_channels: Count = 4,
        dropout: BelowOne = 0.2,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, not {kernel_size}")
        if not 1 <= len(filters) <= MOST_LEVELS:
            raise ValueError(f"filters names {len(filters)} levels; allowed: 1 to {MOST_LEVELS}")
        self.size_divisor = 2 ** len(filters)
        self.unet = UNetStage(in_channels, out_channels, filters, kernel_size, attention_channels, dropout)
        self.rcan = RCANStage(
            out_channels + in_channels,
            out_channels,
            rcan_filters,
            kernel_size,
            groups,
            blocks,
            attention_channels,
            dropout,
        )
        glorot_uniform_(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Restores images.

        Args:
            x: Images with shape (B, in_channels, H, W), H and W divisible by :attr:`multiple`.

        Returns:
            The outputs of the U-Net and of the RCAN, each with shape (B, out_channels, H, W). The second is
            the prediction.
        """
        height, width = x.shape[-2:]
        if height % self.size_divisor or width % self.size_divisor:
            raise ValueError(
                f"an image of {height} x {width} pixels does not fit this UNet-RCAN: both sides must be "
                f"divisible by {self.size_divisor}; pad or crop it"
            )
        coarse = self.unet(x)
        return coarse, self.rcan(torch.cat([coarse, x], dim=1))
