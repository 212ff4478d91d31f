"""What is compared: our network in training and in use, the plain path, and two libraries of the same width.

The plain path (`plain.py`) is the same network as the equations are written, and much as the paper's code computes it.
The libraries' networks have other sizes, so their achieved FLOP/s are compared, not their seconds.
"""

from collections.abc import Callable

import torch
from plain import spelled_out
from torch import Tensor, nn

from ddpm_lightning.networks.folding import fold
from ddpm_lightning.networks.mp_layers import force_unit_weights
from ddpm_lightning.networks.mp_unet import MPUNet

__all__ = ["Libraries", "Ours", "Plain", "Step", "open_network"]

#: Maps states beside low images (B, 2, H, W) and labels (B,) to images (B, 1, H, W).
Network = Callable[[Tensor, Tensor], Tensor]


def open_network(base: int = 64) -> MPUNet:
    """Returns the 64 M network of the paper's code with open gains: a fresh one returns 0 on every path."""
    torch.manual_seed(0)
    # No dropout on any side: the libraries have none.
    network = MPUNet(base=base, channels_per_head=base // 2, dropout=0.0)
    for name, parameter in network.named_parameters():
        if name.endswith("gain"):
            nn.init.constant_(parameter, 0.5)
    return network


class Plain:
    """The plain path."""

    def __init__(self, network: MPUNet, device: torch.device) -> None:
        self.module = spelled_out(network).to(device)

    def __call__(self, x: Tensor, label: Tensor) -> Tensor:
        """Maps images (B, 2, H, W) and labels (B,) to images (B, 1, H, W)."""
        return self.module(x, label)

    def step(self) -> "Step":
        """Returns a training step."""
        return Step(self.module, self, torch.optim.AdamW(self.module.parameters(), lr=1e-5, foreach=False))


class Ours:
    """Our paths: folded for use, channels-last with a fused optimiser for learning."""

    def __init__(self, network: MPUNet, device: torch.device, compiled: bool = False) -> None:
        self.module = network.to(device, memory_format=torch.channels_last)
        self.folded, self.folded_bf16 = fold(self.module.eval()), fold(self.module.eval(), torch.bfloat16)
        if compiled:
            mode = "reduce-overhead" if device.type == "cuda" else "default"
            self.folded, self.folded_bf16 = (
                torch.compile(network, mode=mode) for network in (self.folded, self.folded_bf16)
            )

    def step(self, bfloat16: bool = False) -> "Step":
        """Returns a training step."""
        optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-5, fused=True)
        return Step(self.module, self.module, optimizer, bfloat16, after=force_unit_weights)


class Step:
    """A training step on given images: forward, backward, optimiser.

    Args:
        module: What learns.
        network: How it is applied.
        optimizer: The optimiser.
        bfloat16: Whether under autocast.
        after: Called with the module after the step.
    """

    def __init__(
        self,
        module: nn.Module,
        network: Network,
        optimizer: torch.optim.Optimizer,
        bfloat16: bool = False,
        after: Callable[[nn.Module], None] = lambda module: None,
    ) -> None:
        self.module, self.network, self.optimizer = module, network, optimizer
        self.bfloat16, self.after = bfloat16, after

    def __call__(self, x: Tensor, label: Tensor) -> None:
        """Makes the step; the loss is the square of the output."""
        self.module.train()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            output = self.network(x, label)
        output.float().square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.after(self.module)


class Libraries:
    """Networks of other libraries, of the same width; those that are not installed are left out, with the reason.

    Attributes:
        modules: Networks by name.
        calls: How each is applied.
        absent: Reasons by name.
    """

    def __init__(self, device: torch.device, base: int = 64) -> None:
        self.modules: dict[str, nn.Module] = {}
        self.calls: dict[str, Network] = {}
        self.absent: dict[str, str] = {}
        for name, make in (("diffusers", _diffusers), ("denoising_diffusion_pytorch", _lucidrains)):
            try:
                module = make(base).to(device)
            except (ImportError, RuntimeError) as error:
                self.absent[name] = f"{type(error).__name__}: {error} (pip install '.[speed]')"
                continue
            self.modules[name] = module
            self.calls[name] = (
                (lambda x, label, module=module: module(x, label, return_dict=False)[0])
                if name == "diffusers"
                else (lambda x, label, module=module: module(x, label))
            )

    def step(self, name: str) -> Step:
        """Returns a training step of a library's network with PyTorch's default AdamW."""
        module = self.modules[name]
        return Step(module, self.calls[name], torch.optim.AdamW(module.parameters(), lr=1e-5))


def _diffusers(base: int) -> nn.Module:
    from diffusers import UNet2DModel

    return UNet2DModel(
        in_channels=2, out_channels=1, block_out_channels=tuple(base * m for m in (1, 2, 4, 8))
    )


def _lucidrains(base: int) -> nn.Module:
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import Unet

    return Unet(dim=base, dim_mults=(1, 2, 4, 8), channels=2, out_dim=1, flash_attn=False)
