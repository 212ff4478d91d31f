"""A trained model as a function of arrays.

>>> restorer = Restorer.load("runs/demo/checkpoints/best.ckpt")                    # doctest: +SKIP
>>> restored = restorer.restore(noisy, samples=15)                                   # doctest: +SKIP
>>> restored.mean, restored.std                                                    # doctest: +SKIP
>>> volume = restorer.restore(stack, axes="TCZYX", pixel_size=(0.1, 0.1))          # doctest: +SKIP
>>> volume.warnings                                                                # doctest: +SKIP
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpm_lightning.checkpoints.load import Trained, load
from ddpm_lightning.data.defects import repaired
from ddpm_lightning.data.normalise import Scale, without_offset
from ddpm_lightning.diffusion.ensemble import Ensemble
from ddpm_lightning.inference.arrays import as_image, as_pixel_size, checked, described_array, is_blank
from ddpm_lightning.inference.bfloat16 import BFloat16, chosen
from ddpm_lightning.inference.distribution_shift import DistributionShiftCheck
from ddpm_lightning.inference.folded_weights import FoldedNetworks
from ddpm_lightning.inference.memory import available_bytes, bytes_per_pixel, is_out_of_memory
from ddpm_lightning.inference.precision import Precision
from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.tiling import SMALLEST_TILE, Tiler
from ddpm_lightning.io.notes import counted
from ddpm_lightning.models.sampling import samples_of
from ddpm_lightning.utils.errors import UserError, nearest
from ddpm_lightning.utils.registry import trusted_packages

__all__ = ["HOT_PIXELS", "Restorer", "choose_device", "replaced_pixels"]

#: Pixels that a GPU computes together, at most.
PIXELS_AT_ONCE = 2**20
#: Part of the free memory that networks may take; canvases and other programs need some, too.
MEMORY_SHARE = 0.5
#: Reflected pixels around a plane, which keep what networks do at a border off the image.
MARGIN = 16
#: Treatment of defective pixels.
HOT_PIXELS = ("replace", "keep")

log = logging.getLogger(__name__)


class Restorer:
    """Restores planes of any size.

    Args:
        trained: A trained method with its normalisation.
        tile: Side in pixels of the tiles that networks see, halved where memory falls short; ``None`` shows them whole
            planes.
        overlap: Pixels that neighbouring tiles share.
        seed: Seed of the samples.
        bfloat16: Whether networks compute in bfloat16: about twice as fast if the processor supports it, far slower if
            not; ``auto`` finds out. Samples differ from those in float32 by a few hundredths of their standard
            deviation.
        batch: Samples that are computed together; by default as many as make a million pixels. On a GPU the batch moves
            the last digits of samples by rounding; on a CPU it does not.
        threads: Tiles or samples that a CPU computes side by side; by default as many as PyTorch has threads. The
            result does not depend on it.
        margin: Reflected pixels around a plane, without which samples disagree too much at its border.
        tolerance: Samples end before their number is reached once the standard error of their mean is below this share
            of the image's range (:mod:`ddpm_lightning.inference.precision`).
        compiled: Whether networks are compiled, on a GPU with CUDA graphs; worth its minutes for large jobs only.
        hot_pixels: ``replace`` replaces hot and dead pixels, cosmic rays, dead rows and columns by the median of the
            intact pixels around them (:mod:`ddpm_lightning.data.defects`), before the range of the image is measured
            and a network sees it; ``keep`` leaves them unchanged.

    Attributes:
        tiler: Applies networks; its ``on_tiles`` and ``say`` may be set.
    """

    def __init__(
        self,
        trained: Trained,
        tile: int | None = 256,
        overlap: int = 32,
        seed: int = 0,
        bfloat16: BFloat16 = False,
        batch: int | None = None,
        threads: int | None = None,
        margin: int = MARGIN,
        tolerance: float | None = None,
        compiled: bool = False,
        hot_pixels: str = "replace",
    ) -> None:
        if hot_pixels not in HOT_PIXELS:
            raise UserError("hot_pixels", f"is {hot_pixels!r}", allowed=" or ".join(HOT_PIXELS))
        self.hot_pixels = hot_pixels
        self.trained, self.method, self.normalisation = trained, trained.method, trained.normalisation
        self.seed, self.batch, self.margin = seed, batch, margin
        self.shift_check = DistributionShiftCheck(trained)
        self.device = next(self.method.parameters()).device
        self.bfloat16 = chosen(bfloat16, self.device)
        self.tolerance, self.networks = tolerance, FoldedNetworks(self.bfloat16, compiled)
        at_once = max(1, PIXELS_AT_ONCE // (tile or SMALLEST_TILE) ** 2)
        threads = threads or torch.get_num_threads()
        self.tiler = Tiler(tile, overlap, self.method.size_divisor, at_once, threads, say=log.warning)
        self._bytes_per_pixel: float | None = None

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        device: str = "auto",
        sampler: dict[str, Any] | None = None,
        preset: str | None = None,
        trust: Sequence[str] = (),
        samples: int | None = None,
        **settings: Any,
    ) -> "Restorer":
        """Loads a checkpoint; see :func:`ddpm_lightning.checkpoints.load.load` for what can be wrong with it.

        Args:
            checkpoint: File written by ``ddpm-lightning train``.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            sampler: Settings that replace those of the sampler.
            preset: Name of a preset of the model, or ``stored``; by default its first, unless a sampler is given.
            trust: Top-level packages whose classes the file may name, beside those that this program registers.
            samples: Samples of each image, if not as many as the preset says; :meth:`restore` may be told otherwise.
            settings: Settings of :class:`Restorer`.

        Raises:
            UserError: If the file cannot be used, or a setting is not known.
        """
        known = [name for name in signature(cls).parameters if name != "trained"]
        if unknown := [name for name in settings if name not in known]:
            near = nearest(unknown[0], known)
            remedy = f"did you mean {near[0]}=?" if near else ""
            raise UserError(unknown[0], "is no setting of Restorer", ", ".join(known), remedy)
        if samples is not None and (isinstance(samples, bool) or not isinstance(samples, int) or samples < 1):
            raise UserError("samples", f"is {samples!r}", allowed="a whole number of at least 1")
        packages = trusted_packages(trust)
        trained = load(checkpoint, choose_device(device), sampler, preset, samples, trust=packages)
        return cls(trained, **settings)

    def samples(self, plane: np.ndarray, samples: int | None = None, image: str = "") -> Iterator[np.ndarray]:
        """Yields restored versions of a plane one by one, in intensities.

        Args:
            plane: Low image with shape (H, W), finite, of any dtype.
            samples: Number of samples, by default as the preset says; a deterministic method makes one.
            image: Identity of the plane: it keys the noise, so equal names give equal samples.

        Yields:
            Samples with shape (H, W), float32, or float64 if float32 cannot represent contrast and offset together.

        Raises:
            UserError: If the plane cannot be restored.
        """
        plane, _ = self.prepared(plane)
        scale = self.input_scale(plane)
        for sample in self._normalised(plane, scale, samples, image):
            yield self.normalisation.output_scale(scale).restore(sample[0, 0].cpu().numpy())

    def input_scale(self, plane: np.ndarray) -> Scale:
        """Returns the map of a prepared plane with shape (H, W) to the scale that the network sees."""
        return self.normalisation.input.scale(plane, self.trained.most_noise)

    def prepared(self, plane: np.ndarray) -> tuple[np.ndarray, int]:
        """Returns a plane as the network and its normalisation see it, and the number of replaced pixels.

        Raises:
            UserError: If the plane cannot be restored.
        """
        plane = checked(as_image(plane))
        return repaired(plane) if self.hot_pixels == "replace" else (plane, 0)

    def restore(
        self,
        array: Any,
        samples: int | None = None,
        image: str = "",
        axes: str | None = None,
        pixel_size: Any = None,
        *,
        entropy: bool = False,
        keep_samples: bool = False,
    ) -> Restoration:
        """Restores a plane or a stack, each plane by itself, by the mean of samples.

        A constant plane contains nothing to restore: it is returned unchanged, with a warning.

        Args:
            array: Low images with shape (…, H, W), of any real dtype, finite, without masked pixels.
            samples: Number of samples, by default as the preset says; a deterministic method makes one.
            image: Identity of the image: it keys the noise, so equal names give equal samples.
            axes: A letter for each axis, ending in ``YX``: ``ZYX``, ``TCZYX``; they enter the names of planes.
            pixel_size: Size of a pixel in µm, or a sequence or array of two numbers (y, x), to be compared with that
                of the training images.
            entropy: Whether the entropy is computed; it costs a byte for each pixel and sample.
            keep_samples: Whether single samples are kept.

        Raises:
            UserError: If the array cannot be restored, or single samples of a stack are asked for with a tolerance, by
                which planes have different numbers of samples.
        """
        array, size = as_image(array), as_pixel_size(pixel_size)
        info = described_array(array, axes, size)
        if keep_samples and self.tolerance is not None and info.plane_count > 1:
            raise UserError(
                "keep_samples=True",
                f"needs equally many samples of all {info.plane_count} planes; tolerance={self.tolerance} ends them"
                " early",
                remedy="leave one out, or restore plane by plane",
            )
        planes, described, blank = [], [], []
        for place, plane in zip(info.planes(), array.reshape(-1, *info.plane_shape), strict=True):
            if is_blank(plane):
                planes.append(self.unchanged(plane, samples, entropy, keep_samples))
                blank.append(place.label or str(place.number))
                continue
            key = "_".join(part for part in (image, place.label) if part)
            try:
                planes.append(
                    self.restore_plane(plane, samples, key, entropy=entropy, keep_samples=keep_samples)
                )
            except UserError as error:
                where = f"{error.subject} ({place.label})" if place.label else error.subject
                raise UserError(where, error.found, error.allowed, error.remedy) from error
            described.append(self.shift_check.describe(self.prepared(plane)[0]))
        warnings = self.shift_check.warnings(described, size)
        if blank:
            count = counted(len(planes), "plane is", "planes are")
            warnings.append(f"{len(blank)} of {count} constant and left unchanged")
        if count := sum(plane.replaced for plane in planes):
            warnings.append(replaced_pixels(count))
        return Restoration.of_planes(
            planes,
            array.shape,
            warnings=tuple(warnings),
            blank=tuple(blank),
            axes=info.axes,
            pixel_size=size,
        )

    def restore_plane(
        self,
        plane: np.ndarray,
        samples: int | None = None,
        image: str = "",
        *,
        entropy: bool = False,
        keep_samples: bool = False,
        on_sample: Callable[[int, np.ndarray], None] | None = None,
    ) -> Restoration:
        """Restores a plane by the mean of samples, of which one at a time is in memory.

        Args:
            plane: Low image with shape (H, W), finite, of any real dtype.
            samples: Number of samples, by default as the preset says; a deterministic method makes one.
            image: Identity of the plane.
            entropy: Whether the entropy is computed.
            keep_samples: Whether single samples are kept.
            on_sample: Called with the number of each sample and the sample itself, with shape (H, W), float32.

        Raises:
            UserError: If the plane cannot be restored.
        """
        plane, replaced = self.prepared(plane)
        scale = self.input_scale(plane)
        output = self.normalisation.output_scale(scale)
        ensemble, kept = Ensemble(self.method.bounds if entropy else None), []
        precision = Precision(ensemble, 2 if self.method.antithetic else 1)
        try:
            for number, sample in enumerate(self._normalised(plane, scale, samples, image)):
                precision.update(sample[0, 0].cpu())
                if on_sample or keep_samples:
                    pixels = output.restore(sample[0, 0].cpu().numpy())
                    if on_sample:
                        on_sample(number, pixels)
                    if keep_samples:
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
        # For a single sample both would be 0 everywhere, as if the model were certain.
        several = ensemble.count > 1
        return Restoration(
            output.restore(ensemble.mean.float().numpy()),
            ensemble.std.float().numpy() * np.float32(output.gain) if several else None,
            ensemble.count,
            output.gain,
            ensemble.entropy.float().numpy() if entropy and several else None,
            np.stack(kept) if keep_samples else None,
            precision=None if self.method.deterministic else precision.record(),
            replaced=replaced,
        )

    def unchanged(
        self, plane: np.ndarray, samples: int | None, entropy: bool, keep_samples: bool
    ) -> Restoration:
        """Returns a blank plane as its own restoration: there is nothing to restore, and nothing is invented."""
        count = 1 if self.method.deterministic else samples or self.trained.samples
        plane = checked(as_image(plane), blank=True)
        _, offset = without_offset(plane)
        mean, zero = plane.astype(np.float64 if offset else np.float32), np.zeros(plane.shape, np.float32)
        gain = self.normalisation.output_scale(self.input_scale(plane)).gain
        kept = np.repeat(mean[None], count, axis=0) if keep_samples else None
        std = zero if count > 1 else None
        return Restoration(mean, std, count, gain, std if entropy else None, kept)

    def tiles(self, height: int, width: int) -> int:
        """Returns how many tiles of a plane a network sees at each of its evaluations."""
        margin = min(self.margin, height - 1, width - 1)
        padded = (
            -(-(n + 2 * margin) // self.method.size_divisor) * self.method.size_divisor
            for n in (height, width)
        )
        return self.tiler.count(*padded)

    def fit_memory(self) -> None:
        """Makes batch, threads and tiles as large as the free memory allows, and no larger than they were set."""
        tiler, wanted = self.tiler, self.tiler.tile
        if tiler.tile is None:
            return
        self._bytes_per_pixel = bytes_per_pixel(self.method, self.device)
        budget = MEMORY_SHARE * available_bytes(self.device)
        while self.tile_bytes > budget and tiler.tile // 2 >= max(SMALLEST_TILE, self.method.size_divisor):
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
        self, plane: np.ndarray, scale: Scale, samples: int | None, image: str
    ) -> Iterator[torch.Tensor]:
        samples = self.trained.samples if samples is None else samples
        if samples < 1:
            raise UserError("samples", f"is {samples}", allowed="a whole number of at least 1")
        if self._bytes_per_pixel is None:
            self.fit_memory()
        low = torch.from_numpy(scale.normalise(plane))[None, None].to(self.device)
        return samples_of(
            self.method, low, image, range(samples), self.seed, self.apply, self.batch, self.margin
        )

    def apply(self, network: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        """Applies a network tile by tile, folded, in bfloat16 if asked for."""
        return self.tiler(self.networks(network), *inputs)


def replaced_pixels(count: int) -> str:
    """Returns the note on the number of replaced pixels."""
    return f"{counted(count, 'hot or dead pixel was', 'hot or dead pixels were')} replaced; hot_pixels=keep keeps them"


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
