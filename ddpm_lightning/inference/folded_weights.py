"""Networks prepared for inference: their constant factors folded into the weights, in the requested precision."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ddpm_lightning.networks.folding import FoldedUNet, fold

__all__ = ["FoldedNetworks"]


class FoldedNetworks:
    """Maps trained networks to equivalent functions that are faster.

    The weights of magnitude-preserving U-Nets are folded when a network is first used
    (:mod:`ddpm_lightning.networks.folding`); all other networks are unchanged, under autocast if bfloat16 is
    requested.

    Args:
        bfloat16: Whether networks compute in bfloat16.
        compiled: Whether folded networks are compiled: with CUDA graphs on a GPU. The first evaluation of each size of
            tile then takes a minute or more.
        before_layer: Called before each layer of a network that is not compiled; it may end the evaluation by raising
            an error.
    """

    def __init__(
        self, bfloat16: bool = False, compiled: bool = False, before_layer: Callable[[], None] | None = None
    ) -> None:
        self.bfloat16, self.compiled, self._before_layer = bfloat16, compiled, before_layer
        self._hooks: list[RemovableHandle] = []
        self._known: dict[nn.Module, Callable[..., Tensor]] = {}

    def __call__(self, network: Any) -> Callable[..., Tensor]:
        """Returns the equivalent function of a network, or of a function of one."""
        if not isinstance(network, nn.Module):
            return self._autocast(network)
        if network not in self._known:
            self._known[network] = self._prepared(network)
        return self._known[network]

    def _prepared(self, network: nn.Module) -> Callable[..., Tensor]:
        folded = fold(network, torch.bfloat16 if self.bfloat16 else None)
        if self._before_layer is not None and not self.compiled:
            self._hooks += [layer.register_forward_pre_hook(self._call) for layer in folded.modules()]
        if isinstance(folded, FoldedUNet):
            if not self.compiled:
                return folded
            mode = "reduce-overhead" if folded.embed.is_cuda else "default"
            return torch.compile(folded, mode=mode)
        return self._autocast(network)

    def _call(self, *layer_and_inputs: Any) -> None:
        if self._before_layer is not None:
            self._before_layer()

    def release(self) -> None:
        """Removes what was attached to networks, which others may use."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._known.clear()

    def _autocast(self, network: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def autocast(*inputs: Tensor) -> Tensor:
            with torch.autocast(inputs[0].device.type, torch.bfloat16):
                return network(*inputs)

        return autocast if self.bfloat16 else network
