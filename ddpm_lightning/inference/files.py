"""Restored files: TIFFs of any axes in, the same axes, type and sampling out, plane by plane.

Beside each ``NAME.tif`` stands ``NAME_std.tif``, the spread of the draws in the units of the image (float32), and
``restore.json`` says what was done to each file and with what.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.data.image import to_dtype
from ddpm_lightning.data.tiff import TiffStack, TiffStackWriter
from ddpm_lightning.errors import UserError
from ddpm_lightning.inference.restorer import Restorer

__all__ = ["find_files", "restore_file"]

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")


@dataclass(frozen=True)
class Settings:
    """How files are restored.

    Attributes:
        draws: Draws of each plane.
        channels: Channels to restore, by number or name; all by default.
        std: Whether the spread is written too.
    """

    draws: int = 15
    channels: Any = None
    std: bool = True


def find_files(source: str | Path) -> list[Path]:
    """Returns a file, or the TIFF files of a folder in order.

    Raises:
        UserError: If there are none.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"input={source}", "no such file or folder")
    files = [
        f for f in sorted(path.iterdir()) if f.name.lower().endswith(SUFFIXES) and not f.name.startswith(".")
    ]
    if not files:
        raise UserError(
            f"input={source}", "holds no TIFF files", allowed=", ".join(f"*{s}" for s in SUFFIXES)
        )
    return files


def restore_file(
    restorer: Restorer,
    source: Path,
    folder: Path,
    settings: Settings = Settings(),  # noqa: B008  (frozen)
    on_plane: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Restores all planes of a file.

    Args:
        restorer: A loaded model.
        source: The file.
        folder: Where ``NAME.tif`` and ``NAME_std.tif`` are written; neither appears unless all planes succeed.
        settings: How.
        on_plane: Called after each plane.

    Returns:
        What was done: sizes, clipped pixels, seconds.

    Raises:
        UserError: If the file cannot be read, restored or written.
    """
    began = time.monotonic()
    clipped_low = clipped_high = planes = 0
    with ExitStack() as files:
        stack = files.enter_context(TiffStack(source, settings.channels))
        info = stack.info
        restored = files.enter_context(TiffStackWriter(folder / source.name, info))
        spread = settings.std and files.enter_context(
            TiffStackWriter(folder / std_name(source), info, np.float32)
        )
        for place, plane in zip(info.planes(), stack, strict=True):
            key = "_".join(part for part in (_stem(source), place.label) if part)
            try:
                result = restorer.restore(plane, settings.draws, key)
            except UserError as error:
                where = f"{source} ({place.label})" if place.label else source
                raise UserError(where, error.found, error.allowed, error.remedy) from error
            pixels, low, high = to_dtype(result.mean, info.dtype, info.bits)
            restored.write(pixels)
            if spread:
                spread.write(result.std)
            clipped_low, clipped_high, planes = clipped_low + low, clipped_high + high, planes + 1
            on_plane()
    return {
        "file": source.name,
        "axes": info.axes,
        "shape": list(info.shape),
        "dtype": str(info.dtype),
        "pixel_size_um": list(info.pixel_size) if info.pixel_size else None,
        "planes": planes,
        "draws": result.draws,
        "clipped_below": clipped_low,
        "clipped_above": clipped_high,
        "seconds": round(time.monotonic() - began, 2),
    }


def std_name(source: Path) -> str:
    """Returns the name of the uncertainty map of a file: ``a.ome.tif`` gives ``a_std.ome.tif``."""
    return source.name.replace(_stem(source), f"{_stem(source)}_std", 1)


def _stem(source: Path) -> str:
    stem = source.name[: -len(source.suffix)]
    return stem[: -len(".ome")] if stem.lower().endswith(".ome") else stem


def check_names(files: Sequence[Path], folder: Path) -> None:
    """Raises where results would meet their sources or each other."""
    for path in files:
        if path.resolve().parent == folder.resolve():
            raise UserError(
                f"output={folder}", "is the folder of the input", remedy="choose another output=FOLDER"
            )
    results: dict[str, Path] = {}
    for path in files:
        for name in (path.name, std_name(path)):
            if name in results:
                raise UserError(
                    path, f"and {results[name].name} would both write {name}", remedy="rename one of them"
                )
            results[name] = path
