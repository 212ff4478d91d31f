"""A trained model as a function of arrays.

>>> restorer = Restorer.load("runs/demo/checkpoints/best.ckpt")                    # doctest: +SKIP
>>> restored = restorer.restore(noisy, samples=15)                                 # doctest: +SKIP
>>> restored.mean, restored.std                                                    # doctest: +SKIP
>>> volume = restorer.restore(stack, axes="TCZYX", pixel_size=(0.1, 0.1))          # doctest: +SKIP
>>> volume.warnings                                                                # doctest: +SKIP
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.data.normalise import Scale
from ddpm_lightning.inference.arrays import as_image, as_pixel_size, described_array, is_blank
from ddpm_lightning.inference.control import control
from ddpm_lightning.inference.device import choose_device
from ddpm_lightning.inference.neighbour_average import Neighbours, averaged_planes
from ddpm_lightning.inference.plane_restorer import PlaneRestorer, Prepared
from ddpm_lightning.inference.plane_window import PlaneWindow
from ddpm_lightning.inference.readouts import PlaneReadouts, isotropic
from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.restored_plane import PlaneNotes, RestoredPlane, replaced_pixels
from ddpm_lightning.inference.restorer_settings import RestorerSettings
from ddpm_lightning.inference.stack_inputs import Noise, PlaneInputs, StackInputs, measure_stack
from ddpm_lightning.io.image import ImageInfo, PlaneIndex
from ddpm_lightning.io.notes import counted
from ddpm_lightning.readouts.readout import Readout, find_readouts
from ddpm_lightning.utils.allowed_classes import trusted_packages
from ddpm_lightning.utils.errors import UserError

__all__ = ["Restorer", "RestorerSettings", "choose_device"]

#: Most planes of an image that are compared with the training images.
COMPARED = 8


class Restorer(PlaneRestorer):
    """Restores arrays of any size with a trained model.

    Args:
        trained: A trained method with its normalisation; :meth:`load` reads one.
        settings: How it is applied.
        values: Single settings of :class:`RestorerSettings` by name, which take precedence.

    Raises:
        UserError: If a setting is unknown or out of range.
    """

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
        """Loads a trained model; see :func:`ddpm_lightning.checkpoints.load.load` for what can be wrong with it.

        Args:
            checkpoint: File written by ``ddpm-lightning train`` or ``export``, or the name of a shipped model.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            sampler: Settings that replace those of the sampler; with ``_target_``, another sampler.
            preset: Name of a preset of the model, or ``stored``; by default its first, unless a sampler is given.
            trust: Top-level packages whose classes the file may use, in addition to those registered by this program.
            samples: Samples of each image, if not as many as the preset says; :meth:`restore` takes precedence.
            settings: Settings of :class:`RestorerSettings` by name.

        Returns:
            A restorer.

        Raises:
            UserError: If the file cannot be used, or a setting is unknown or out of range.
        """
        checked = RestorerSettings.of(settings)
        if samples is not None and (isinstance(samples, bool) or not isinstance(samples, int) or samples < 1):
            raise UserError("samples", f"is {samples!r}", allowed="a whole number of at least 1")
        packages = trusted_packages(trust)
        return cls(load(checkpoint, choose_device(device), sampler, preset, samples, trust=packages), checked)

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
        readout: Sequence[str | Mapping[str, Any]] = (),
    ) -> Restoration:
        """Restores a plane or a stack, plane by plane, by the mean of samples.

        The planes of a stack share their scale of intensities and noise, as the settings ``scale`` and ``noise`` say. A
        constant plane contains nothing to restore: it is returned unchanged, with a warning.

        Args:
            array: Low images with shape (…, H, W), in intensities, of any real dtype, finite, without masked pixels.
            samples: Number of samples, by default that of the preset; a deterministic method makes one.
            image: Name of the image. Noise is derived from it, so equal names give equal samples.
            axes: A letter for each axis, ending in ``YX``, such as ``ZYX`` or ``TCZYX``. Noise depends on them, too.
            pixel_size: Size of a pixel in µm, or a sequence or array of two numbers (y, x), to be compared with that
                of the training images.
            entropy: Whether the entropy is computed; it costs a byte for each pixel and sample.
            keep_samples: Whether single samples are kept.
            readout: What is measured in each plane and its samples: names, or mappings of ``name`` and settings
                (:mod:`ddpm_lightning.readouts.readout`).

        Returns:
            Mean and standard deviation with the shape of the array, in intensities, readouts, and warnings.

        Raises:
            UserError: If the array cannot be restored, or if single samples of a stack are requested with a tolerance,
                because its planes then have different numbers of samples.
        """
        array, size = as_image(array), as_pixel_size(pixel_size)
        info = described_array(array, axes, size)
        if keep_samples and self.tolerance is not None and info.plane_count > 1:
            raise UserError(
                "keep_samples=True",
                f"needs the same number of samples for all {info.plane_count} planes; "
                f"tolerance={self.tolerance} ends sampling early",
                remedy="leave one out, or restore plane by plane",
            )
        planes, notes = [], PlaneNotes()
        readouts = self.plane_readouts(find_readouts(readout), samples, info)
        low = array.reshape(-1, *info.plane_shape)
        inputs = self.stack_inputs(low.__getitem__, info, image)
        for plane in self.restore_planes(
            low,
            info,
            inputs.planes,
            samples,
            entropy=entropy,
            keep_samples=keep_samples,
            on_sample=readouts.add_sample if readout else None,
        ):
            planes.append(plane.restored)
            notes.add(plane)
            if readout:
                readouts.add(plane.low, plane.restored.mean, plane.name, plane.blank)
        warnings = self.shift_check.warnings(notes.features, size)
        residual = self.residual_check.warnings(notes.residuals)
        warnings += residual
        rows = readouts.rows(image, residual)
        if notes.blank:
            count = counted(len(planes), "plane is", "planes are")
            warnings.append(f"{len(notes.blank)} of {count} constant and left unchanged")
        if notes.replaced:
            warnings.append(replaced_pixels(notes.replaced))
        return Restoration.of_planes(
            planes,
            array.shape,
            warnings=tuple(warnings),
            blank=tuple(notes.blank),
            axes=info.axes,
            pixel_size=size,
            readouts=tuple(rows),
        )

    def plane_readouts(
        self, readouts: Sequence[Readout], samples: int | None, info: ImageInfo
    ) -> PlaneReadouts:
        """Returns what measures the planes of an image.

        Args:
            readouts: What is measured.
            samples: Number of samples of each plane, by default that of the preset.
            info: Axes, shape and pixel size of the image.

        Raises:
            UserError: If the number of samples varies.
        """
        if readouts and self.tolerance is not None:
            raise UserError(
                "readout",
                "needs a fixed number of samples; tolerance=… ends sampling early",
                remedy="leave one out",
            )
        other = "planes are averaged with their neighbours" if self.average_neighbours else ""
        count = self.trained.sample_count(samples)
        return PlaneReadouts(readouts, self.trained, count, isotropic(info.pixel_size), other)

    def control(
        self, plane: RestoredPlane, samples: int | None, readouts: PlaneReadouts, scale: Scale | None = None
    ) -> dict[str, Any]:
        """Restores images without structure as a plane was restored, and measures what is invented in them.

        Args:
            plane: The plane; its noise is that of these images.
            samples: Number of samples, by default that of the preset.
            readouts: What is measured; if nothing is, the default of :mod:`ddpm_lightning.inference.control`.
            scale: Map of the plane to the scale that the network sees, by default its own.

        Returns:
            What was found in each of them; see :func:`ddpm_lightning.inference.control.control`.
        """
        low = self.prepared(plane.low).plane
        scale = self.input_scale(low) if scale is None else scale

        def restored(image: np.ndarray) -> np.ndarray:
            return self.restore_plane(Prepared(image, 0), samples, "control", scale=scale).mean

        return control(restored, low, plane.restored.mean, readouts.readouts, readouts.pixel_size, self.seed)

    def stack_inputs(
        self, plane: Callable[[int], np.ndarray], info: ImageInfo, image: str = "", subject: object = None
    ) -> StackInputs:
        """Returns what the planes of an image share; a stack is read once for that.

        Args:
            plane: Returns a plane by its number, with shape (H, W), in intensities.
            info: Axes and shape of the image.
            image: Name of the image. Noise is derived from it and from the place of each plane.
            subject: What an error is about, if not a single setting or the array itself, such as a file.

        Raises:
            UserError: If a plane cannot be restored; it names the plane.
        """

        def prepared(place: PlaneIndex) -> np.ndarray | None:
            low = plane(place.number)
            with _error_names(place, subject):
                found = self._prepared_unless_blank(low)
                return None if found is None else found.plane

        own_scale = self.input_scale if self.normalisation.input.per_image else None
        noise: Noise = "independent" if self.method.deterministic else self.noise
        inputs = measure_stack(info, image, self.scaling, noise, prepared, own_scale)
        if self.average_neighbours and inputs.record:
            inputs.record["average_neighbours"] = self.average_neighbours
        if self.method.neighbours and inputs.record:
            axis = self.stack_axis(info).letter.lower()
            inputs.record["neighbours"] = {
                "planes": self.method.neighbours if axis else 0,
                "axis": axis or None,
            }
        return inputs

    def restore_planes(
        self,
        planes: Iterable[np.ndarray],
        info: ImageInfo,
        inputs: Sequence[PlaneInputs],
        samples: int | None = None,
        *,
        entropy: bool = False,
        keep_samples: bool = False,
        on_sample: Callable[[int, np.ndarray], None] | None = None,
        subject: object = None,
    ) -> Iterator[RestoredPlane]:
        """Restores the planes of an image one by one; constant planes are left unchanged.

        If planes are averaged with their neighbours, those that are still needed are in memory with their samples.

        Args:
            planes: All planes in order, each with shape (H, W), in intensities.
            info: Axes and shape of the image.
            inputs: Scale and noise of each plane (:meth:`stack_inputs`).
            samples: Number of samples, by default that of the preset; a deterministic method makes one.
            entropy: Whether the entropy is computed.
            keep_samples: Whether single samples are kept.
            on_sample: Called with the number of each sample and the sample itself; not for constant planes.
            subject: What an error is about, if not a single setting or the array itself, such as a file.

        Yields:
            The planes in order.

        Raises:
            UserError: If a plane cannot be restored; it names the plane.
        """
        neighbours = Neighbours.of(info, self.average_neighbours)
        if not neighbours.reach:
            yield from self._restore_each(
                planes,
                info,
                inputs,
                samples,
                entropy=entropy,
                keep_samples=keep_samples,
                on_sample=on_sample,
                subject=subject,
            )
            return
        if entropy or len(self.numbers(samples)) == 1:
            raise UserError(
                f"average_neighbours={self.average_neighbours}",
                "needs two or more samples of each plane, and cannot be combined with entropy=true",
                remedy="leave it out, or set samples=8 and entropy=false",
            )
        each = self._restore_each(planes, info, inputs, samples, keep_samples=True, subject=subject)
        yield from averaged_planes(each, neighbours, keep_samples, on_sample)

    def _restore_each(
        self,
        planes: Iterable[np.ndarray],
        info: ImageInfo,
        inputs: Sequence[PlaneInputs],
        samples: int | None = None,
        *,
        entropy: bool = False,
        keep_samples: bool = False,
        on_sample: Callable[[int, np.ndarray], None] | None = None,
        subject: object = None,
    ) -> Iterator[RestoredPlane]:
        """Restores the planes of an image by themselves; see :meth:`restore_planes`."""
        compared = np.linspace(0, info.plane_count - 1, min(COMPARED, info.plane_count)).round().astype(int)
        window = PlaneWindow(
            planes, self._prepared_unless_blank, self.stack_axis(info), self.method.neighbours
        )
        for place, (noise, scale) in zip(info.planes(), inputs, strict=True):
            features, residual, low = None, None, window.plane(place.number)
            with _error_names(place, subject):
                prepared = window.prepared(place.number)
                blank = prepared is None
                if prepared is None:
                    restored = self.unchanged(low, samples, entropy=entropy, keep_samples=keep_samples)
                else:
                    around = window.around(place.number)
                    restored = self.restore_plane(
                        prepared,
                        samples,
                        noise,
                        scale=scale,
                        neighbours=[None if other is None else other.plane for other in around],
                        entropy=entropy,
                        keep_samples=keep_samples,
                        on_sample=on_sample,
                    )
                    if place.number in compared:
                        features = self.shift_check.describe(prepared.plane)
                        residual = self.residual_check.test(prepared.plane, restored.mean)
            yield RestoredPlane(place.number, place.label, low, restored, blank, features, residual)

    def _prepared_unless_blank(self, low: np.ndarray) -> Prepared | None:
        return None if is_blank(low) else self.prepared(low)


@contextmanager
def _error_names(place: PlaneIndex, subject: object) -> Iterator[None]:
    """Adds the place of a plane to what an error is about."""
    try:
        yield
    except UserError as error:
        about = error.subject if subject is None else subject
        where = f"{about} ({place.label})" if place.label else about
        raise type(error)(where, error.found, error.allowed, error.remedy) from error
