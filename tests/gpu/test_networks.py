"""Every network on the device, in float32, bfloat16 and compiled, against the CPU in float32."""

import copy

import pytest
import torch
from torch import nn

from ddpm_lightning.networks.folding import fold
from ddpm_lightning.networks.mp_unet import MPUNet
from ddpm_lightning.networks.pix2pix import PatchDiscriminator, Pix2PixGenerator
from ddpm_lightning.networks.unet import UNet
from ddpm_lightning.networks.unet_rcan import UNetRCAN

pytestmark = pytest.mark.gpu

MP = {"base": 16, "multipliers": (1, 2), "blocks": 1, "channels_per_head": 8, "dropout": 0.0}
NETWORKS = {
    "mp_unet": lambda: MPUNet(**MP),
    "mp_unet, attention in all levels": lambda: MPUNet(**MP, attention_levels=(0, 1)),
    "mp_unet, patches": lambda: MPUNet(**MP, patch=4, bottleneck_attention=False),
    "care": lambda: UNet(first_filters=8),
    "care, probabilistic": lambda: UNet(first_filters=8, probabilistic=True),
    "n2v2": lambda: UNet(
        first_filters=8, kernel_size=3, batch_norm=True, residual=False, top_skip=False, blur_pool=True
    ),
    "unet_rcan": lambda: UNetRCAN(filters=(8, 16), rcan_filters=8, groups=1, blocks=2, dropout=0.0),
    "pix2pix, generator": lambda: Pix2PixGenerator(num_downs=5, filters=8, dropout_probability=0.0),
    "pix2pix, discriminator": lambda: PatchDiscriminator(filters=8, layers=2),
}
#: Largest difference as a fraction of the largest value: of outputs, and of gradients, which are sums of many terms.
FLOAT32 = {"outputs": 1e-5, "gradients": 1e-4}
#: bfloat16 has 8 bits, and rounding errors grow with depth.
BFLOAT16 = {"outputs": 0.06, "gradients": 0.25}


def _opened(network: nn.Module) -> nn.Module:
    """Opens the gains of a network, which is 0 without."""
    for name, parameter in network.named_parameters():
        if name.endswith("gain"):
            nn.init.constant_(parameter, 0.4)
    return network


def built(name: str) -> tuple[nn.Module, list[torch.Tensor]]:
    """Returns a network and its inputs, on the CPU."""
    torch.manual_seed(0)
    network = _opened(NETWORKS[name]())
    if name.startswith("mp_unet"):
        return network, [torch.randn(2, 2, 32, 48), torch.tensor([-1.0, 1.5])]
    if name.endswith("discriminator"):
        return network, [torch.randn(2, 1, 32, 32), torch.randn(2, 1, 32, 32)]
    return network, [torch.randn(2, 1, 32, 32)]


def results(
    network: nn.Module, inputs: list[torch.Tensor], device: torch.device, bfloat16: bool = False
) -> dict[str, torch.Tensor]:
    """Returns the outputs, and the gradients of a loss, as one vector each, on the CPU."""
    inputs = [each.clone().to(device) for each in inputs]
    inputs[0].requires_grad_()
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        found = network(*inputs)
    outputs = [each.float() for each in (found if isinstance(found, tuple) else (found,))]
    sum(
        (each.square() * torch.linspace(0.5, 1, each.shape[-1], device=device)).mean() for each in outputs
    ).backward()
    gradients = [inputs[0].grad, *(p.grad for p in network.parameters() if p.grad is not None)]
    return {
        "outputs": torch.cat([each.detach().flatten() for each in outputs]).cpu(),
        "gradients": torch.cat([each.flatten() for each in gradients]).float().cpu(),
    }


def differences(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, float]:
    return {
        name: ((found[name] - value).abs().max() / value.abs().max()).item()
        for name, value in expected.items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, device, backend, exact, record_property):
    network, inputs = built(name)
    placed = copy.deepcopy(network).to(device, memory_format=torch.channels_last)
    expected = results(network, inputs, torch.device("cpu"))
    assert expected["outputs"].std() > 1e-3 and expected["gradients"].abs().max() > 0
    ways = {"float32": (placed, False, FLOAT32), "bfloat16": (placed, True, BFLOAT16)}
    if device.type == "cuda" or name == "care":
        torch.compiler.reset()
        ways["compiled"] = (torch.compile(placed, backend=backend), False, FLOAT32)
    for way, (applied, bfloat16, tolerances) in ways.items():
        placed.zero_grad()
        found = differences(results(applied, inputs, device, bfloat16), expected)
        record_property(way, str({key: f"{value:.1e}" for key, value in found.items()}))
        assert all(found[key] <= tolerance for key, tolerance in tolerances.items()), (way, found)


@torch.inference_mode()
def test_folded_networks(device, backend, exact, record_property):
    network, inputs = built("mp_unet")
    expected = {"outputs": network.eval()(*inputs)}
    placed = network.to(device, memory_format=torch.channels_last)
    inputs = [each.to(device) for each in inputs]
    torch.compiler.reset()
    ways = {
        "float32": (fold(placed), FLOAT32),
        "bfloat16": (fold(placed, torch.bfloat16), BFLOAT16),
        "compiled": (torch.compile(fold(placed), backend=backend), FLOAT32),
    }
    for way, (applied, tolerances) in ways.items():
        (found,) = differences({"outputs": applied(*inputs).cpu()}, expected).values()
        record_property(way, f"{found:.1e}")
        assert found <= tolerances["outputs"], way
