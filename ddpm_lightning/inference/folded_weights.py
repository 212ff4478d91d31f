"""Networks as they are used: folded when they are first seen, in the precision and on the path that was asked for."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_lightning.networks.folding import FoldedUNet, fold

__all__ = ["FoldedNetworks"]


class FoldedNetworks:
    """Maps trained networks to the functions that stand for them in use.

    Magnitude-preserving U-Nets are folded (:mod:`ddpm_lightning.networks.folding`); all others are used as they are,
    under autocast if bfloat16 is asked for.

    Args:
        bfloat16: Whether networks compute in bfloat16.
        compiled: Whether folded networks are compiled: with CUDA graphs on a GPU. The first evaluation of each size of
            tile then takes a minute or more.
    """

    def __init__(self, bfloat16: bool = False, compiled: bool = False) -> None:
        self.bfloat16, self.compiled = bfloat16, compiled
        self._known: dict[nn.Module, Callable[..., Tensor]] = {}

    def __call__(self, network: Any) -> Callable[..., Tensor]:
        """Returns the function that stands for a network."""
        if not isinstance(network, nn.Module):
            return self._used(network)
        if network not in self._known:
            self._known[network] = self._used(network)
        return self._known[network]

    def _used(self, network: Callable[..., Tensor]) -> Callable[..., Tensor]:
        folded = fold(network, torch.bfloat16 if self.bfloat16 else None)
        if isinstance(folded, FoldedUNet):
            if not self.compiled:
                return folded
            mode = "reduce-overhead" if folded.embed.is_cuda else "default"
            return torch.compile(folded, mode=mode)
        return _in_bfloat16(network) if self.bfloat16 else network


def _in_bfloat16(network: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def autocast(*inputs: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, torch.bfloat16):
            return network(*inputs)

    return autocast
