"""Restores one file plane by plane; axes, data type and pixel size are those of the source."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.inference.control import inventions
from ddpm_lightning.inference.precision import least_precise
from ddpm_lightning.inference.projections import PROFILE, StackProjections, projected_axis
from ddpm_lightning.inference.readouts import PlaneReadouts
from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.restored_plane import PlaneNotes, RestoredPlane, replaced_pixels
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings, result_name
from ddpm_lightning.inference.sources import Source
from ddpm_lightning.io.formats import converted
from ddpm_lightning.io.image import ImageInfo, to_dtype
from ddpm_lightning.io.notes import Note, as_records, counted
from ddpm_lightning.io.plane_reader import PlaneReader
from ddpm_lightning.io.plane_writer import PlaneWriter
from ddpm_lightning.io.stacks import open_stack, open_writer, stem
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.readouts.readout import find_readouts
from ddpm_lightning.utils.errors import UserError, printable

__all__ = ["restore_file"]

#: With fewer grey levels, rounding costs more than the error of the restoration (36 dB of the range for 16 levels).
FEW_LEVELS = 16


def restore_file(
    restorer: Restorer,
    source: Source | Path,
    folder: Path,
    settings: FileSettings,
    intervals: Conformal | None = None,
    on_plane: Callable[[RestoredPlane], None] = lambda plane: None,
) -> dict[str, Any]:
    """Restores all planes of a file.

    Args:
        restorer: A loaded model.
        source: The file, with the name of its result; a path keeps its own name.
        folder: Where results are written; none appears unless all planes succeed.
        settings: What is written.
        intervals: Calibration of the intervals, if these are written.
        on_plane: Called after each plane.

    Returns:
        What was done: sizes, clipped pixels, blank planes, warnings, tiles, seconds.

    Raises:
        UserError: If the file cannot be read, restored or written.
    """
    began = time.monotonic()
    source, settings = (
        Source.of(source),
        settings.for_model(restorer.trained, restorer.average_neighbours > 0),
    )
    if printable(source.name) != source.name:
        # Names determine the noise, and are written to records that other programs read.
        raise UserError(source.path, "has a name that is not UTF-8", remedy="rename the file")
    with ExitStack() as files:
        stack = files.enter_context(open_stack(source.path, settings.channels))
        stack.check_bits()
        info = stack.info
        readouts = restorer.plane_readouts(find_readouts(settings.readout), settings.sample_count, info)
        outputs = _Outputs(files, source, folder, info, settings, intervals, readouts)
        notes, controlled = PlaneNotes(), {}
        inputs = restorer.stack_inputs(stack.plane, info, stem(source.name), source.path)
        for plane in restorer.restore_planes(
            map(stack.plane, range(len(stack))),
            info,
            inputs.planes,
            settings.sample_count,
            entropy=settings.entropy,
            on_sample=outputs.write_sample if outputs.needs_samples else None,
            subject=source.path,
        ):
            outputs.write(plane)
            notes.add(plane)
            if settings.control and plane.number == len(stack) // 2 and not plane.blank:
                scale = inputs.planes[plane.number].scale
                controlled = restorer.control(plane, settings.sample_count, readouts, scale)
            on_plane(plane)
        if len(notes.blank) == len(stack):
            where = " in every plane" if len(stack) > 1 else f": every pixel is {notes.constant:g}"
            raise UserError(source.path, f"is constant{where}", remedy="leave it out")
    outputs.finish()
    outcome = _outcome(restorer, stack, outputs, notes)
    rows = outputs.readouts.rows(stem(source.name), outcome["residual"])
    if controlled:
        outcome["warnings"] += inventions(controlled, outputs.readouts.readouts)
    return {
        **_about(source, info, outputs, restorer.trained.has_std(settings.sample_count)),
        **({"stack": inputs.record} if inputs.record else {}),
        **({"projected_axis": projected_axis(info)} if settings.projections else {}),
        **outcome,
        **({"readouts": [row.record() for row in rows]} if settings.readout else {}),
        **({"control": controlled} if controlled else {}),
        "tile": restorer.tiler.tile,
        "seconds": round(time.monotonic() - began, 2),
    }


@dataclass
class _Outputs:
    """The results of a file while they are written.

    Attributes:
        info: Description of the image that is written.
        clipped: Pixels that were clipped, below and above the range.
        clipped_samples: Pixels of single samples that were clipped.
        levels: Steps of the data type that each plane spans.
        counts: Samples of each plane.
        precisions: Precision of each plane.
        lost: Notes on metadata that the format of the results does not have.
    """

    files: ExitStack
    source: Source
    folder: Path
    info: ImageInfo
    settings: FileSettings
    intervals: Conformal | None
    readouts: PlaneReadouts
    clipped: np.ndarray = field(default_factory=lambda: np.zeros(2, int))
    clipped_samples: int = 0
    levels: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    precisions: list[dict[str, float | None] | None] = field(default_factory=list)
    lost: list[Note] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.settings.dtype != "same":
            self.info = self.info.with_dtype(self.settings.dtype)
        self.info, self.lost = converted(self.info, self.settings.format, self.source.path)
        self.image = self._open("")
        self.maps = {part: self._open(part, np.dtype(np.float32)) for part in self.settings.maps}
        self.single = [self._open(part) for part in self.settings.single_samples]
        self.projections = StackProjections(self.info, self.settings.projections, self.settings.sample_count)
        self.projected = {
            part: self._open(part, np.dtype(np.float32), self.projections.info)
            for part in self.settings.projected
        }

    def _open(self, part: str, dtype: np.dtype | None = None, info: ImageInfo | None = None) -> PlaneWriter:
        path = self.folder / result_name(self.source, part)
        return self.files.enter_context(open_writer(path, info or self.info, dtype))

    @property
    def needs_samples(self) -> bool:
        """Whether anything but mean and standard deviation is written or measured."""
        return bool(self.settings.single or self.settings.projections or self.settings.readout)

    def write_sample(self, number: int, pixels: np.ndarray) -> None:
        """Writes a single sample of a plane, and adds it to the projections."""
        self.projections.add_sample(number, pixels)
        self.readouts.add_sample(number, pixels)
        if not self.single:
            return
        converted, low, high = to_dtype(pixels, self.info.dtype, self.info.bits)
        self.single[number].write(converted)
        self.clipped_samples += low + high

    def write(self, plane: RestoredPlane) -> None:
        """Writes a plane and its maps."""
        restored = plane.restored
        if plane.blank:
            pixels, low, high = to_dtype(plane.low, self.info.dtype)
            for writer in self.single:
                writer.write(pixels)
        else:
            pixels, low, high = to_dtype(restored.mean, self.info.dtype, self.info.bits)
            self.levels.append(_levels(restored.mean, self.info.dtype))
            self.counts.append(restored.sample_count)
            self.precisions.append(restored.precision)
        self.clipped += low, high
        self.image.write(pixels)
        if self.settings.readout:
            self.readouts.add(plane.low, restored.mean, plane.name, plane.blank)
        for part, writer in self.maps.items():
            writer.write(_map(part, restored, self.intervals))
        if self.settings.projections:
            for part, projection in self.projections.add(restored).items():
                self.projected[part].write(projection)

    def finish(self) -> None:
        """Writes what needs all planes."""
        if PROFILE in self.settings.projections:
            self.projections.write_profile(self.folder / result_name(self.source, PROFILE), self.info)


def _about(source: Source, info: ImageInfo, outputs: _Outputs, has_std: bool) -> dict[str, Any]:
    """Returns the part of the record that describes the file."""
    written = outputs.info
    return {
        "file": source.name,
        **({"image": source.within} if source.within else {}),
        "axes": info.axes,
        "shape": list(info.shape),
        "dtype": str(written.dtype),
        **({"source_dtype": str(info.dtype)} if written.dtype != info.dtype else {}),
        "pixel_size_um": list(info.pixel_size) if info.pixel_size else None,
        "planes": info.plane_count,
        "samples": max(outputs.counts),
        "fewest_samples": min(outputs.counts),
        "precision": least_precise(outputs.precisions),
        **({} if has_std else {"no_std": "one sample: no standard deviation"}),
    }


def _outcome(restorer: Restorer, stack: PlaneReader, outputs: _Outputs, planes: PlaneNotes) -> dict[str, Any]:
    """Returns the part of the record that says what was changed, left out or noticed."""
    below, above = map(int, outputs.clipped)
    notes = [*stack.notes, *outputs.lost]
    if planes.replaced:
        notes.append(Note("replaced", planes.replaced, replaced_pixels(planes.replaced)))
    notes += _clipped(below, above, outputs.clipped_samples, outputs.info)
    notes += _rounded(np.array(outputs.levels), stack.info, outputs.info)
    unlike = restorer.shift_check.warnings(planes.features, stack.info.pixel_size)
    residual = restorer.residual_check.warnings(planes.residuals)
    return {
        "clipped_below": below,
        "clipped_above": above,
        "replaced_pixels": planes.replaced,
        "blank_planes": planes.blank,
        "unlike_training": unlike,
        "residual": residual,
        "notes": as_records(notes),
        "warnings": [*unlike, *residual, *dict.fromkeys(note.text for note in notes)],
    }


def _clipped(below: int, above: int, samples: int, written: ImageInfo) -> list[Note]:
    """Returns notes on clipped pixels of the image and of its single samples."""
    limits = f"{written.bits} bits" if written.bits else str(written.dtype)
    notes = []
    if total := below + above:
        pixels = counted(total, "pixel was", "pixels were")
        text = f"{pixels} clipped to the range of {limits} ({below} below, {above} above)"
        notes.append(Note("clipped", total, text))
    if samples:
        pixels = counted(samples, "pixel of single samples was", "pixels of single samples were")
        text = f"{pixels} clipped to the range of {limits}"
        notes.append(Note("clipped", samples, text))
    return notes


def _levels(restored: np.ndarray, dtype: np.dtype) -> float:
    """Returns how many steps of a data type restored values span; the steps of floats grow with the offset."""
    step = 1.0
    if dtype.kind == "f":
        step = np.spacing(np.minimum(np.abs(restored).max(), np.finfo(dtype).max).astype(dtype))
    return float(np.ptp(restored) / np.float64(step))


def _rounded(levels: np.ndarray, source: ImageInfo, written: ImageInfo) -> list[Note]:
    """Returns a note if the data type that is written cannot represent the restored image.

    Dim planes among bright ones lose little by rounding to integers. Floats have few levels if the offset is large.
    """
    few = levels < FEW_LEVELS
    dtype = written.dtype
    if dtype.kind != "f":
        if not few.all():
            return []
        text = (
            f"the restored values span {levels.max():.2g} grey levels and were rounded to {dtype}, which loses"
            " detail; dtype=float32 keeps it"
        )
        return [Note("rounded", len(levels), text)]
    if not few.any():
        return []
    remedy = "dtype=same keeps more of it"
    if dtype == source.dtype:
        remedy = (
            "subtract the offset from the image before" if dtype.itemsize > 2 else "dtype=float32 keeps it"
        )
    text = (
        f"with their offset, the restored values span {levels.min():.2g} steps of {dtype} and were rounded to them,"
        f" which loses detail; {remedy}"
    )
    return [Note("rounded", int(few.sum()), text)]


def _map(part: str, restored: Restoration, intervals: Conformal | None) -> np.ndarray:
    """Returns one of the float32 maps of a plane with shape (H, W), in intensities (the entropy in nats)."""
    if not part.startswith("interval"):
        return getattr(restored, part)
    std = restored.uncalibrated_std
    if intervals is None or std is None:
        raise ValueError("intervals need a calibration and a standard deviation")
    # What the calibration adds to the standard deviation is a number of the model's scale.
    half = intervals.factor * (std + np.float32(intervals.epsilon * restored.gain))
    return (restored.mean + (half if part == "interval_high" else -half)).astype(np.float32)
