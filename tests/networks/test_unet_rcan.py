"""UNet-RCAN: published parameter counts, its blocks against scipy, and its wiring."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import nn

from ddpm_lightning.networks.unet_rcan import ChannelAttentionBlock, ConvBlock, ResidualGroup, UNetRCAN

SMALL = {"filters": (4, 6), "rcan_filters": 6, "groups": 2, "blocks": 2, "attention_channels": 2}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def correlate(layer: nn.Conv2d, image: np.ndarray) -> np.ndarray:
    """The convolution layer applied to an image with shape (C, H, W), by scipy."""
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    return np.stack(
        [
            sum(
                correlate2d(channel, kernel, mode="same")
                for channel, kernel in zip(image, kernels, strict=True)
            )
            for kernels in weight
        ]
    ) + bias.reshape(-1, 1, 1)


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.3 * x)


def with_random_biases(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module.double()


@pytest.mark.parametrize(
    ("kernel_size", "unet", "rcan", "total"),
    [(3, 14_748_880, 1_935_457, 16_684_337), (7, 77_174_480, 10_460_257, 87_634_737)],
)
def test_parameter_counts(kernel_size, unet, rcan, total):
    with torch.device("meta"):
        network = UNetRCAN(kernel_size=kernel_size)
    assert (count(network.unet), count(network.rcan), count(network)) == (unet, rcan, total)
    assert network.size_divisor == 8


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_conv_block_agrees_with_scipy(kernel_size):
    torch.manual_seed(0)
    block = with_random_biases(ConvBlock(2, 3, kernel_size))
    image = np.random.default_rng(0).normal(size=(2, 9, 7))
    expected = leaky(
        correlate(block.second, leaky(correlate(block.first, image))) + correlate(block.project, image)
    )
    np.testing.assert_allclose(block(torch.from_numpy(image)[None])[0].detach().numpy(), expected, rtol=1e-9)


def test_channel_attention_agrees_with_scipy():
    torch.manual_seed(0)
    block = with_random_biases(ChannelAttentionBlock(5, 3, attention_channels=2))
    image = np.random.default_rng(0).normal(size=(5, 9, 7))
    update = correlate(block.second, leaky(correlate(block.first, image)))
    squeezed = leaky(correlate(block.squeeze, update.mean(axis=(1, 2), keepdims=True)))
    weight = 1 / (1 + np.exp(-correlate(block.expand, squeezed)))
    restored = block(torch.from_numpy(image)[None])[0].detach().numpy()
    np.testing.assert_allclose(restored, image + weight * update, rtol=1e-9)


def test_residuals_of_the_second_stage():
    """A group without its last convolution is the identity, the stage without its groups is linear."""
    torch.manual_seed(0)
    group = ResidualGroup(4, 3, blocks=2, attention_channels=2)
    nn.init.zeros_(group.conv.weight)
    nn.init.zeros_(group.conv.bias)
    image = torch.randn(1, 4, 8, 8)
    assert torch.equal(group(image), image)

    stage = UNetRCAN(**SMALL).rcan.eval()
    nn.init.zeros_(stage.groups[-1].weight)
    image = torch.randn(1, 2, 8, 8)
    torch.testing.assert_close(stage(image), stage.head(stage.lift(image)))


def test_second_stage_sees_the_first_and_the_raw_image():
    torch.manual_seed(0)
    network = UNetRCAN(**SMALL).eval()
    image = torch.randn(2, 1, 16, 12)
    coarse, fine = network(image)
    assert coarse.shape == fine.shape == image.shape
    torch.testing.assert_close(coarse, network.unet(image))
    torch.testing.assert_close(fine, network.rcan(torch.cat([coarse, image], dim=1)))
    nn.init.zeros_(network.rcan.head.weight)
    assert not network(image)[1].any(), "no skip leads from the image to the output"


def test_every_skip_carries_the_image():
    """With the bridge silenced and all skips but one, the output still depends on the image."""
    for kept in range(2):
        torch.manual_seed(0)
        stage = UNetRCAN(**SMALL).unet.eval()
        with torch.no_grad():
            for parameter in stage.bridge.parameters():
                parameter.zero_()
            for n, attention in enumerate(stage.attentions):
                if n != kept:
                    attention.register_forward_hook(lambda _block, _inputs, output: torch.zeros_like(output))
            assert stage(torch.rand(1, 1, 16, 16)).std() > 1e-4


def test_dropout_is_where_the_paper_has_it():
    network = UNetRCAN(**SMALL)
    rates = [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)]
    assert rates == [0.2] * (2 + 2 + 2)
    image = torch.rand(1, 1, 16, 16)
    assert not torch.equal(network(image)[0], network(image)[0])
    network.eval()
    assert torch.equal(network(image)[1], network(image)[1])


def test_glorot_start():
    network = UNetRCAN(**SMALL)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            outputs, inputs, height, width = layer.weight.shape
            bound = math.sqrt(6 / ((inputs + outputs) * height * width))
            assert layer.weight.abs().max() <= bound
            assert layer.weight.numel() < 16 or layer.weight.abs().max() > 0.6 * bound
            assert not layer.bias.any()


def test_every_parameter_has_a_finite_gradient():
    torch.manual_seed(0)
    network = UNetRCAN(**SMALL)
    network(torch.rand(2, 1, 16, 16))[1].sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_sizes_that_do_not_fit():
    network = UNetRCAN(**SMALL)
    assert network.size_divisor == 4
    with pytest.raises(ValueError, match="16 x 18 pixels.*divisible by 4"):
        network(torch.rand(1, 1, 16, 18))
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        UNetRCAN(kernel_size=2)
    with pytest.raises(ValueError, match="filters"):
        UNetRCAN(filters=())
