r"""Magnitude-preserving layers: no activation grows or shrinks, whatever the weights.

Every layer is built so that inputs of unit variance give outputs of unit variance. The constants that see to this are
multiplied into weights where a weight is near, instead of into activations, which are larger.

Weights enter the forward pass normalised, so their stored length does not matter to the function; yet it would set the
effective learning rate, so it is forced back after each optimiser step (:func:`force_unit_weights`), outside of
``forward``, which stays pure.

References:
    Karras et al. *Analyzing and Improving the Training Dynamics of Diffusion Models* (2024), arXiv 2312.02696. The
    equation numbers below are those of its appendix B. Written from the paper's equations.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "MPAttention",
    "MPConv",
    "MPFourier",
    "force_unit_weights",
    "mp_cat",
    "mp_silu",
    "mp_sum",
    "pixel_norm",
]

#: Added to root mean squares, of activations and of weights, before they divide.
EPSILON = 1e-4
#: Root mean square of the output of SiLU for normal input (equation 81).
SILU = 0.596


def pixel_norm(x: Tensor) -> Tensor:
    """Scales the channel vector of each pixel to unit mean square (equation 30).

    Args:
        x: Activations with shape (B, C, …).
    """
    magnitude = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32) / math.sqrt(x.shape[1])
    return x / (magnitude + EPSILON).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU over the root mean square (0.596) of its output for normal input (equation 81)."""
    return functional.silu(x) / SILU


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Blends two independent activations, b with share t, at constant magnitude (equation 88)."""
    keep, share = sum_factors(t)
    return keep * a + share * b


def sum_factors(t: float) -> tuple[float, float]:
    """Returns the factors of both terms of :func:`mp_sum`."""
    return (1 - t) / math.hypot(1 - t, t), t / math.hypot(1 - t, t)


def mp_cat(a: Tensor, b: Tensor) -> Tensor:
    """Joins channels so that both inputs contribute equally, whatever their number (equation 103, t = 1/2).

    Args:
        a: Activations with shape (B, M, H, W).
        b: Activations with shape (B, N, H, W).
    """
    m, n = a.shape[1], b.shape[1]
    scale = math.sqrt((m + n) / 2)
    return torch.cat([a * (scale / math.sqrt(m)), b * (scale / math.sqrt(n))], dim=1)


class MPFourier(nn.Module):
    """Random Fourier features of a number, of unit variance (equation 75).

    Args:
        features: Number of features.
        bandwidth: Standard deviation of the frequencies: differences of the label below 1 / bandwidth are blurred.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, features: int, bandwidth: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi * bandwidth * torch.randn(features))
        self.register_buffer("phases", 2 * math.pi * torch.rand(features))

    def forward(self, label: Tensor) -> Tensor:
        """Maps labels (B,) to features (B, F), float32."""
        return math.sqrt(2) * torch.cos(torch.outer(label.float(), self.frequencies) + self.phases)


class MPConv(nn.Module):
    """Convolution, or linear layer with ``kernel=0``, with normalised weights and no bias (equations 47 and 66).

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        kernel: Odd side of the kernel; 0 makes a linear layer on (B, C).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 0) -> None:
        super().__init__()
        self.padding = kernel // 2
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *([kernel] * 2 if kernel else [])))
        self.normalise_()

    def unit_weight(self, gain: Tensor | float = 1.0) -> Tensor:
        """Returns the weight that acts: a vector of unit length, times the gain, for each output channel.

        The gradient passes through the division, so that it has no part along the weight.
        """
        length = torch.linalg.vector_norm(self.weight, dim=tuple(range(1, self.weight.ndim)), keepdim=True)
        return self.weight * (gain / (length + EPSILON * math.sqrt(self.weight[0].numel())))

    @torch.no_grad()
    def normalise_(self) -> None:
        """Forces the stored weight back to unit mean square."""
        self.weight.copy_(self.unit_weight() * math.sqrt(self.weight[0].numel()))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """Maps (B, C_in, H, W), or (B, C_in), to C_out channels, scaled by the gain."""
        weight = self.unit_weight(gain).to(x.dtype)
        if weight.ndim == 2:
            return functional.linear(x, weight)
        return functional.conv2d(x, weight, padding=self.padding)


class MPAttention(nn.Module):
    """Self-attention over pixels with normalised queries, keys and values (cosine attention).

    Args:
        channels: Number of channels.
        heads: Number of heads; they divide the channels.
        balance: Share of the attention in the sum with its input.
    """

    def __init__(self, channels: int, heads: int, balance: float = 0.3) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be divided among {heads} attention heads")
        self.heads, self.balance = heads, balance
        self.qkv = MPConv(channels, 3 * channels, kernel=1)
        self.project = MPConv(channels, channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        roles = rearrange(
            self.qkv(x),
            "b (heads features role) h w -> (b heads) features role (h w)",
            heads=self.heads,
            role=3,
        )
        q, k, v = rearrange(
            pixel_norm(roles),
            "(b heads) features role pixels -> role b heads pixels features",
            heads=self.heads,
        )
        y = functional.scaled_dot_product_attention(q, k, v)
        # By way of channels-last, in which the other activations are stored as well.
        y = rearrange(y, "b heads (h w) features -> b h w (heads features)", h=x.shape[-2])
        keep, share = sum_factors(self.balance)
        return torch.add(self.project(rearrange(y, "b h w c -> b c h w"), gain=share), x, alpha=keep)


def force_unit_weights(module: nn.Module) -> None:
    """Forces the weights of all layers of a module back to unit mean square; call it after each optimiser step."""
    for layer in module.modules():
        if isinstance(layer, MPConv):
            layer.normalise_()
