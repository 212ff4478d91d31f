"""A light SwinIR: transformer layers that attend within windows, for images on [0, 1].

    layer    normalise, attention within windows of 8 x 8 pixels (every other layer has them shifted by half a window),
             add; normalise, two linear maps with a GELU, add
    group    layers, then a 3 x 3 conv, plus the input of the group
    network  3 x 3 conv, groups, normalise, 3 x 3 conv, plus the features of the first conv; 3 x 3 conv, plus the image

Attention has a learnt bias for each head and relative position. Written from the paper; with the settings of its
lightweight version (60 channels, four groups of six layers, six heads) it has 0.9 M parameters. Not in the paper: with
``patch=2``, each token is a block of 2 x 2 pixels, at a quarter of the cost.

References:
    SwinIR: image restoration using Swin transformer (Liang et al., 2021), https://arxiv.org/abs/2108.10257
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SwinIR"]


class _WindowAttention(nn.Module):
    """Attention within windows of pixels.

    Args:
        channels: Number of channels.
        heads: Number of heads.
        window: Side of the windows in pixels.
        shift: Pixels by which the windows are shifted.
    """

    relative: Tensor

    def __init__(self, channels: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.into, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.bias = nn.Parameter(0.02 * torch.randn(heads, (2 * window - 1) ** 2))
        place = torch.stack(
            torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        ).flatten(1)
        apart = place[:, :, None] - place[:, None] + window - 1
        self.register_buffer("relative", apart[0] * (2 * window - 1) + apart[1], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps features (B, H, W, C) to features; H and W are divisible by the window."""
        _, height, width, channels = x.shape
        x = x.roll((-self.shift, -self.shift), (1, 2))
        tokens = self._windows(x)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.into(tokens).chunk(3, -1)
        )
        mask = self.bias[:, self.relative][None].to(query.dtype)
        if self.shift:
            mask = mask + self._apart(x).to(query.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = self.out(mixed.transpose(1, 2).flatten(2))
        rows, columns = height // self.window, width // self.window
        mixed = mixed.view(-1, rows, columns, self.window, self.window, channels).transpose(2, 3)
        return mixed.reshape(-1, height, width, channels).roll((self.shift, self.shift), (1, 2))

    def _windows(self, x: Tensor) -> Tensor:
        """Cuts images (B, H, W, C) into windows (B * count, window², C)."""
        batch, height, width, channels = x.shape
        x = x.view(batch, height // self.window, self.window, width // self.window, self.window, channels)
        return x.transpose(2, 3).reshape(-1, self.window**2, channels)

    def _apart(self, x: Tensor) -> Tensor:
        """Returns minus infinity for pixels that share a window only because the image wraps around, else 0.

        The shape is (B * count, 1, window², window²).
        """
        region = x.new_zeros(1, x.shape[1], x.shape[2], 1)
        region[:, -self.shift :] += 1
        region[:, :, -self.shift :] += 2
        labels = self._windows(region).squeeze(-1)
        apart = x.new_zeros(len(labels), self.window**2, self.window**2)
        apart.masked_fill_(labels[:, None] != labels[:, :, None], -torch.inf)
        return apart[:, None].repeat(len(x), 1, 1, 1)


class _Layer(nn.Module):
    def __init__(self, channels: int, heads: int, window: int, shift: int, expansion: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.LayerNorm(channels), _WindowAttention(channels, heads, window, shift)
        )
        self.pointwise = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, expansion * channels),
            nn.GELU(),
            nn.Linear(expansion * channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.pointwise(x)


class _Group(nn.Module):
    def __init__(self, layers: nn.Module, channels: int) -> None:
        super().__init__()
        self.layers, self.conv = layers, nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x).permute(0, 3, 1, 2)
        return x + self.conv(y).permute(0, 2, 3, 1)


class SwinIR(nn.Module):
    """The network.

    Args:
        channels: Number of channels, divisible by the number of heads.
        groups: Number of groups of layers.
        layers: Layers of a group.
        heads: Attention heads of a layer.
        window: Side of the windows in tokens.
        expansion: Ratio of the hidden features of the linear maps to the channels.
        patch: Side of the blocks of pixels that are a token.
    """

    def __init__(
        self,
        channels: int = 60,
        groups: int = 4,
        layers: int = 6,
        heads: int = 6,
        window: int = 8,
        expansion: int = 2,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.size_divisor = patch * window
        self.first = nn.Sequential(nn.PixelUnshuffle(patch), nn.Conv2d(patch**2, channels, 3, padding=1))
        self.last = nn.Sequential(nn.Conv2d(channels, patch**2, 3, padding=1), nn.PixelShuffle(patch))
        self.groups = nn.Sequential(
            *(
                _Group(
                    nn.Sequential(
                        *(
                            _Layer(channels, heads, window, window // 2 * (number % 2), expansion)
                            for number in range(layers)
                        )
                    ),
                    channels,
                )
                for _ in range(groups)
            )
        )
        self.norm, self.conv = nn.LayerNorm(channels), nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Restores images with shape (B, 1, H, W), both sides divisible by ``size_divisor``."""
        x = self.first(image)
        y = self.norm(self.groups(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return image + self.last(x + self.conv(y))
