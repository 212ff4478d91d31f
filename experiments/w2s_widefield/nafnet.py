"""NAFNet: a U-Net of blocks without activation functions, for images on [0, 1].

    block    normalise, 1 x 1 conv to 2C, 3 x 3 depthwise conv, gate, channel attention, 1 x 1 conv, scale, add;
             normalise, 1 x 1 conv to 2C, gate, 1 x 1 conv, scale, add
    gate     product of the two halves of the channels
    level    blocks, then a 2 x 2 conv with stride 2 to twice the channels; upwards, a 1 x 1 conv and a pixel shuffle,
             plus the skip of that level

The last conv predicts the difference from the input. Written from the paper; NAFNet-32 has 17.1 M parameters.

References:
    Simple baselines for image restoration (Chen et al., ECCV 2022), https://arxiv.org/abs/2204.04676
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["NAFNet"]


class _ChannelNorm(nn.Module):
    """Normalises the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + 1e-6) * self.scale + self.shift


class _Gate(nn.Module):
    """Multiplies the two halves of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        return first * second


class _ChannelAttention(nn.Module):
    """Weights the channels by a linear function of their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mix(x.mean((2, 3), keepdim=True))


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Sequential(
            _ChannelNorm(channels),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels),
            _Gate(),
            _ChannelAttention(channels),
            nn.Conv2d(channels, channels, 1),
        )
        self.pointwise = nn.Sequential(
            _ChannelNorm(channels),
            nn.Conv2d(channels, 2 * channels, 1),
            _Gate(),
            nn.Conv2d(channels, channels, 1),
        )
        # A new block changes nothing.
        self.spatial_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.pointwise_scale = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.spatial_scale * self.spatial(x)
        return x + self.pointwise_scale * self.pointwise(x)


class NAFNet(nn.Module):
    """The network.

    Args:
        width: Channels of the finest level.
        encoder: Blocks of each level on the way down, finest first.
        middle: Blocks of the coarsest level.
        decoder: Blocks of each level on the way up, coarsest first.
    """

    def __init__(
        self,
        width: int = 32,
        encoder: Sequence[int] = (1, 1, 1, 28),
        middle: int = 1,
        decoder: Sequence[int] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        if len(encoder) != len(decoder):
            raise ValueError(
                f"encoder has {len(encoder)} levels, decoder {len(decoder)}; they must have equally many"
            )
        self.size_divisor = 2 ** len(encoder)
        self.first, self.last = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 1, 3, padding=1)
        self.encoder, self.down, self.decoder, self.up = (nn.ModuleList() for _ in range(4))
        for blocks in encoder:
            self.encoder.append(_blocks(width, blocks))
            self.down.append(nn.Conv2d(width, 2 * width, 2, stride=2))
            width *= 2
        self.middle = _blocks(width, middle)
        for blocks in decoder:
            self.up.append(nn.Sequential(nn.Conv2d(width, 2 * width, 1, bias=False), nn.PixelShuffle(2)))
            width //= 2
            self.decoder.append(_blocks(width, blocks))

    def forward(self, image: Tensor) -> Tensor:
        """Restores images with shape (B, 1, H, W), both sides divisible by ``size_divisor``."""
        x, skips = self.first(image), []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            skips.append(blocks(x))
            x = down(skips[-1])
        x = self.middle(x)
        for blocks, up in zip(self.decoder, self.up, strict=True):
            x = blocks(up(x) + skips.pop())
        return image + self.last(x)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(channels) for _ in range(count)))
