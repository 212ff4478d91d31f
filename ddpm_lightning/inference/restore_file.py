"""One file restored: any axes in, the same axes, type and sampling out, plane by plane."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.inference.arrays import is_blank
from ddpm_lightning.inference.files import Settings, result_name
from ddpm_lightning.inference.precision import least_precise
from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.restorer import Restorer, replaced_pixels
from ddpm_lightning.inference.sources import Source
from ddpm_lightning.io.image import ImageInfo, to_dtype
from ddpm_lightning.io.notes import Note, as_records, counted
from ddpm_lightning.io.stacks import open_stack, open_writer, stem
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.utils.errors import UserError, printable

__all__ = ["restore_file"]

#: Planes of a file that are compared with the training images.
LOOKED_AT = 8
#: With fewer grey levels, rounding costs more than the error of the restoration (36 dB of the range for 16 levels).
FEW_LEVELS = 16
#: Called after each plane with its number, the plane and its restoration.
OnPlane = Callable[[int, np.ndarray, Restoration], None]


def restore_file(
    restorer: Restorer,
    source: Source | Path,
    folder: Path,
    settings: Settings = Settings(),  # noqa: B008  (frozen)
    on_plane: OnPlane = lambda number, plane, restored: None,
) -> dict[str, Any]:
    """Restores all planes of a file.

    Args:
        restorer: A loaded model.
        source: The file, with the name of its result; a path keeps its own name.
        folder: Where results are written; none appears unless all planes succeed.
        settings: How.
        on_plane: Called after each plane.

    Returns:
        What was done: sizes, clipped pixels, blank planes, warnings, tiles, seconds.

    Raises:
        UserError: If the file cannot be read, restored or written.
    """
    began = time.monotonic()
    source = Source.of(source)
    if printable(source.name) != source.name:
        # Names determine the noise, and appear in records that other programs read.
        raise UserError(source.path, "has a name that is not UTF-8", remedy="rename the file")
    if restorer.method.deterministic:
        settings = replace(settings, samples=1)
    with ExitStack() as files:
        stack = files.enter_context(open_stack(source.path, settings.channels))
        stack.check_bits()
        info = stack.info
        written = info if settings.dtype == "same" else info.with_dtype(settings.dtype)
        looked_at = set(np.linspace(0, len(stack) - 1, min(LOOKED_AT, len(stack))).round().astype(int))
        writers = {
            part: files.enter_context(open_writer(folder / result_name(source, part), written, dtype))
            for part, dtype in {"": None, **dict.fromkeys(settings.maps, np.float32)}.items()
        }
        single = [
            files.enter_context(
                open_writer(folder / result_name(source, f"sample_{number + 1:02d}"), written)
            )
            for number in range(settings.samples * settings.single)
        ]

        clipped, clipped_samples, replaced, levels = np.zeros(2, int), 0, 0, []

        def write_sample(number: int, pixels: np.ndarray) -> None:
            nonlocal clipped_samples
            converted, low, high = to_dtype(pixels, written.dtype, written.bits)
            single[number].write(converted)
            clipped_samples += low + high

        blank, described, drawn = [], [], []
        for place in info.planes():
            plane = stack.plane(place.number)
            if len(stack) > 1 and is_blank(plane):
                blank.append(place.label or str(place.number))
                restored = restorer.unchanged(plane, settings.samples, settings.entropy, keep_samples=False)
                pixels, low, high = to_dtype(plane, written.dtype)
                for writer in single:
                    writer.write(pixels)
            else:
                key = "_".join(part for part in (stem(source.name), place.label) if part)
                try:
                    restored = restorer.restore_plane(
                        plane,
                        settings.samples,
                        key,
                        entropy=settings.entropy,
                        on_sample=write_sample if single else None,
                    )
                except UserError as error:
                    where = f"{source.path} ({place.label})" if place.label else source.path
                    raise UserError(where, error.found, error.allowed, error.remedy) from error
                drawn.append((restored.sample_count, restored.precision))
                pixels, low, high = to_dtype(restored.mean, written.dtype, written.bits)
                replaced += restored.replaced
                levels.append(_levels(restored.mean, written.dtype))
                if place.number in looked_at:
                    described.append(restorer.shift_check.describe(restorer.prepared(plane)[0]))
            writers[""].write(pixels)
            for part in settings.maps:
                writers[part].write(_map(part, restored, settings.intervals))
            clipped += low, high
            on_plane(place.number, plane, restored)
        if len(blank) == len(stack):
            raise UserError(source.path, "is constant in every plane", remedy="leave it out")
        notes = [*stack.notes]
        if replaced:
            notes.append(Note("replaced", replaced, replaced_pixels(replaced)))
        notes += _clipped(clipped, clipped_samples, written)
        notes += _rounded(np.array(levels), info, written)
    return {
        "file": source.name,
        **({"image": source.within} if source.within else {}),
        "axes": info.axes,
        "shape": list(info.shape),
        "dtype": str(written.dtype),
        **({"source_dtype": str(info.dtype)} if written.dtype != info.dtype else {}),
        "pixel_size_um": list(info.pixel_size) if info.pixel_size else None,
        "planes": len(stack),
        "samples": max(number for number, _ in drawn),
        "fewest_samples": min(number for number, _ in drawn),
        "precision": least_precise([precision for _, precision in drawn]),
        **({"no_std": "one sample: no standard deviation"} if settings.samples == 1 else {}),
        "clipped_below": int(clipped[0]),
        "clipped_above": int(clipped[1]),
        "replaced_pixels": replaced,
        "blank_planes": blank,
        "unlike_training": (unlike := restorer.shift_check.warnings(described, info.pixel_size)),
        "notes": as_records(notes),
        "warnings": [*unlike, *dict.fromkeys(note.text for note in notes)],
        "tile": restorer.tiler.tile,
        "seconds": round(time.monotonic() - began, 2),
    }


def _clipped(clipped: np.ndarray, samples: int, written: ImageInfo) -> list[Note]:
    """Returns notes on clipped pixels of the image (below and above the range) and of its single samples."""
    limits = f"{written.bits} bits" if written.bits else str(written.dtype)
    notes = []
    if total := int(clipped.sum()):
        below, above = map(int, clipped)
        pixels = counted(total, "pixel was", "pixels were")
        text = f"{pixels} clipped to the range of {limits} ({below} below, {above} above)"
        notes.append(Note("clipped", total, text))
    if samples:
        pixels = counted(samples, "pixel of single samples was", "pixels of single samples were")
        text = f"{pixels} clipped to the range of {limits}"
        notes.append(Note("clipped", samples, text))
    return notes


def _levels(restored: np.ndarray, dtype: np.dtype) -> float:
    """Returns how many steps of a type restored values span; those of floats grow with the offset."""
    step = 1.0
    if dtype.kind == "f":
        step = np.spacing(np.minimum(np.abs(restored).max(), np.finfo(dtype).max).astype(dtype))
    return float(np.ptp(restored) / np.float64(step))


def _rounded(levels: np.ndarray, source: ImageInfo, written: ImageInfo) -> list[Note]:
    """Returns a note where the type that is written cannot hold what was restored.

    Dim planes among bright ones lose little by rounding to integers. Floats keep few levels where the offset is large.
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
    # What the calibration adds to the spread is a number of the model's scale.
    half = intervals.factor * (restored.std + np.float32(intervals.epsilon * restored.gain))
    return (restored.mean + (half if part == "interval_high" else -half)).astype(np.float32)
