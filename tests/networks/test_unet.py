"""The shared U-Net: published parameter counts, its parts against numpy and scipy, and its switches."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from ddpm_lightning.networks.unet import MaxBlurPool, UNet, reflect_to_multiple

CARE = {}
N2V = {"kernel_size": 3, "batch_norm": True, "residual": False}
N2V2 = {**N2V, "top_skip": False, "blur_pool": True}
SETTINGS = pytest.mark.parametrize("settings", [CARE, N2V, N2V2, {"probabilistic": True}])


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (CARE, 922_977),
        ({"kernel_size": 3}, 332_641),
        ({"depth": 3}, 3_790_817),
        ({"probabilistic": True}, 922_977 + 33),
        (N2V, 333_729),
        (N2V2, 324_513),
    ],
)
def test_parameter_counts(settings, expected):
    with torch.device("meta"):
        assert count(UNet(**settings)) == expected


@SETTINGS
@pytest.mark.parametrize("size", [(16, 16), (13, 18), (7, 4), (2, 1), (1, 1)])
def test_any_size(settings, size):
    network = UNet(first_filters=4, **settings).eval()
    channels = 2 if settings.get("probabilistic") else 1
    assert network.size_divisor == 1
    assert network(torch.rand(2, 1, *size)).shape == (2, channels, *size)


@SETTINGS
def test_odd_sizes_are_padded_by_reflection_and_cropped(settings):
    network = UNet(first_filters=4, **settings).eval()
    image = torch.rand(1, 1, 13, 18)
    padded = np.pad(image.numpy(), [(0, 0), (0, 0), (0, 3), (0, 2)], mode="reflect")
    expected = network(torch.from_numpy(padded))[..., :13, :18]
    torch.testing.assert_close(network(image), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 9])
def test_reflection_agrees_with_numpy(side):
    image = torch.rand(2, 1, side, 7)
    missing = -side % 8
    expected = np.pad(image.numpy(), [(0, 0), (0, 0), (0, missing), (0, 1)], mode="reflect")
    np.testing.assert_array_equal(reflect_to_multiple(image, 8).numpy(), expected)


def test_blur_pool_agrees_with_scipy():
    image = np.random.default_rng(0).random((10, 14), dtype=np.float32)
    largest = np.lib.stride_tricks.sliding_window_view(image, (2, 2)).max(axis=(2, 3))
    binomial = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = ndimage.convolve(largest, binomial, mode="nearest")[::2, ::2]
    pooled = MaxBlurPool()(torch.from_numpy(image).expand(1, 3, 10, 14))
    assert pooled.shape == (1, 3, 5, 7)
    for channel in pooled[0]:
        np.testing.assert_allclose(channel.numpy(), expected, rtol=1e-6)
    torch.testing.assert_close(MaxBlurPool()(torch.full((1, 1, 2, 4), 0.7)), torch.full((1, 1, 1, 2), 0.7))


@SETTINGS
def test_every_parameter_has_a_finite_gradient(settings):
    torch.manual_seed(0)
    network = UNet(first_filters=4, **settings)
    network(torch.rand(2, 1, 13, 18)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        if parameter.ndim == 4:
            assert parameter.grad.abs().sum() > 0, name


def test_residual_and_probabilistic_head():
    network = UNet(first_filters=4, probabilistic=True)
    image = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        for head in (network.head, network.scale_head):
            head.weight.zero_()
        network.head.bias.fill_(0.25)
        mean, scale = network(image).chunk(2, dim=1)
        torch.testing.assert_close(mean, image + 0.25)
        torch.testing.assert_close(scale, torch.full_like(scale, math.log(2) + 1e-3))
        network.scale_head.bias.fill_(-100)
        torch.testing.assert_close(network(image)[:, 1:], torch.full_like(scale, 1e-3))


@pytest.mark.parametrize("top_skip", [True, False])
def test_top_skip(top_skip):
    """With all that comes up from below silenced, only the finest skip can carry the image."""
    torch.manual_seed(0)
    network = UNet(first_filters=4, residual=False, top_skip=top_skip).eval()
    with torch.no_grad():
        for parameter in network.ups[1].parameters():
            parameter.zero_()
        spread = network(torch.rand(1, 1, 16, 16)).std()
    assert (spread > 1e-3) == top_skip


@pytest.mark.parametrize(("settings", "momentum"), [({}, 0.01), ({"batch_norm_momentum": 0.1}, 0.1)])
def test_keras_start_and_batch_norm(settings, momentum):
    torch.manual_seed(0)
    network = UNet(kernel_size=3, batch_norm=True, **settings)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 11
    for layer in convolutions:
        outputs, inputs, height, width = layer.weight.shape
        bound = math.sqrt(6 / ((inputs + outputs) * height * width))
        assert 0.5 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 10
    assert all((norm.eps, norm.momentum) == (1e-3, momentum) for norm in norms)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"depth": 0}, "depth must be 1 to 16 .* not 0 "),
        ({"depth": 17}, "depth must be 1 to 16 .* not 17 "),
        ({"first_filters": 0}, "first_filters at least 1, not .* 0$"),
        ({"in_channels": 2}, "residual adds the input"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        UNet(**settings)
