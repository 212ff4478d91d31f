"""The module that combines a plane with its neighbours: the identity at first, and deaf to what is missing."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm_lightning.networks.mp_unet import MPUNet
from ddpm_lightning.networks.neighbours import NeighbourStem


def open_stem(neighbours: int = 2) -> NeighbourStem:
    torch.manual_seed(0)
    stem = NeighbourStem(neighbours)
    nn.init.normal_(stem.kernels, std=0.1)
    return stem


def test_a_new_one_returns_the_plane_itself():
    planes = torch.randn(2, 5, 15, 18)
    assert torch.equal(NeighbourStem(2)(planes), planes[:, :1])


def test_missing_neighbours_add_nothing():
    stem, planes = open_stem(), torch.randn(2, 5, 16, 16)
    planes[0, 1:] = torch.nan
    planes[1, 3:] = torch.nan
    found = stem(planes)
    assert torch.equal(found[0], planes[0, :1]) and not torch.allclose(found[1], planes[1, :1], atol=1e-3)


def test_shared_structure_cancels_noise():
    """With equal kernels and open gates, the image is the mean of all planes."""
    stem, planes = NeighbourStem(2), torch.randn(1, 5, 16, 16)
    with torch.no_grad():
        stem.kernels[:, 4] = 2 / 5
        stem.gates.weight.zero_()  # gates of a half
    assert torch.allclose(stem(planes), planes.mean(1, keepdim=True), atol=1e-6)


def test_all_weights_learn():
    stem = open_stem()
    stem(torch.randn(2, 5, 16, 16)).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in stem.parameters())


@pytest.mark.parametrize("side", [64])
def test_it_costs_little(side):
    """At most 5 % of the smallest regressor."""
    network = MPUNet(
        1, base=24, multipliers=(1, 2, 4), blocks=1, bottleneck_attention=False, dropout=0.0, patch=2
    )
    costs = []
    for module, inputs in (
        (NeighbourStem(2), (torch.zeros(1, 5, side, side),)),
        (network, (torch.zeros(1, 1, side, side), torch.zeros(1))),
    ):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(*inputs)
        costs.append(counter.get_total_flops())
    assert costs[0] < 0.05 * costs[1]


def test_kernels_have_a_centre():
    with pytest.raises(ValueError, match="kernel"):
        NeighbourStem(1, kernel=4)
