"""A trained model as a function of arrays.

>>> restorer = Restorer.load("runs/demo/checkpoints/best.ckpt")   # doctest: +SKIP
>>> restored = restorer.restore(noisy, draws=15)                  # doctest: +SKIP
>>> restored.mean, restored.std                                   # doctest: +SKIP
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpm_lightning.data.normalise import Scale
from ddpm_lightning.diffusion.ensemble import Ensemble
from ddpm_lightning.errors import UserError
from ddpm_lightning.inference.checkpoint import Trained, load
from ddpm_lightning.inference.tiling import Tiler
from ddpm_lightning.models.protocol import Apply, draws_of, whole

__all__ = ["Restoration", "Restorer", "choose_device"]

#: Pixels that are computed together: draws or tiles, whichever are many.
PIXELS_AT_ONCE = 2**20
SMALLEST_SIDE = 16


@dataclass(frozen=True)
class Restoration:
    """A restored plane, in intensities.

    Attributes:
        mean: Mean of the draws with shape (H, W), float32.
        std: Population standard deviation over the draws with shape (H, W), float32; 0 for a deterministic method.
        draws: Number of draws.
    """

    mean: np.ndarray
    std: np.ndarray
    draws: int


class Restorer:
    """Restores planes of any size.

    Args:
        trained: A trained method with its normalisation.
        tile: Side in pixels of the tiles that networks see; ``None`` shows them whole planes.
        overlap: Pixels that neighbouring tiles share.
        seed: Seed of the draws.
        bfloat16: Whether networks compute in bfloat16: about twice as fast where the processor has it; draws then
            differ from those in float32 by a few hundredths of their spread.
        batch: Draws that are computed together; by default as many as make a million pixels. The batch moves the last
            digits of draws by rounding.
    """

    def __init__(
        self,
        trained: Trained,
        tile: int | None = 256,
        overlap: int = 32,
        seed: int = 0,
        bfloat16: bool = False,
        batch: int | None = None,
    ) -> None:
        self.trained, self.method, self.normalisation = trained, trained.method, trained.normalisation
        self.seed, self.batch = seed, batch
        self.device = next(self.method.parameters()).device
        self.apply: Apply = whole
        if tile is not None:
            batch = max(1, PIXELS_AT_ONCE // tile**2)
            self.apply = Tiler(tile, overlap, self.method.multiple, batch)
        if bfloat16:
            self.apply = _in_bfloat16(self.apply, self.device.type)

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        device: str = "auto",
        sampler: dict[str, Any] | None = None,
        **settings: Any,
    ) -> "Restorer":
        """Loads a checkpoint; see :func:`ddpm_lightning.inference.checkpoint.load` for what can be wrong with it."""
        return cls(load(checkpoint, choose_device(device), sampler), **settings)

    def draws(self, plane: np.ndarray, draws: int = 15, image: str = "") -> Iterator[np.ndarray]:
        """Yields restored versions of a plane one by one, in intensities.

        Args:
            plane: Low image with shape (H, W), finite, of any dtype.
            draws: Number of draws; a deterministic method makes one.
            image: Identity of the plane: it keys the noise, so equal names give equal draws.

        Yields:
            Draws with shape (H, W), float32.

        Raises:
            UserError: If the plane cannot be restored.
        """
        scale = self.normalisation.input.scale(_checked(plane))
        for draw in self._normalised(plane, scale, draws, image):
            yield self.normalisation.output_scale(scale).restore(draw[0, 0].cpu().numpy())

    def restore(self, plane: np.ndarray, draws: int = 15, image: str = "") -> Restoration:
        """Restores a plane by the mean of draws.

        Args:
            plane: Low image with shape (H, W), finite, of any dtype.
            draws: Number of draws; a deterministic method makes one.
            image: Identity of the plane: it keys the noise, so equal names give equal draws.

        Raises:
            UserError: If the plane cannot be restored.
        """
        scale = self.normalisation.input.scale(_checked(plane))
        ensemble = Ensemble()
        for draw in self._normalised(plane, scale, draws, image):
            ensemble.update(draw[0, 0].cpu())
        if not ensemble.mean.isfinite().all():
            raise UserError("image", "was restored to NaN or infinite values", remedy="check its intensities")
        output = self.normalisation.output_scale(scale)
        mean, std = ensemble.mean.float().numpy(), ensemble.std.float().numpy()
        return Restoration(output.restore(mean), std * np.float32(output.gain), ensemble.count)

    def _normalised(self, plane: np.ndarray, scale: Scale, draws: int, image: str) -> Iterator[torch.Tensor]:
        if draws < 1:
            raise UserError("draws", f"is {draws}", allowed="a whole number of at least 1")
        low = torch.from_numpy(scale.normalise(plane))[None, None].to(self.device)
        return draws_of(self.method, low, image, range(draws), self.seed, self.apply, self.batch)


def _in_bfloat16(apply: Apply, device: str) -> Apply:
    def autocast(network: torch.nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            return apply(network, *inputs)

    return autocast


def _checked(plane: np.ndarray) -> np.ndarray:
    """Raises where a plane cannot be restored."""
    if plane.ndim != 2:
        raise UserError("image", f"has {plane.ndim} dimensions", allowed="a plane with shape (H, W)")
    if min(plane.shape) < SMALLEST_SIDE:
        raise UserError(
            "image",
            f"is {plane.shape[0]} x {plane.shape[1]} pixels",
            allowed=f"at least {SMALLEST_SIDE} on each side",
        )
    if not np.isfinite(plane).all():
        raise UserError("image", "holds NaN or infinite values", remedy="replace them, or crop them away")
    if plane.min() == plane.max():
        raise UserError("image", f"is constant: every pixel is {plane.flat[0]}", remedy="leave it out")
    return plane


def choose_device(name: str = "auto") -> torch.device:
    """Returns a device by its name; ``auto`` takes a GPU where there is one.

    Raises:
        UserError: If the device does not exist here.
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
