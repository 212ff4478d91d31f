"""Checks whether a processor supports bfloat16 natively; otherwise emulation is ten times slower than float32."""

import logging

import torch

from ddpm_lightning.utils.settings import Switch

__all__ = ["is_native", "use_bfloat16"]

log = logging.getLogger(__name__)


def is_native(device: torch.device) -> bool:
    """Says whether a device supports bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Private, hence the default: without an answer, float32 is never wrong.
    return device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()


def use_bfloat16(wish: Switch, device: torch.device) -> bool:
    """Returns whether to compute in bfloat16, and warns if that is slow.

    Args:
        wish: ``True``, ``False``, or ``auto``: if the processor supports it.
        device: Where networks compute.
    """
    if wish == "auto":
        return is_native(device)
    if wish and not is_native(device):
        log.warning(
            "bfloat16=true: this processor (%s) does not support bfloat16, and emulating it is slow; bfloat16=auto"
            " uses float32 here",
            device,
        )
    return wish
