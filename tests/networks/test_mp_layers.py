"""Magnitude-preserving layers against their definitions."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from ddpm_lightning.networks.mp_layers import (
    MPAttention,
    MPConv,
    MPFourier,
    mp_cat,
    mp_silu,
    mp_sum,
    pixel_norm,
)


def rms(x: torch.Tensor) -> float:
    return x.square().mean().sqrt().item()


def test_silu_is_divided_by_its_rms_for_normal_input():
    def power(x):
        return (x / (1 + math.exp(-x))) ** 2 * stats.norm.pdf(x)

    expected = math.sqrt(integrate.quad(power, -30, 30)[0])
    assert expected == pytest.approx(0.596, abs=5e-4)
    x = torch.tensor([0.7, -1.3])
    torch.testing.assert_close(mp_silu(x), x * torch.sigmoid(x) / 0.596)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_sum_of_independent_inputs_keeps_magnitude(t):
    a, b = torch.randn(2, 100_000, generator=torch.Generator().manual_seed(0))
    assert rms(mp_sum(a, b, t)) == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(mp_sum(a, b, 0.0), a)


@pytest.mark.parametrize(("m", "n"), [(8, 8), (64, 8), (3, 48)])
def test_joined_channels_contribute_equally(m, n):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(1, m, 128, 128, generator=generator), torch.randn(1, n, 128, 128, generator=generator)
    joined = mp_cat(a, b)
    assert rms(joined) == pytest.approx(1, abs=0.02)
    assert joined[:, :m].square().sum().item() == pytest.approx(joined[:, m:].square().sum().item(), rel=0.05)


def test_pixel_norm_equals_numpy():
    x = torch.randn(2, 6, 3, 4) * 5
    expected = x.numpy() / np.sqrt((x.numpy() ** 2).mean(1, keepdims=True))
    np.testing.assert_allclose(pixel_norm(x), expected, rtol=1e-3)


def test_fourier_features_have_unit_variance():
    torch.manual_seed(0)
    features = MPFourier(4096)(torch.linspace(-2, 2, 9))
    assert features.square().mean(1).sub(1).abs().max() < 0.06


@pytest.mark.parametrize("kernel", [0, 1, 3])
def test_layers_keep_magnitude_whatever_their_weights(kernel):
    torch.manual_seed(0)
    layer = MPConv(32, 64, kernel)
    layer.weight.data.mul_(torch.rand(64, *[1] * (layer.weight.ndim - 1)) * 9 + 0.5)
    x = torch.randn(8, 32, 16, 16) if kernel else torch.randn(4096, 32)
    # Zero padding takes from the border; the inside shows the law.
    y = layer(x)[..., 1:-1, 1:-1] if kernel else layer(x)
    assert rms(y) == pytest.approx(1, abs=0.05)


def test_convolution_equals_torch_with_normalised_weights():
    torch.manual_seed(0)
    layer, x = MPConv(3, 5, kernel=3), torch.randn(2, 3, 7, 9)
    weight = layer.weight / layer.weight.flatten(1).norm(dim=1)[:, None, None, None]
    torch.testing.assert_close(
        layer(x, gain=0.5), 0.5 * torch.conv2d(x, weight, padding=1), rtol=1e-3, atol=1e-4
    )


def test_attention_equals_a_loop_over_heads():
    torch.manual_seed(0)
    layer, x = MPAttention(12, heads=3), torch.randn(2, 12, 4, 5)
    roles = layer.qkv(x).reshape(2, 3, 4, 3, 20)
    roles = roles / roles.square().mean(2, keepdim=True).sqrt()
    attended = torch.zeros(2, 3, 4, 20)
    for b in range(2):
        for head in range(3):
            q, k, v = roles[b, head].unbind(1)
            attended[b, head] = v @ torch.softmax(q.T @ k / math.sqrt(4), dim=1).T
    expected = mp_sum(x, layer.project(attended.reshape(2, 12, 4, 5)), 0.3)
    torch.testing.assert_close(layer(x), expected, rtol=1e-3, atol=1e-3)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="12 channels"):
        MPAttention(12, heads=5)
