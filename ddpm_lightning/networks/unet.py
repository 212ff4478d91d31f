"""The U-Net of CSBDeep, shared by CARE, Noise2Void and N2V2.

With depth D, F filters in the first level and levels n = 0 (finest) to D - 1:

    down n    conv F 2^n, conv F 2^n, keep the skip, pool by 2
    middle    conv F 2^D, conv F 2^(D - 1)
    up n      nearest upsampling by 2, join [up, skip n], conv F 2^n, conv F 2^max(0, n - 1)
    head      1 x 1 conv to the output, plus the input if residual

Every conv is followed by batch normalisation (if on) and a ReLU. The three published settings:

    method        kernel  batch_norm  residual  top_skip  blur_pool  parameters (1 -> 1 channel)
    CARE          5       no          yes       yes       no         922 977
    Noise2Void    3       yes         no        yes       no         333 729
    N2V2          3       yes         no        no        yes        324 513

The original Noise2Void code gives the first conv of each up level F filters (287 553 parameters); here it has
the F 2^n of CSBDeep, as in later implementations.

References:
    Content-aware image restoration (Weigert et al., 2018), https://doi.org/10.1038/s41592-018-0216-7
    Noise2Void (Krull, Buchholz, Jug, 2019), https://arxiv.org/abs/1811.10980
    N2V2 (Höck et al., 2022), https://arxiv.org/abs/2211.08512
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_lightning.utils.settings import Count

SCALE_FLOOR = 1e-3
#: Each level halves the image: more levels than this see nothing of any image.
MOST_LEVELS = 16


def glorot_uniform_(module: nn.Module) -> None:
    """Gives every convolution in `module` Keras' start: Glorot uniform weights and zero biases.

    Args:
        module: Network that is changed in place.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def reflect_to_multiple(x: Tensor, size_divisor: int) -> Tensor:
    """Extends the bottom and right by reflection until both sides are divisible by `multiple`.

    The edge pixel is not repeated, and the reflection goes back and forth where the image is smaller than
    what is missing, so that every size can be padded.

    Args:
        x: Images with shape (B, C, H, W).
        size_divisor: What the sides shall be divisible by.

    Returns:
        Images with shape (B, C, H + p, W + q), 0 <= p, q < multiple.
    """
    for dim in (-2, -1):
        side = x.shape[dim]
        missing = -side % size_divisor
        if missing:
            period = max(2 * (side - 1), 1)
            index = torch.arange(side + missing, device=x.device) % period
            x = x.index_select(dim, torch.minimum(index, period - index))
    return x


class MaxBlurPool(nn.Module):
    """Halves the sides with less aliasing than max-pooling.

    A max-pool of side 2 with stride 1 is followed by the binomial filter [1, 2, 1]² / 16 with stride 2.
    Borders are replicated, so that a constant image stays constant.

    References:
        Making convolutional networks shift-invariant again (Zhang, 2019), https://arxiv.org/abs/1904.11486
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = [1 / 16, 2 / 16, 1 / 16]
        kernel = torch.tensor([row, [2 * weight for weight in row], row])
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pools x with shape (B, C, H, W), H and W even, to shape (B, C, H / 2, W / 2)."""
        channels = x.shape[1]
        x = F.max_pool2d(x, kernel_size=2, stride=1)
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(x, self.kernel.expand(channels, 1, 3, 3), stride=2, groups=channels)


def conv_layers(widths: list[int], kernel_size: int, norm_momentum: float | None) -> nn.Sequential:
    """Chains convolution, batch normalisation (if on) and ReLU from each width to the next.

    Args:
        widths: Channels before the first, between, and after the last convolution.
        kernel_size: Side of the kernels, odd.
        norm_momentum: Momentum of the batch normalisation, ``None`` for no normalisation.
    """
    layers: list[nn.Module] = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        layers.append(nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2))
        if norm_momentum is not None:
            layers.append(nn.BatchNorm2d(after, eps=1e-3, momentum=norm_momentum))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Maps an image of any size to an image of that size, or to a mean and a scale for each pixel.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output (of the mean, if probabilistic).
        depth: Number of poolings.
        first_filters: Filters of the finest level; they double with each pooling.
        kernel_size: Side of the convolution kernels, odd.
        batch_norm: Whether each convolution is batch-normalised.
        batch_norm_momentum: Share of the newest batch in the running statistics; 0.01 is Keras' 0.99.
            Those forget their start in some 500 steps, so shorter trainings want a larger share.
        residual: Whether the input is added to the output; needs as many channels out as in.
        top_skip: Whether the finest level has a skip connection.
        blur_pool: Whether to pool with :class:`MaxBlurPool` instead of max-pooling.
        probabilistic: Whether to put out mean and scale, stacked along the channels. The scale of the Laplace
            distribution is softplus + 1e-3; the residual goes to the mean only.

    Attributes:
        size_divisor: 1, because the network pads its input itself.
    """

    size_divisor = 1

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        depth: Count = 2,
        first_filters: Count = 32,
        kernel_size: Count = 5,
        batch_norm: bool = False,
        batch_norm_momentum: float = 0.01,
        residual: bool = True,
        top_skip: bool = True,
        blur_pool: bool = False,
        probabilistic: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= depth <= MOST_LEVELS or first_filters < 1:
            raise ValueError(
                f"depth must be 1 to {MOST_LEVELS} and first_filters at least 1, not {depth} and {first_filters}"
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, not {kernel_size}")
        if residual and in_channels != out_channels:
            raise ValueError(
                f"residual adds the input to the output, but in_channels is {in_channels} and out_channels "
                f"is {out_channels}; set residual to false"
            )
        self.residual = residual
        self.top_skip = top_skip
        self.stride = 2**depth
        width = [first_filters * 2**n for n in range(depth + 1)]
        momentum = batch_norm_momentum if batch_norm else None

        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        channels = in_channels
        for n in range(depth):
            self.downs.append(conv_layers([channels, width[n], width[n]], kernel_size, momentum))
            joined = 2 * width[n] if n > 0 or top_skip else width[n]
            self.ups.append(conv_layers([joined, width[n], width[max(0, n - 1)]], kernel_size, momentum))
            channels = width[n]
        self.middle = conv_layers([channels, width[depth], width[depth - 1]], kernel_size, momentum)
        self.pool = MaxBlurPool() if blur_pool else nn.MaxPool2d(2)
        self.head = nn.Conv2d(first_filters, out_channels, 1)
        self.scale_head = nn.Conv2d(first_filters, out_channels, 1) if probabilistic else None
        glorot_uniform_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Restores images.

        Args:
            x: Images with shape (B, in_channels, H, W), any H and W.

        Returns:
            Images with shape (B, out_channels, H, W); if probabilistic, (B, 2 out_channels, H, W), the means
            first, then the scales.
        """
        height, width = x.shape[-2:]
        features = reflect_to_multiple(x, self.stride)
        skips = []
        for down in self.downs:
            features = down(features)
            skips.append(features)
            features = self.pool(features)
        features = self.middle(features)
        for n in reversed(range(len(self.ups))):
            features = F.interpolate(features, scale_factor=2.0, mode="nearest")
            if n > 0 or self.top_skip:
                features = torch.cat([features, skips[n]], dim=1)
            features = self.ups[n](features)
        features = features[..., :height, :width]

        mean = self.head(features)
        if self.residual:
            mean = mean + x
        if self.scale_head is None:
            return mean
        scale = F.softplus(self.scale_head(features)) + SCALE_FLOOR
        return torch.cat([mean, scale], dim=1)
