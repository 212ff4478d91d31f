"""The magnitude-preserving U-Net against a plain evaluation, in numpy and float64, of the equations of EDM2.

Equation numbers are those of appendix B of arXiv 2312.02696; the order of the layers is that of its figure 21.
"""

import math
from itertools import count

import numpy as np
import pytest
import torch

from ddpm_lightning.networks.mp_unet import MPUNet

EPSILON, BALANCE = 1e-4, 0.3


def normalised(x, axes):
    """Equation 30 for activations, 47 for weights: divided by the root mean square."""
    return x / (np.sqrt(np.mean(x**2, axis=axes, keepdims=True)) + EPSILON)


def convolved(x, weight):
    """Equation 47, zero padding, no bias; the unit mean square of the weight is scaled to unit length (66)."""
    weight = normalised(weight, tuple(range(1, weight.ndim))) / math.sqrt(weight[0].size)
    if weight.ndim == 2:
        return x @ weight.T
    side = weight.shape[-1]
    padded = np.pad(x, ((0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
    return np.einsum("bihwyx,oiyx->bohw", windows, weight, optimize=True)


def silu(x):
    """Equation 81."""
    return x / (1 + np.exp(-x)) / 0.596


def blended(a, b):
    """Equation 88."""
    return ((1 - BALANCE) * a + BALANCE * b) / math.sqrt((1 - BALANCE) ** 2 + BALANCE**2)


def joined(a, b):
    """Equation 103 at equal weights."""
    scale = math.sqrt((a.shape[1] + b.shape[1]) / 2)
    return np.concatenate([a / math.sqrt(a.shape[1]) * scale, b / math.sqrt(b.shape[1]) * scale], axis=1)


def attended(x, qkv, project, features):
    """Cosine attention; the channels of the projection are ordered by head, feature, and role."""
    batch, channels, height, width = x.shape
    roles = convolved(x, qkv).reshape(batch, channels // features, features, 3, height * width)
    q, k, v = np.moveaxis(normalised(roles, 2), 3, 0)
    logits = np.einsum("bhfq,bhfk->bhqk", q, k) / math.sqrt(features)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    y = np.einsum("bhqk,bhfk->bhfq", weights, v).reshape(x.shape)
    return blended(x, convolved(y, project))


def block(x, embedding, parameters, prefix, encoder, features):
    """One block of figure 21, without dropout."""

    def weight(name):
        return parameters.get(f"{prefix}.{name}")

    def projected(x):
        return x if weight("project.weight") is None else convolved(x, weight("project.weight"))

    if encoder:
        x = normalised(projected(x), 1)
    modulation = convolved(embedding, weight("modulate.weight")) * weight("embedding_gain") + 1
    y = convolved(silu(x), weight("residual_in.weight"))
    y = convolved(silu(y * modulation[:, :, None, None]), weight("residual_out.weight"))
    y = blended(x if encoder else projected(x), y)
    if weight("attention.qkv.weight") is None:
        return y
    return attended(y, weight("attention.qkv.weight"), weight("attention.project.weight"), features)


def halved(x):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).mean((3, 5))


def network_output(parameters, x, label, levels, blocks, features):
    """The whole network; ``parameters`` are float64 arrays under the names of :class:`MPUNet`."""
    fourier = np.sqrt(2) * np.cos(
        label[:, None] * parameters["fourier.frequencies"] + parameters["fourier.phases"]
    )
    embedding = silu(convolved(fourier, parameters["embed.weight"]))
    encoder, decoder = count(), count()
    x = convolved(np.concatenate([x, np.ones_like(x[:, :1])], axis=1), parameters["input.weight"])
    skips = [x]
    for level in range(levels):
        for k in range(blocks + (level > 0)):
            x = halved(x) if level and k == 0 else x
            x = block(x, embedding, parameters, f"encoder.{next(encoder)}", True, features)
            skips.append(x)
    for k in range(2):
        x = block(x, embedding, parameters, f"bottleneck.{k}", False, features)
    for level in reversed(range(levels)):
        if level < levels - 1:
            x = x.repeat(2, axis=2).repeat(2, axis=3)
            x = block(x, embedding, parameters, f"decoder.{next(decoder)}", False, features)
        for _ in range(blocks + 1):
            x = joined(x, skips.pop())
            x = block(x, embedding, parameters, f"decoder.{next(decoder)}", False, features)
    return convolved(x, parameters["output.weight"]) * parameters["output_gain"]


@pytest.mark.parametrize("attention", [[], [0, 1]])
def test_the_network_is_that_of_the_equations(attention):
    torch.manual_seed(0)
    network = MPUNet(
        base=8, multipliers=(1, 2, 4), blocks=2, channels_per_head=8, attention_levels=attention
    ).eval()
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            # Gains are opened, and weights need not have the length that training forces on them.
            parameter.copy_(torch.tensor(0.3 + 0.02 * number) if parameter.ndim == 0 else parameter * 0.7)
        x, label = torch.randn(2, 2, 12, 16), torch.tensor([-0.4, 0.9])
        found = network(x, label).double().numpy()
    parameters = {name: value.double().numpy() for name, value in network.state_dict().items()}
    expected = network_output(parameters, x.double().numpy(), label.double().numpy(), 3, 2, 8)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
