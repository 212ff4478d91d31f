"""Single planes restored by a trained model: prepared, normalised, sampled, averaged, and put back into intensities."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from ddpm_lightning.checkpoints.calibration import Calibration
from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.data.defects import repaired
from ddpm_lightning.data.normalise import Scale, without_offset
from ddpm_lightning.diffusion.ensemble import Ensemble
from ddpm_lightning.diffusion.randomness import Mixture
from ddpm_lightning.inference.arrays import as_image, checked
from ddpm_lightning.inference.bfloat16 import use_bfloat16
from ddpm_lightning.inference.distribution_shift import DistributionShiftCheck
from ddpm_lightning.inference.folded_weights import FoldedNetworks
from ddpm_lightning.inference.memory import available_bytes, bytes_per_pixel, is_out_of_memory
from ddpm_lightning.inference.observer import FirstEstimate, Observer
from ddpm_lightning.inference.precision import Precision
from ddpm_lightning.inference.residual_check import ResidualCheck
from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.restorer_settings import RestorerSettings
from ddpm_lightning.inference.stack_inputs import Noise, Scaling
from ddpm_lightning.inference.tiling import PIXELS_AT_ONCE, SMALLEST_TILE, Tiler
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.stack_axis import NeighboursAxis, StackAxis
from ddpm_lightning.models.sampling import ImageSampler
from ddpm_lightning.utils.errors import UserError

__all__ = ["PlaneRestorer", "Prepared"]

#: Longest side of tiles in pixels, if ``auto``.
TILE_ON_CPU, TILE_ON_GPU = 512, 1024
#: Share of the free memory that networks may use; images and other programs need some, too.
MEMORY_SHARE = 0.5

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """A plane as the network and its normalisation see it.

    Attributes:
        plane: The plane with shape (H, W), in intensities.
        replaced: Number of hot and dead pixels that were replaced.
    """

    plane: np.ndarray
    replaced: int


class PlaneRestorer:
    """Restores single planes of any size; see :class:`ddpm_lightning.inference.restorer.Restorer`.

    Args:
        trained: A trained method with its normalisation.
        settings: How it is applied.
        observer: Who is told how far a restoration is, and may cancel it.
        values: Single settings by name, which take precedence.

    Attributes:
        method: The method.
        device: Where its networks compute.
        normalisation: Fitted maps of low and high images.
        tiler: Applies networks tile by tile; its ``on_tiles`` and ``say`` may be set.
        shift_check: Compares images with those of the training.
        residual_check: Compares images with their restorations.

    Raises:
        UserError: If a setting is unknown or out of range.
    """

    def __init__(
        self,
        trained: Trained,
        settings: RestorerSettings | None = None,
        observer: Observer | None = None,
        **values: Any,
    ) -> None:
        if settings is None or values:
            settings = RestorerSettings.of({**(dict(settings) if settings else {}), **values})
        self.trained, self.method, self.normalisation = trained, trained.method, trained.normalisation
        self.seed, self.batch, self.margin = settings.seed, settings.batch, settings.margin
        self.tolerance, self.hot_pixels = settings.tolerance, settings.hot_pixels
        self.scaling: Scaling = settings.scale
        self.noise: Noise = settings.noise
        self.neighbours_axis: NeighboursAxis = settings.neighbours_axis
        if self.neighbours_axis != "auto" and not self.method.neighbours:
            raise UserError(
                f"neighbours_axis={self.neighbours_axis}",
                "has no effect: this model sees single planes only",
                remedy="leave it out, or use a model that was trained with data.neighbours",
            )
        self.average_neighbours = settings.average_neighbours
        if self.average_neighbours and (trained.method.deterministic or self.tolerance is not None):
            raise UserError(
                f"average_neighbours={self.average_neighbours}",
                "needs several samples of each plane, and the same number in all",
                remedy="leave it out, or use a model that makes samples, without tolerance",
            )
        if self.tolerance is not None and trained.mean == "network":
            raise UserError(
                f"tolerance={self.tolerance}",
                "has no effect: with this preset, the restored image is not an average of samples",
                remedy="leave it out",
            )
        self.shift_check = DistributionShiftCheck(trained)
        self.residual_check = ResidualCheck(trained)
        self.device = next(self.method.parameters()).device
        self.bfloat16 = use_bfloat16(settings.bfloat16, self.device)
        self.observer = observer
        self.networks = FoldedNetworks(self.bfloat16, settings.compiled, observer and observer.check)
        on_cpu = self.device.type == "cpu"
        self.tiler = Tiler(
            (TILE_ON_CPU if on_cpu else TILE_ON_GPU) if settings.tile == "auto" else settings.tile,
            settings.overlap,
            self.method.size_divisor,
            pixels=sys.maxsize if on_cpu else PIXELS_AT_ONCE,
            threads=settings.workers or torch.get_num_threads(),
            say=log.warning,
            on_tiles=observer.tiles_done if observer else lambda tiles: None,
        )
        self._fits_memory = False

    def stack_axis(self, info: ImageInfo) -> StackAxis:
        """Returns the axis along which the planes of an image are neighbours for the model; see the settings."""
        trained = self.trained.neighbours_axis
        if self.neighbours_axis != "auto":
            return StackAxis.of(info, self.neighbours_axis)
        found, first = StackAxis.of(info, trained), StackAxis.of(info)
        return found if found.letter or first.letter in ("Z", "T") else first

    def input_scale(self, plane: np.ndarray) -> Scale:
        """Returns the map of a prepared plane with shape (H, W) to the scale that the network sees."""
        return self.normalisation.input.scale(plane, self.trained.most_noise)

    def prepared(self, plane: np.ndarray | Prepared) -> Prepared:
        """Returns a plane as the network and its normalisation see it; a prepared plane is returned unchanged.

        Args:
            plane: Low image with shape (H, W), finite, of any real dtype.

        Raises:
            UserError: If the plane cannot be restored.
        """
        if isinstance(plane, Prepared):
            return plane
        plane = checked(as_image(plane))
        return Prepared(*repaired(plane)) if self.hot_pixels == "replace" else Prepared(plane, 0)

    def samples(
        self, plane: np.ndarray | Prepared, samples: int | None = None, image: str = ""
    ) -> Iterator[np.ndarray]:
        """Yields restored versions of a plane one by one, in intensities.

        Args:
            plane: Low image with shape (H, W), finite, of any real dtype; or the result of :meth:`prepared`.
            samples: Number of samples, by default that of the preset; a deterministic method makes one.
            image: Name of the plane. Noise is derived from it, so equal names give equal samples.

        Yields:
            Samples with shape (H, W), float32, or float64 if float32 cannot represent contrast and offset together.

        Raises:
            UserError: If the plane cannot be restored.
        """
        low = self.prepared(plane).plane
        numbers, scale = self.numbers(samples), self.input_scale(low)
        for sample in self.sampler(low, scale, image).samples(numbers, self.batch):
            yield self.normalisation.output_scale(scale).restore(sample[0, 0].cpu().numpy())

    def restore_plane(
        self,
        plane: np.ndarray | Prepared,
        samples: int | None = None,
        image: str | Mixture = "",
        *,
        scale: Scale | None = None,
        neighbours: Sequence[np.ndarray | None] = (),
        entropy: bool = False,
        keep_samples: bool = False,
        on_sample: Callable[[int, np.ndarray], None] | None = None,
    ) -> Restoration:
        """Restores a plane by the mean of samples, one of which at a time is in memory, or as the preset says.

        If mean and standard deviation are those of networks, samples are made only if something else needs them.

        Args:
            plane: Low image with shape (H, W), finite, of any real dtype; or the result of :meth:`prepared`.
            samples: Number of samples, by default that of the preset; a deterministic method makes one.
            image: Name of the plane, or a mixture of names. Noise is derived from it: equal names give equal samples.
            scale: Its map to the scale that the network sees, by default that of the plane (:meth:`input_scale`).
            neighbours: Prepared neighbours with shape (H, W) in the order of
                :mod:`ddpm_lightning.utils.plane_order`, ``None`` for missing ones.
            entropy: Whether the entropy is computed.
            keep_samples: Whether single samples are kept.
            on_sample: Called with the number of each sample and the sample itself, with shape (H, W), float32.

        Raises:
            UserError: If the plane cannot be restored.
        """
        requested = entropy or keep_samples or on_sample is not None
        prepared, numbers = self.prepared(plane), self.numbers(samples, requested)
        scale = self.input_scale(prepared.plane) if scale is None else scale
        output = self.normalisation.output_scale(scale)
        sampler = self.sampler(prepared.plane, scale, image, neighbours)
        ensemble, kept = Ensemble(self.normalisation.target_bounds if entropy else None), []
        precision = Precision(ensemble, 2 if self.method.antithetic else 1)
        try:
            posterior = sampler.posterior() if self.trained.mean == "network" else None
            for number, sample in enumerate(sampler.samples(numbers, self.batch)):
                precision.update(sample[0, 0].cpu())
                if on_sample or keep_samples:
                    pixels = output.restore(sample[0, 0].cpu().numpy())
                    if on_sample:
                        on_sample(number, pixels)
                    if keep_samples:
                        kept.append(pixels)
                if self.observer is not None and posterior is None:
                    self.observer.estimate(0, 0, output.restore(ensemble.mean.float().numpy()))
                if precision.suffices(self.tolerance):
                    break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            height, width = prepared.plane.shape
            found = f"does not suffice for a plane of {height} x {width} pixels"
            remedy = "close other programs, set batch=1, use device=cpu, or crop the image"
            raise UserError("memory", found, remedy=remedy) from error
        mean = ensemble.mean if posterior is None else posterior.mean[0, 0].cpu()
        if not mean.isfinite().all():
            raise UserError("image", "was restored to NaN or infinite values", remedy="check its intensities")
        # A single sample has no standard deviation: 0 would claim that the model is certain.
        std, several = None, ensemble.count > 1
        if posterior is not None and posterior.std is not None:
            std = posterior.std[0, 0].cpu()
        elif several:
            std = ensemble.std
        calibration = self.calibration(ensemble.count)
        factor = np.float32(calibration.std_factor if calibration else 1)
        return Restoration(
            output.restore(mean.float().numpy()),
            None if std is None else std.float().numpy() * np.float32(output.gain) * factor,
            ensemble.count,
            output.gain,
            ensemble.entropy.float().numpy() if entropy and several else None,
            np.stack(kept) if keep_samples else None,
            precision=precision.record() if posterior is None and not self.method.deterministic else None,
            replaced=prepared.replaced,
            calibration=calibration,
        )

    def calibration(self, samples: int | None = None) -> Calibration | None:
        """Returns the calibration by which standard deviations are scaled; ``None`` if there is none.

        A calibration is for a fixed number of samples, so there is none if a tolerance ends sampling early.

        Args:
            samples: Number of samples, by default that of the preset.
        """
        return self.trained.calibration(samples or self.trained.samples) if self.tolerance is None else None

    def unchanged(
        self, plane: np.ndarray, samples: int | None, *, entropy: bool = False, keep_samples: bool = False
    ) -> Restoration:
        """Returns a constant plane as its own restoration: it contains nothing to restore.

        Args:
            plane: Constant image with shape (H, W), in intensities.
            samples: Number of samples, by default that of the preset.
            entropy: Whether an entropy of 0 is included.
            keep_samples: Whether single samples are included.

        Raises:
            UserError: If the plane cannot be used.
        """
        count = self.trained.sample_count(samples, entropy or keep_samples)
        plane = checked(as_image(plane), blank=True)
        _, offset = without_offset(plane)
        mean, zero = plane.astype(np.float64 if offset else np.float32), np.zeros(plane.shape, np.float32)
        gain = self.normalisation.output_scale(self.input_scale(plane)).gain
        kept = np.repeat(mean[None], count, axis=0) if keep_samples else None
        std = zero if self.trained.has_std(count) else None
        entropies = zero if entropy and count > 1 else None
        return Restoration(mean, std, count, gain, entropies, kept, calibration=self.calibration(count))

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Returns height and width of the canvas of a plane: with its margin, and padded to what networks accept.

        Args:
            height: Height of the plane in pixels.
            width: Width of the plane in pixels.
        """
        margin, divisor = min(self.margin, height - 1, width - 1), self.method.size_divisor
        return -(-(height + 2 * margin) // divisor) * divisor, -(-(width + 2 * margin) // divisor) * divisor

    def tiles(self, height: int, width: int) -> int:
        """Returns the number of tiles of a plane that a network processes at each of its evaluations.

        Args:
            height: Height of the plane in pixels.
            width: Width of the plane in pixels.
        """
        return self.tiler.count(*self.canvas(height, width))

    @cached_property
    def bytes_per_pixel(self) -> float:
        """Memory that a network needs for each pixel of a tile, in bytes."""
        return bytes_per_pixel(self.method, self.device)

    def fit_memory(self) -> None:
        """Reduces tiles, and how many of them are computed at the same time, to what the free memory allows."""
        self._fits_memory = True
        tiler, wanted = self.tiler, self.tiler.tile
        if tiler.tile is None:
            return
        budget = MEMORY_SHARE * available_bytes(self.device)
        pixels = int(budget / self.bytes_per_pixel)
        while tiler.tile**2 > pixels and tiler.tile // 2 >= max(SMALLEST_TILE, self.method.size_divisor):
            tiler.shrink_tile(tiler.tile)
        if tiler.tile != wanted:
            tiler.say(
                f"{budget / 1e9:.2g} GB of memory are free: tiles of at most {tiler.tile} pixels instead of {wanted}"
            )
        tiler.pixels = min(tiler.pixels, pixels)

    def apply(self, network: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        """Applies a network with folded weights tile by tile, in bfloat16 if requested.

        Args:
            network: A network of the method, or a function of one.
            inputs: Images with shape (B, C, H, W), normalised, and further inputs with shape (B,).

        Returns:
            The output with shape (B, C', H, W).
        """
        return self.tiler(self.networks(network), *inputs)

    def sampler(
        self,
        plane: np.ndarray,
        scale: Scale,
        image: str | Mixture,
        neighbours: Sequence[np.ndarray | None] = (),
    ) -> ImageSampler:
        """Returns what makes samples of a prepared plane with shape (H, W) on its normalised scale.

        Args:
            plane: The plane, in intensities.
            scale: Its map to the scale that the network sees (:meth:`input_scale`).
            image: Name of the plane, or a mixture of names, from which noise is derived.
            neighbours: Prepared neighbours, used if the model makes use of them.
        """
        if not self._fits_memory:
            self.fit_memory()
        planes = [scale.normalise(plane)]
        count = 2 * self.method.neighbours
        around = [*neighbours, *[None] * count][:count]
        if any(other is not None for other in around):
            missing = np.full_like(planes[0], np.nan)
            planes += [missing if other is None else scale.normalise(other) for other in around]
        low = torch.from_numpy(np.stack(planes))[None].to(self.device)
        apply = FirstEstimate(self, self.observer, scale, plane.shape) if self.observer else self.apply
        return ImageSampler(self.method, low, image, self.seed, apply, self.margin, self.trained.tta)

    def numbers(self, samples: int | None, requested: bool = True) -> range:
        """Returns the numbers of the samples, by default as many as the preset says.

        Args:
            samples: Number of samples.
            requested: Whether anything but mean and standard deviation is computed from them.

        Raises:
            UserError: If there are none.
        """
        count = self.trained.sample_count(samples, requested)
        if samples is not None and samples < min(count, 1):
            raise UserError("samples", f"is {samples}", allowed="a whole number of at least 1")
        return range(count)
