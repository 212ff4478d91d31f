"""Whether a processor supports bfloat16: if not, emulation is ten times slower than float32."""

import logging
from typing import Literal

import torch

from ddpm_lightning.utils.errors import UserError

__all__ = ["BFloat16", "chosen", "is_native"]

#: ``auto`` means yes if the processor supports it.
BFloat16 = bool | Literal["auto"]

log = logging.getLogger(__name__)


def is_native(device: torch.device) -> bool:
    """Says whether a device supports bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Private, hence the default: without an answer, float32 is never wrong.
    return device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()


def chosen(wish: BFloat16, device: torch.device) -> bool:
    """Returns whether to compute in bfloat16, and warns if that is slow.

    Args:
        wish: ``True``, ``False``, or ``auto``: if the processor supports it.
        device: Where networks compute.

    Raises:
        UserError: If it is none of these.
    """
    if wish == "auto":
        return is_native(device)
    if not isinstance(wish, bool):
        raise UserError("bfloat16", f"is {wish!r}", allowed="true, false or auto")
    if wish and not is_native(device):
        log.warning(
            "bfloat16=true: this processor (%s) does not support bfloat16, and emulating it is slow; bfloat16=auto"
            " uses float32 here",
            device,
        )
    return wish
