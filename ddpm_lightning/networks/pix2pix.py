"""The two networks of pix2pix: a U-Net generator G(x, z) and a patch discriminator D(x, y).

The noise z is nothing but the dropout of G's decoder. It can be handed to the generator, which then is a
function of the image and the noise, and a sample can be repeated whatever the batch it is computed in.

All convolutions are 4 x 4 with padding 1; without bias, but in G's last and D's first and last. With N
downsamplings and F filters, level i = 1 (outermost) to N of G has F min(2^(i - 1), 8) channels:

    down 1       conv                            up 1          ReLU, convT, tanh
    down 2..N-1  LeakyReLU 0.2, conv, norm       up 2..4, N    ReLU, convT, norm
    down N       LeakyReLU 0.2, conv             up 5..N-1     ReLU, convT, norm, dropout 0.5

Up N reads down N, every other up i reads [down i, up i + 1]. Parameters for one channel: generator for
multiples of 256 px (N = 8) 54 407 809, of 128 px (N = 7) 41 822 849; discriminator 2 764 609.

References:
    Image-to-image translation with conditional adversarial networks (Isola et al., 2017),
    https://arxiv.org/abs/1611.07004
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_lightning.networks.unet import MOST_LEVELS
from ddpm_lightning.utils.settings import BelowOne, Count

LEAKY_SLOPE = 0.2


def normal_init_(module: nn.Module, std: float = 0.02) -> None:
    """Draws convolution weights from N(0, std²) and normalisation weights from N(1, std²); biases become 0.

    Args:
        module: Network that is changed in place.
        std: Standard deviation of the weights.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, std)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, std)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def dropout(x: Tensor, probability: float, noise: Tensor) -> Tensor:
    """Dropout with given noise: zero where `noise` is below `probability`, else x / (1 - probability).

    Args:
        x: Activations with shape (B, C, H, W).
        probability: Probability that an activation is dropped, in [0, 1).
        noise: Independent uniform numbers in [0, 1) with the shape of x.

    Returns:
        Activations with the shape of x and, on average, its values.
    """
    return x * (noise >= probability) / (1 - probability)


class Pix2PixGenerator(nn.Module):
    """U-Net generator; its output lies in [-1, 1].

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        num_downs: Number of downsamplings, at least 5. With 5 no level has dropout, so there is no noise.
        filters: Filters of the outermost level.
        dropout_probability: Probability that an activation is dropped in the levels with dropout.

    Attributes:
        size_divisor: The sides of the input must be divisible by this, 2^num_downs.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        num_downs: Count = 8,
        filters: Count = 64,
        dropout_probability: BelowOne = 0.5,
    ) -> None:
        super().__init__()
        if not 5 <= num_downs <= MOST_LEVELS:
            raise ValueError(f"num_downs must be 5 to {MOST_LEVELS}, not {num_downs}")
        if not 0 <= dropout_probability < 1:
            raise ValueError(f"dropout_probability must lie in [0, 1), not {dropout_probability}")
        self.size_divisor = 2**num_downs
        self.dropout_probability = dropout_probability
        widths = [filters * min(2**i, 8) for i in range(num_downs)]
        # Counted from 0, innermost first: the order in which the decoder runs.
        self.dropout_levels = list(range(num_downs - 2, 3, -1))

        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        for i, width in enumerate(widths):
            outermost, innermost = i == 0, i == num_downs - 1
            above = in_channels if outermost else widths[i - 1]
            down: list[nn.Module] = [nn.Conv2d(above, width, 4, stride=2, padding=1, bias=False)]
            if not outermost:
                down.insert(0, nn.LeakyReLU(LEAKY_SLOPE))
                if not innermost:
                    down.append(nn.BatchNorm2d(width))
            self.downs.append(nn.Sequential(*down))

            joined = width if innermost else 2 * width
            target = out_channels if outermost else widths[i - 1]
            up = [nn.ReLU(), nn.ConvTranspose2d(joined, target, 4, stride=2, padding=1, bias=outermost)]
            up.append(nn.Tanh() if outermost else nn.BatchNorm2d(target))
            self.ups.append(nn.Sequential(*up))
        self.noise_channels = [widths[i - 1] for i in self.dropout_levels]
        normal_init_(self)

    def noise_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Shapes (C, h, w) of the noise for one image of height x width pixels, in the order of use."""
        self._check_size(height, width)
        return [
            (channels, height >> level, width >> level)
            for channels, level in zip(self.noise_channels, self.dropout_levels, strict=True)
        ]

    def forward(self, x: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Translates images.

        Args:
            x: Images with shape (B, in_channels, H, W) in [-1, 1], H and W divisible by :attr:`multiple`.
            noise: Uniform numbers in [0, 1), one tensor of shape (B, C, h, w) for each of
                :meth:`noise_shapes`; dropout follows them, in training and evaluation mode alike. Without
                them dropout is random in training mode and off in evaluation mode.

        Returns:
            Images with shape (B, out_channels, H, W) in [-1, 1].
        """
        self._check_size(*x.shape[-2:])
        if noise is not None and len(noise) != len(self.dropout_levels):
            raise ValueError(f"noise must hold {len(self.dropout_levels)} tensors, not {len(noise)}")
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        innermost = len(self.ups) - 1
        for level in range(innermost, -1, -1):
            x = self.ups[level](x if level == innermost else torch.cat([skips[level], x], dim=1))
            if level in self.dropout_levels:
                if noise is None:
                    x = F.dropout(x, self.dropout_probability, self.training)
                else:
                    x = dropout(x, self.dropout_probability, noise[self.dropout_levels.index(level)])
        return x

    def _check_size(self, height: int, width: int) -> None:
        if height % self.size_divisor or width % self.size_divisor:
            raise ValueError(
                f"an image of {height} x {width} pixels does not fit this pix2pix generator: both sides must "
                f"be divisible by {self.size_divisor} (2^num_downs); pad or crop it, or take fewer num_downs"
            )


class PatchDiscriminator(nn.Module):
    """PatchGAN: classifies each 70 x 70 px patch (with three layers) of the image as real or generated.

    Args:
        condition_channels: Channels of the condition.
        image_channels: Channels of the image that is classified.
        filters: Filters of the first layer; they double with each further one, up to eight times.
        layers: Number of convolutions with stride 2.

    Attributes:
        size_divisor: 1; any size from :attr:`min_size` on will do.
        min_size: The smallest side that leaves one logit.
    """

    size_divisor = 1

    def __init__(
        self, condition_channels: int = 1, image_channels: int = 1, *, filters: Count = 64, layers: Count = 3
    ) -> None:
        super().__init__()
        if not 1 <= layers <= MOST_LEVELS:
            raise ValueError(f"layers must be 1 to {MOST_LEVELS}, not {layers}")
        self.min_size = 3 * 2**layers
        width = filters
        modules: list[nn.Module] = [
            nn.Conv2d(condition_channels + image_channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
        ]
        for i in range(1, layers + 1):
            before, width = width, filters * min(2**i, 8)
            stride = 2 if i < layers else 1
            modules += [
                nn.Conv2d(before, width, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(LEAKY_SLOPE),
            ]
        self.model = nn.Sequential(*modules, nn.Conv2d(width, 1, 4, padding=1))
        normal_init_(self)

    def forward(self, condition: Tensor, image: Tensor) -> Tensor:
        """Classifies images.

        Args:
            condition: What the generator saw, with shape (B, condition_channels, H, W).
            image: Real or generated image with shape (B, image_channels, H, W).

        Returns:
            Logits of "real" with shape (B, 1, H / 8 - 2, W / 8 - 2) for three layers.
        """
        height, width = image.shape[-2:]
        if min(height, width) < self.min_size:
            raise ValueError(
                f"an image of {height} x {width} pixels is too small for this discriminator: both sides must "
                f"be at least {self.min_size} pixels; take larger patches or fewer layers"
            )
        return self.model(torch.cat([condition, image], dim=1))
