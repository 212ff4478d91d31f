"""Methods with neighbours: equal to those without at first, and each learns from them."""

import pytest
import torch

from ddpm_lightning.cli import compose
from ddpm_lightning.models.blind_spot import hide_pixels
from ddpm_lightning.models.build import build_method, with_neighbours
from ddpm_lightning.models.method import LossKey
from ddpm_lightning.models.sampling import ImageSampler
from ddpm_lightning.utils.errors import UserError

FLOW = ["model.network.base=8", "model.network.multipliers=[1,2]"]
MEAN = ["model.regression.network.base=8", "model.regression.network.multipliers=[1,2]"]
UNET = ["model.network.depth=1", "model.network.first_filters=4"]
METHODS = {
    "regression_small": FLOW,
    "ddpm_small": [*FLOW, "model.sampler.steps=2"],
    "pmrf_small": [*FLOW, *MEAN],
    "residual_flow_small": [*FLOW, *MEAN],
    "scored_small": [*FLOW, *MEAN, "model.std_network.base=8"],
    "care_small": UNET,
    "noise2void_small": [*UNET, "model.percent=20"],
}


def described(name: str) -> dict:
    return compose.plain(compose.compose("train", [f"model={name}", *METHODS[name]]))["model"]


def opened(method):
    """Returns a method whose gains are not 0, and whose residuals have a unit."""
    for name, parameter in method.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.constant_(parameter, 0.3)
    if hasattr(method, "sigma"):
        method.sigma.fill_(0.1)
    return method.eval()


@pytest.mark.parametrize("name", METHODS)
def test_methods_start_equal_and_see_their_neighbours(name):
    plain = opened(build_method(described(name)))
    method = opened(build_method(with_neighbours(described(name), 1)))
    missing, unexpected = method.load_state_dict(plain.state_dict(), strict=False)
    assert missing and all("stem." in key for key in missing) and not unexpected
    assert method.neighbours == 1 and plain.neighbours == 0
    batch = {"low": torch.randn(2, 3, 16, 16) / 4, "high": torch.randn(2, 1, 16, 16) / 4, "name": ["a", "b"]}
    alone = {**batch, "low": batch["low"][:, :1]}
    key = LossKey(0, 0, 0)
    with torch.no_grad():
        assert torch.equal(method.loss(batch, key), plain.loss(alone, key))
    assert torch.equal(sampled(method, batch["low"][:1]), sampled(plain, alone["low"][:1]))
    stem = next(module for path, module in method.named_modules() if path.endswith("stem"))
    torch.nn.init.constant_(stem.kernels, 0.1)
    assert not torch.equal(sampled(method, batch["low"][:1]), sampled(plain, alone["low"][:1]))
    # Without neighbours, the method remains the one for single planes.
    missing_neighbours = torch.cat([alone["low"], torch.full((2, 2, 16, 16), torch.nan)], dim=1)
    for low in (alone["low"][:1], missing_neighbours[:1]):
        assert torch.equal(sampled(method, low), sampled(plain, alone["low"][:1]))


def sampled(method, low):
    """Returns a sample in another orientation."""
    found = list(ImageSampler(method, low, "a", tta=True).samples(range(2)))
    return found[-1]


def test_the_sampler_combines_planes_once_for_each_orientation():
    method = opened(build_method(with_neighbours(described("ddpm_small"), 1)))
    calls = []

    def apply(network, *inputs):
        calls.append(network is method.stem)
        return network(*inputs)

    list(
        ImageSampler(method, torch.randn(1, 3, 16, 16), "a", apply=apply, tta=True).samples(
            range(10), batch=1
        )
    )
    assert sum(calls) == 8


def test_pixels_are_hidden_before_planes_are_combined():
    """Otherwise the stem would spread the hidden value to the pixels around it."""
    method = opened(build_method(with_neighbours(described("noise2void_small"), 1)))
    low, key, seen = torch.randn(1, 3, 16, 16), LossKey(0, 0, 0), []
    method.stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method.loss({"low": low, "high": low[:, :1], "name": ["a"]}, key)
    hidden, mask = hide_pixels(low[:, :1], key.generator(), **method.hiding)
    assert mask.any() and torch.equal(seen[0], torch.cat([hidden, low[:, 1:]], dim=1))


def test_methods_of_single_planes_say_so():
    with pytest.raises(UserError) as caught:
        with_neighbours({"_target_": "ddpm_lightning.models.pix2pix.Pix2Pix"}, 2)
    assert caught.value.subject == "data.neighbours=2"
    used = with_neighbours(described("regression_small"), 2)
    assert with_neighbours(used, 2) == used
    with pytest.raises(UserError) as caught:
        with_neighbours(used, 0)
    assert "data.neighbours=2" in caught.value.remedy
