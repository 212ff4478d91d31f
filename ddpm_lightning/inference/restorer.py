"""A trained model as a function of arrays.

>>> restorer = Restorer.load("runs/demo/checkpoints/best.ckpt")                    # doctest: +SKIP
>>> restored = restorer.restore(noisy, draws=15)                                   # doctest: +SKIP
>>> restored.mean, restored.std                                                    # doctest: +SKIP
>>> volume = restorer.restore(stack, axes="TCZYX", pixel_size=(0.1, 0.1))          # doctest: +SKIP
>>> volume.warnings                                                                # doctest: +SKIP
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpm_lightning.data.image import ImageInfo
from ddpm_lightning.data.normalise import Scale
from ddpm_lightning.diffusion.ensemble import Ensemble
from ddpm_lightning.errors import UserError
from ddpm_lightning.inference.checkpoint import Trained, load
from ddpm_lightning.inference.folded import Folded
from ddpm_lightning.inference.memory import available_bytes, bytes_per_pixel, is_out_of_memory
from ddpm_lightning.inference.precision import Precision, least_precise
from ddpm_lightning.inference.tiling import SMALLEST_TILE, Tiler
from ddpm_lightning.inference.trust import Trust
from ddpm_lightning.models.protocol import draws_of

__all__ = ["Restoration", "Restorer", "choose_device", "is_blank"]

#: Pixels that a GPU computes together, at most.
PIXELS_AT_ONCE = 2**20
#: Part of the free memory that networks may take; canvases and other programs need some, too.
MEMORY_SHARE = 0.5
SMALLEST_SIDE = 16
#: Reflected pixels around a plane, which keep what networks do at a border off the image.
MARGIN = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restoration:
    """A restored plane or stack, in intensities.

    Attributes:
        mean: Mean of the draws with the shape of the input, float32.
        std: Population standard deviation over the draws, float32; 0 for a deterministic method.
        draws: Number of draws; of a stack, that of its last plane.
        gain: Intensities for each unit of the model's scale; of a stack, the mean over its planes.
        entropy: Entropy in nats of the draws' 8-bit values, float32, or ``None`` if it was not asked for.
        samples: The single draws with shape (draws, …), float32, or ``None`` if they were not asked for.
        warnings: What is unlike the images that the model was trained on.
        blank: Names of planes of a stack that are constant; they are what they were.
        axes: Axes of the arrays, ending in ``YX``.
        pixel_size: Size of a pixel in µm as (y, x), or ``None``.
        precision: Standard error of the mean, and what more draws would bring; of a stack, that of the least
            precise plane.
    """

    mean: np.ndarray
    std: np.ndarray
    draws: int
    gain: float = 1.0
    entropy: np.ndarray | None = None
    samples: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    blank: tuple[str, ...] = ()
    axes: str = "YX"
    pixel_size: tuple[float, float] | None = None
    precision: dict[str, float | None] | None = None


class Restorer:
    """Restores planes of any size.

    Args:
        trained: A trained method with its normalisation.
        tile: Side in pixels of the tiles that networks see, halved where memory falls short; ``None`` shows them whole
            planes.
        overlap: Pixels that neighbouring tiles share.
        seed: Seed of the draws.
        bfloat16: Whether networks compute in bfloat16: about twice as fast where the processor has it; draws then
            differ from those in float32 by a few hundredths of their spread.
        batch: Draws that are computed together; by default as many as make a million pixels. On a GPU the batch moves
            the last digits of draws by rounding; on a CPU it does not.
        threads: Tiles or draws that a CPU computes side by side; by default as many as PyTorch has threads. The
            result does not depend on it.
        margin: Reflected pixels around a plane, without which draws disagree too much at its border.
        tolerance: Draws end before their number is reached once the standard error of their mean is below this share of
            the image's range (:mod:`ddpm_lightning.inference.precision`).
        compiled: Whether networks are compiled, on a GPU with CUDA graphs; worth its minutes for large jobs only.

    Attributes:
        tiler: Applies networks; its ``on_tiles`` and ``say`` may be set.
    """

    def __init__(
        self,
        trained: Trained,
        tile: int | None = 256,
        overlap: int = 32,
        seed: int = 0,
        bfloat16: bool = False,
        batch: int | None = None,
        threads: int | None = None,
        margin: int = 0,
        tolerance: float | None = None,
        compiled: bool = False,
    ) -> None:
        self.trained, self.method, self.normalisation = trained, trained.method, trained.normalisation
        self.seed, self.batch, self.bfloat16, self.margin = seed, batch, bfloat16, margin
        self.tolerance, self.folded = tolerance, Folded(bfloat16, compiled)
        self.trust = Trust(trained)
        self.device = next(self.method.parameters()).device
        at_once = max(1, PIXELS_AT_ONCE // (tile or SMALLEST_TILE) ** 2)
        threads = threads or torch.get_num_threads()
        self.tiler = Tiler(tile, overlap, self.method.multiple, at_once, threads, say=log.warning)
        self._bytes_per_pixel: float | None = None

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        device: str = "auto",
        sampler: dict[str, Any] | None = None,
        margin: int = MARGIN,
        preset: str | None = None,
        **settings: Any,
    ) -> "Restorer":
        """Loads a checkpoint; see :func:`ddpm_lightning.inference.checkpoint.load` for what can be wrong with it.

        Args:
            checkpoint: File written by ``ddpm-lightning train``.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            sampler: Settings that replace those of the sampler.
            margin: Reflected pixels around a plane.
            preset: Name of a preset of the model, or ``stored``; by default its first, unless a sampler is given.
            settings: Settings of :class:`Restorer`.
        """
        return cls(load(checkpoint, choose_device(device), sampler, preset), margin=margin, **settings)

    def draws(self, plane: np.ndarray, draws: int | None = None, image: str = "") -> Iterator[np.ndarray]:
        """Yields restored versions of a plane one by one, in intensities.

        Args:
            plane: Low image with shape (H, W), finite, of any dtype.
            draws: Number of draws, by default as the preset says; a deterministic method makes one.
            image: Identity of the plane: it keys the noise, so equal names give equal draws.

        Yields:
            Draws with shape (H, W), float32.

        Raises:
            UserError: If the plane cannot be restored.
        """
        scale = self.normalisation.input.scale(_checked(plane))
        for draw in self._normalised(plane, scale, draws, image):
            yield self.normalisation.output_scale(scale).restore(draw[0, 0].cpu().numpy())

    def restore(
        self,
        array: np.ndarray,
        draws: int | None = None,
        image: str = "",
        axes: str | None = None,
        pixel_size: float | tuple[float, float] | None = None,
        *,
        entropy: bool = False,
        samples: bool = False,
    ) -> Restoration:
        """Restores a plane or a stack, each plane by itself, by the mean of draws.

        Args:
            array: Low images with shape (…, H, W), finite, of any dtype.
            draws: Number of draws, by default as the preset says; a deterministic method makes one.
            image: Identity of the image: it keys the noise, so equal names give equal draws.
            axes: A letter for each axis, ending in ``YX``: ``ZYX``, ``TCZYX``; they enter the names of planes.
            pixel_size: Size of a pixel in µm, or (y, x), to be compared with that of the training images.
            entropy: Whether the entropy is computed; it costs a byte for each pixel and draw.
            samples: Whether single draws are kept.

        Raises:
            UserError: If the array cannot be restored, or single draws of a stack are asked for with a tolerance, by
                which planes have different numbers of draws.
        """
        array = np.asarray(array)
        size = (pixel_size, pixel_size) if isinstance(pixel_size, int | float) else pixel_size
        info = _described(array, axes, size)
        if samples and self.tolerance is not None and info.plane_count > 1:
            raise UserError(
                "samples=True",
                f"needs equally many draws of all {info.plane_count} planes; tolerance={self.tolerance} ends them"
                " early",
                remedy="leave one out, or restore plane by plane",
            )
        planes, described, blank = [], [], []
        for place, plane in zip(info.planes(), array.reshape(-1, *info.plane_shape), strict=True):
            if info.plane_count > 1 and is_blank(plane):
                planes.append(self.unchanged(plane, draws, entropy, samples))
                blank.append(place.label)
                continue
            key = "_".join(part for part in (image, place.label) if part)
            try:
                planes.append(self.restore_plane(plane, draws, key, entropy=entropy, samples=samples))
            except UserError as error:
                where = f"{error.subject} ({place.label})" if place.label else error.subject
                raise UserError(where, error.found, error.allowed, error.remedy) from error
            described.append(self.trust.describe(plane))
        if not described:
            raise UserError("image", "is constant in every plane", remedy="leave it out")

        def stacked(name: str, axis: int = 0) -> np.ndarray | None:
            if getattr(planes[0], name) is None:
                return None
            found = np.stack([getattr(plane, name) for plane in planes], axis=axis)
            return found.reshape(*found.shape[:axis], *array.shape)

        return Restoration(
            stacked("mean"),
            stacked("std"),
            planes[-1].draws,
            float(np.mean([plane.gain for plane in planes])),
            stacked("entropy"),
            stacked("samples", axis=1),
            tuple(self.trust.warnings(described, size)),
            tuple(blank),
            info.axes,
            size,
            least_precise(plane.precision for plane in planes),
        )

    def restore_plane(
        self,
        plane: np.ndarray,
        draws: int | None = None,
        image: str = "",
        *,
        entropy: bool = False,
        samples: bool = False,
        on_draw: Callable[[int, np.ndarray], None] | None = None,
    ) -> Restoration:
        """Restores a plane by the mean of draws, of which one at a time is in memory.

        Args:
            plane: Low image with shape (H, W), finite, of any dtype.
            draws: Number of draws, by default as the preset says; a deterministic method makes one.
            image: Identity of the plane.
            entropy: Whether the entropy is computed.
            samples: Whether single draws are kept.
            on_draw: Called with the number of each draw and the draw itself, with shape (H, W), float32.

        Raises:
            UserError: If the plane cannot be restored.
        """
        scale = self.normalisation.input.scale(_checked(plane))
        output = self.normalisation.output_scale(scale)
        ensemble, kept = Ensemble(self.method.bounds if entropy else None), []
        precision = Precision(ensemble, 2 if self.method.antithetic else 1)
        try:
            for number, draw in enumerate(self._normalised(plane, scale, draws, image)):
                precision.update(draw[0, 0].cpu())
                if on_draw or samples:
                    pixels = output.restore(draw[0, 0].cpu().numpy())
                    if on_draw:
                        on_draw(number, pixels)
                    if samples:
                        kept.append(pixels)
                if precision.suffices(self.tolerance):
                    break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            found = f"does not suffice for a plane of {plane.shape[0]} x {plane.shape[1]} pixels"
            remedy = "end other programs, set batch=1, use device=cpu, or crop the image"
            raise UserError("memory", found, remedy=remedy) from error
        if not ensemble.mean.isfinite().all():
            raise UserError("image", "was restored to NaN or infinite values", remedy="check its intensities")
        mean, std = ensemble.mean.float().numpy(), ensemble.std.float().numpy()
        return Restoration(
            output.restore(mean),
            std * np.float32(output.gain),
            ensemble.count,
            output.gain,
            ensemble.entropy.float().numpy() if entropy else None,
            np.stack(kept) if samples else None,
            precision=None if self.method.deterministic else precision.record(),
        )

    def unchanged(self, plane: np.ndarray, draws: int | None, entropy: bool, samples: bool) -> Restoration:
        """Returns a blank plane as its own restoration: there is nothing to restore, and nothing is invented."""
        count = 1 if self.method.deterministic else draws or self.trained.draws
        mean, zero = plane.astype(np.float32), np.zeros(plane.shape, np.float32)
        gain = self.normalisation.output_scale(self.normalisation.input.scale(plane)).gain
        kept = np.repeat(mean[None], count, axis=0) if samples else None
        return Restoration(mean, zero, count, gain, zero if entropy else None, kept)

    def tiles(self, height: int, width: int) -> int:
        """Returns how many tiles of a plane a network sees at each of its evaluations."""
        margin = min(self.margin, height - 1, width - 1)
        padded = (
            -(-(n + 2 * margin) // self.method.multiple) * self.method.multiple for n in (height, width)
        )
        return self.tiler.count(*padded)

    def fit_memory(self) -> None:
        """Makes batch, threads and tiles as large as the free memory allows, and no larger than they were set."""
        tiler, wanted = self.tiler, self.tiler.tile
        if tiler.tile is None:
            return
        self._bytes_per_pixel = bytes_per_pixel(self.method, self.device)
        budget = MEMORY_SHARE * available_bytes(self.device)
        while self.tile_bytes > budget and tiler.tile // 2 >= max(SMALLEST_TILE, self.method.multiple):
            tiler.shrink_tile()
        if tiler.tile != wanted:
            tiler.say(
                f"{budget / 1e9:.2g} GB of memory are free: tiles of {tiler.tile} pixels instead of {wanted}"
            )
        at_once = max(1, int(budget / self.tile_bytes))
        tiler.batch, tiler.threads = min(tiler.batch, at_once), min(tiler.threads, at_once)

    @property
    def tile_bytes(self) -> int:
        """Memory that a network needs for one tile, as far as it was measured."""
        return int((self._bytes_per_pixel or 0) * (self.tiler.tile or 0) ** 2)

    def _normalised(
        self, plane: np.ndarray, scale: Scale, draws: int | None, image: str
    ) -> Iterator[torch.Tensor]:
        draws = self.trained.draws if draws is None else draws
        if draws < 1:
            raise UserError("draws", f"is {draws}", allowed="a whole number of at least 1")
        if self._bytes_per_pixel is None:
            self.fit_memory()
        low = torch.from_numpy(scale.normalise(plane))[None, None].to(self.device)
        return draws_of(self.method, low, image, range(draws), self.seed, self.apply, self.batch, self.margin)

    def apply(self, network: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        """Applies a network tile by tile, folded, in bfloat16 if asked for."""
        return self.tiler(self.folded(network), *inputs)


def is_blank(plane: np.ndarray) -> bool:
    """Says whether all pixels of a plane are equal."""
    return bool(plane.min() == plane.max())


def _described(array: np.ndarray, axes: str | None, pixel_size: tuple[float, float] | None) -> ImageInfo:
    """Returns axes and shape of an array, or raises where they do not fit."""
    if array.ndim < 2:
        raise UserError(
            "image", f"has {array.ndim} dimensions", allowed="a plane (H, W) or a stack (…, H, W)"
        )
    named = axes or "TCZYX"[-array.ndim :]
    if len(named) != array.ndim or not named.endswith("YX"):
        raise UserError(
            "axes",
            f"is {named!r} for an array of {array.ndim} dimensions",
            allowed="a letter for each axis, with Y and X at the end, such as ZYX or TCZYX",
        )
    return ImageInfo(named, array.shape, array.dtype, pixel_size)


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
    if is_blank(plane):
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
