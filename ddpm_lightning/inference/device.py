"""Chooses the device on which networks run."""

import torch

from ddpm_lightning.utils.errors import UserError

__all__ = ["choose_device"]


def choose_device(name: str = "auto") -> torch.device:
    """Returns a device by its name; ``auto`` chooses a GPU if there is one.

    Raises:
        UserError: If there is no such device.
    """
    found = [
        kind for kind, there in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if there.is_available()
    ]
    if name == "auto":
        return torch.device(found[0] if found else "cpu")
    if name.split(":")[0] not in ["cpu", *found]:
        raise UserError(
            "device", f"is {name!r}", allowed=", ".join(["auto", "cpu", *found]), remedy="use device=auto"
        )
    return torch.device(name)
