"""The layers of a result, and its files."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.io.formats import converted, name_in_format
from ddpm_lightning.io.image import ImageInfo, to_dtype
from ddpm_lightning.io.notes import counted
from ddpm_lightning.io.stacks import open_writer, stem
from ddpm_lightning.napari.restoring import Restored
from ddpm_lightning.napari.selection import SOURCE, Selection
from ddpm_lightning.utils.errors import UserError

__all__ = ["RESULT", "LayerData", "layers_of", "live_layer", "save"]

#: Data, arguments and type of a layer, as napari takes them.
LayerData = tuple[np.ndarray, dict[str, Any], str]
ENDINGS = (".tif", ".tiff", ".zarr")
#: Entry of the metadata of all layers that are results.
RESULT = "ddpm_lightning_result"


def live_layer(selection: Selection) -> LayerData:
    """Returns the layer in which a result appears while it is computed: NaN where nothing is known yet."""
    empty = np.full(selection.info.shape, np.nan, np.float32)
    return empty, _described(selection, f"{stem(selection.name)} restored"), "image"


def layers_of(restored: Restored) -> list[LayerData]:
    """Returns the layers of a result, the mean first: a slider leads through single samples."""
    selection, restoration = restored.selection, restored.restoration
    name = stem(selection.name)
    mean = restoration.mean
    low, high = (float(value) for value in np.percentile(mean, (0.1, 99.9)))
    limits = {"contrast_limits": (low, max(high, low + np.spacing(abs(low)) + 1e-6))}
    layers = [(mean, _described(selection, f"{name} restored") | limits, "image")]
    hidden = {"visible": False}
    if restoration.std is not None:
        layers.append(
            (
                restoration.std,
                _described(selection, f"{name} std") | hidden | {"colormap": "inferno"},
                "image",
            )
        )
    if restored.interval is not None:
        for bound, which in zip(restored.interval, ("low", "high"), strict=True):
            layers.append(
                (bound, _described(selection, f"{name} interval {which}") | hidden | limits, "image")
            )
    if restoration.samples is not None:
        described = _described(selection, f"{name} samples", stacked=True)
        layers.append((restoration.samples, described | hidden | limits, "image"))
    return layers


def save(restored: Restored, path: Path) -> list[str]:
    """Writes a result: the mean with axes, type and pixel size of its source, everything else as float32 beside it.

    Args:
        restored: The result.
        path: A name that ends in ``.tif`` (OME-TIFF) or ``.zarr`` (OME-Zarr 0.5).

    Returns:
        What was written, and what was lost.

    Raises:
        UserError: If a file cannot be written.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(
            path, "has no ending of a format", ", ".join(ENDINGS), "save it as NAME.ome.tif or NAME.ome.zarr"
        )
    kind = "ome-zarr" if path.suffix.lower() == ".zarr" else "ome-tiff"
    path = path.with_name(name_in_format(path.name, kind))
    ending = path.name[len(stem(path.name)) :]
    info, notes = converted(_result_info(restored.selection), kind, path)
    lines = []
    for part, pixels in _parts(restored):
        derived = None if part in ("", "sample") or part.startswith("sample") else np.dtype(np.float32)
        target = path.with_name(f"{stem(path.name)}_{part}{ending}") if part else path
        clipped = _write(target, info, pixels, derived)
        lines.append(f"{target.name}: {'x'.join(map(str, info.shape))} {derived or info.dtype}")
        if clipped:
            lines.append(
                f"{counted(clipped, 'pixel was', 'pixels were')} clipped to the range of {info.dtype}"
            )
    return lines + [note.text for note in notes]


def _parts(restored: Restored) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the parts of a result with the names that the command gives to their files."""
    yield "", restored.restoration.mean
    if restored.restoration.std is not None:
        yield "std", restored.restoration.std
    if restored.interval is not None:
        yield "interval_low", restored.interval[0]
        yield "interval_high", restored.interval[1]
    if restored.restoration.samples is not None:
        for number, sample in enumerate(restored.restoration.samples, 1):
            yield f"sample_{number:02d}", sample


def _write(path: Path, info: ImageInfo, pixels: np.ndarray, dtype: np.dtype | None) -> int:
    """Writes planes, and returns how many pixels were clipped."""
    clipped = 0
    with open_writer(path, info, dtype) as writer:
        for plane in pixels.reshape(-1, *info.plane_shape):
            converted_plane, low, high = to_dtype(plane, dtype or info.dtype, None if dtype else info.bits)
            writer.write(converted_plane)
            clipped += low + high
    return clipped


def _result_info(selection: Selection) -> ImageInfo:
    return replace(selection.info, kind="ome") if selection.info.tags is None else selection.info


def _described(selection: Selection, name: str, stacked: bool = False) -> dict[str, Any]:
    """Returns the arguments of a layer at the place of a selection; ``stacked`` adds an axis of samples."""
    labels = tuple(selection.info.axes.lower())
    described: dict[str, Any] = {
        "name": name,
        "scale": (*[1.0] * stacked, *selection.scale),
        "translate": (*[0.0] * stacked, *selection.translate),
        "axis_labels": (*["sample"] * stacked, *labels),
        "metadata": {RESULT: True} | ({} if stacked else {SOURCE: _result_info(selection)}),
    }
    if selection.units:
        described["units"] = (*["pixel"] * stacked, *selection.units)
    return described
