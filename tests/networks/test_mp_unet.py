import pytest
import torch
from torch import nn

from ddpm_lightning.networks.mp_layers import MPConv, force_unit_weights
from ddpm_lightning.networks.mp_unet import MPBlock, MPUNet

SMALL = {"base": 16, "multipliers": (1, 2), "blocks": 1, "channels_per_head": 8, "dropout": 0.0}


def open_gains(network: nn.Module, gain: float = 1.0) -> nn.Module:
    """Sets the gains, without which a fresh network returns exactly 0."""
    for name, parameter in network.named_parameters():
        if name.endswith("gain"):
            nn.init.constant_(parameter, gain)
    return network


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 64_067_869),  # attention where the released code really has it
        (
            {"attention_levels": [3], "channels_per_head": 16},
            69_310_749,
        ),  # attention at resolution 32, as the paper says
    ],
)
def test_parameter_counts_of_the_paper(settings, expected):
    with torch.device("meta"):
        network = MPUNet(**settings)
    assert sum(p.numel() for p in network.parameters()) == expected


def test_the_released_network_attends_in_one_block_with_sixteen_heads():
    with torch.device("meta"):
        network = MPUNet()
    attending = [
        b for b in network.modules() if isinstance(b, MPBlock) and not isinstance(b.attention, nn.Identity)
    ]
    assert len(attending) == 1 and attending[0] is network.bottleneck[0]
    assert attending[0].attention.heads == 16


def test_a_fresh_network_returns_exactly_zero():
    assert MPUNet(**SMALL)(torch.randn(1, 2, 8, 8), torch.zeros(1)).abs().max() == 0


def test_magnitudes_are_preserved_throughout():
    """Unit input, random weights: every block's output keeps unit mean square, the network's as well."""
    torch.manual_seed(0)
    network = open_gains(MPUNet(base=64, multipliers=(1, 2, 4), blocks=2, dropout=0.0, attention_levels=[1]))
    measured = {}
    for name, module in network.named_modules():
        if isinstance(module, MPBlock):
            module.embedding_gain.data.zero_()
            module.register_forward_hook(
                lambda m, i, output, name=name: measured.update({name: output.square().mean().sqrt().item()})
            )
    with torch.no_grad():
        output = network(torch.randn(4, 2, 32, 32), torch.rand(4))
    assert len(measured) == 21
    for name, magnitude in measured.items():
        assert 0.75 < magnitude < 1.25, f"{name}: {magnitude}"
    assert 0.75 < output.square().mean().sqrt() < 1.25


@pytest.mark.parametrize("settings", [{}, {"patch": 2}, {"attention_levels": [0, 1]}])
@pytest.mark.parametrize("size", [(8, 8), (16, 24), (4, 12)])
def test_any_size_that_the_levels_divide(settings, size):
    network = open_gains(MPUNet(**SMALL, **settings))
    assert network.size_divisor == 2 * settings.get("patch", 1)
    assert network(torch.randn(2, 2, *size), torch.zeros(2)).shape == (2, 1, *size)


def test_other_sizes_are_refused_with_the_multiple():
    with pytest.raises(ValueError, match="10 x 8.*divisible by 4"):
        MPUNet(**SMALL, patch=2)(torch.randn(1, 2, 10, 8), torch.zeros(1))


def test_batches_equal_their_images():
    torch.manual_seed(0)
    network = open_gains(MPUNet(**SMALL, attention_levels=[1])).eval()
    x, label = torch.randn(5, 2, 16, 16), torch.rand(5)
    with torch.no_grad():
        together = network(x, label)
        for k in range(5):
            torch.testing.assert_close(
                network(x[k : k + 1], label[k : k + 1])[0], together[k], rtol=1e-4, atol=1e-5
            )


def test_the_label_and_the_condition_matter():
    torch.manual_seed(0)
    network = open_gains(MPUNet(**SMALL))
    x = torch.randn(1, 2, 8, 8)
    changed = x.clone()
    changed[:, 1] += 1
    base = network(x, torch.zeros(1))
    assert (network(x, torch.ones(1)) - base).abs().mean() > 0.05
    assert (network(changed, torch.zeros(1)) - base).abs().mean() > 0.05


def test_every_parameter_gets_a_finite_gradient():
    torch.manual_seed(0)
    network = open_gains(MPUNet(**SMALL, attention_levels=[0, 1]))
    network(torch.randn(2, 2, 8, 8), torch.rand(2)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_forward_is_pure_and_forced_weights_change_nothing():
    torch.manual_seed(0)
    network = open_gains(MPUNet(**SMALL)).train()
    x, label = torch.randn(1, 2, 8, 8), torch.rand(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim:
                parameter.mul_(3.0)
    before = {name: p.clone() for name, p in network.named_parameters()}
    output = network(x, label)
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())
    force_unit_weights(network)
    # Up to the epsilon, which a weight of another length meets in another proportion, in each of 12 layers.
    torch.testing.assert_close(network(x, label), output, rtol=0, atol=2e-3 * output.abs().max().item())
    for layer in network.modules():
        if isinstance(layer, MPConv):
            assert layer.weight.flatten(1).square().mean(1).sqrt().sub(1).abs().max() < 1e-3


def test_gradients_have_no_part_along_the_weights():
    torch.manual_seed(0)
    layer = MPConv(4, 5, kernel=3)
    layer(torch.randn(2, 4, 6, 6)).square().sum().backward()
    along = (layer.weight.grad * layer.weight).flatten(1).sum(1)
    scale = layer.weight.grad.flatten(1).norm(dim=1) * layer.weight.flatten(1).norm(dim=1)
    assert (along.abs() / scale).max() < 1e-3


def test_unknown_attention_levels_are_refused():
    with pytest.raises(ValueError, match="levels are 0 to 1"):
        MPUNet(**SMALL, attention_levels=[3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_only_float16_is_clipped_unless_all_are(dtype):
    torch.manual_seed(0)
    block = MPBlock(8, 8, 16, encoder=False, clip=0.5).to(dtype)
    x, embedding = torch.randn(2, 8, 8, 8, dtype=dtype), torch.randn(2, 16, dtype=dtype)
    assert (block(x, embedding).abs().max() <= 0.5) == (dtype == torch.float16)
    block.always_clip = True
    assert block(x, embedding).abs().max() <= 0.5


def channels_last(x):
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


@pytest.mark.parametrize("attention", [[], [1]])
def test_channels_last_changes_neither_outputs_nor_gradients(attention):
    torch.manual_seed(0)
    network = open_gains(MPUNet(**SMALL, attention_levels=attention, bottleneck_attention=False)).train()
    x, label, stored = torch.randn(2, 2, 16, 24), torch.tensor([0.5, -1.0]), []
    for layer in network.modules():
        if isinstance(layer, MPConv) and layer.weight.ndim == 4:
            layer.register_forward_hook(lambda layer, inputs, output: stored.append(channels_last(output)))

    def results():
        stored.clear()
        output = network(x, label)
        return output, *torch.autograd.grad(output.square().sum(), network.parameters())

    found = results()
    # A single channel, that of the last layer, has no order.
    assert len(stored) > 20 and all(stored[:-1])
    for layer in network.modules():
        if isinstance(layer, MPConv):
            layer.register_forward_pre_hook(lambda layer, inputs: tuple(each.contiguous() for each in inputs))
    expected = results()
    assert not any(stored)
    for ours, other in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=0, atol=1e-5 * other.abs().max().item())


def test_weights_and_their_gradients_are_stored_as_usual():
    network = open_gains(MPUNet(**SMALL))
    network(torch.randn(1, 2, 16, 16), torch.zeros(1)).sum().backward()
    assert all(p.is_contiguous() and p.grad.stride() == p.stride() for p in network.parameters())
