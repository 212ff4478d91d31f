"""The folded network against the one that was trained, with open gains: a fresh network returns 0 on any path."""

import pytest
import torch
from torch import nn

from ddpm_lightning.networks.folding import FoldedUNet, fold
from ddpm_lightning.networks.mp_unet import MPUNet

SMALL = {"base": 16, "multipliers": (1, 2, 4), "blocks": 1, "channels_per_head": 8}
WAYS = [
    {},
    {"patch": 2, "in_channels": 3},
    {"attention_levels": [0, 2], "blocks": 2},
    {"bottleneck_attention": False, "multipliers": (1, 1)},
    {"always_clip": True},
]


def trained(**settings) -> MPUNet:
    """A network whose gains are open and differ, and whose weights have any length."""
    torch.manual_seed(0)
    network = MPUNet(**{**SMALL, **settings}).eval()
    with torch.no_grad():
        for number, (name, parameter) in enumerate(network.named_parameters()):
            if name.endswith("gain"):
                parameter.fill_(0.4 + 0.02 * number)
            else:
                parameter.mul_(1 + 0.1 * (number % 5))
    return network


def inputs(network: MPUNet, size: tuple[int, int] = (24, 40)) -> tuple[torch.Tensor, torch.Tensor]:
    channels = network.input.weight.shape[1] - 1
    return torch.randn(3, channels // network.patch**2, *size), torch.tensor([-3.0, 0.0, 2.0])


def relative(ours: torch.Tensor, other: torch.Tensor) -> float:
    return ((ours - other).abs().max() / other.abs().max()).item()


@pytest.mark.parametrize("settings", WAYS)
@torch.inference_mode()
def test_outputs_are_those_of_the_trained_network(settings):
    network = trained(**settings)
    x, label = inputs(network)
    expected = network(x, label)
    assert expected.std() > 0.1
    assert relative(fold(network)(x, label), expected) < 1e-5


@torch.inference_mode()
def test_bfloat16_is_close():
    network = trained(dropout=0.0)
    x, label = inputs(network)
    folded = fold(network, torch.bfloat16)
    assert folded(x, label).dtype == torch.float32
    assert 1e-4 < relative(folded(x, label), network(x, label)) < 0.03


@torch.inference_mode()
def test_tiny_and_noncontiguous_images():
    network = trained()
    x, label = inputs(network, (8, 4))
    assert relative(fold(network)(x, label), network(x, label)) < 1e-5
    expanded = inputs(network, (8, 12))[0][:1].expand(3, -1, -1, -1).transpose(2, 3)
    assert relative(fold(network)(expanded, label), network(expanded, label)) < 1e-5


def test_the_trained_network_is_unchanged_and_others_are_returned():
    network = trained()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold(network)
    assert isinstance(folded, FoldedUNet) and folded.size_divisor == network.size_divisor
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not list(folded.parameters())
    other = nn.Conv2d(1, 1, 3)
    assert fold(other) is other


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="10 x 8.*divisible by 4"):
        fold(trained())(torch.randn(1, 2, 10, 8), torch.zeros(1))


@pytest.mark.gpu
@torch.inference_mode()
def test_compiled_with_graphs_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    network = trained().cuda()
    x, label = (value.cuda() for value in inputs(network, (32, 32)))
    compiled = torch.compile(fold(network), mode="reduce-overhead")
    for _ in range(3):
        assert relative(compiled(x, label), network(x, label)) < 1e-3
