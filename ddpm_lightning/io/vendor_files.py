"""Reads files of microscopes (CZI, LIF, ND2) plane by plane, with the readers of ``bioio``.

A file may hold several *scenes*: positions, wells, or images of a project. Each is an image of its own; a path leads to
it as if the file were a folder, as in ``day1.lif/Position_3``. Axes, pixel size, distance of planes, interval of frames
and names of channels are read; the manufacturers' other metadata are not. Requires the extra ``microscopes``.

References:
    bioio, https://bioio-devs.github.io/bioio.
"""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.notes import Note, counted
from ddpm_lightning.io.plane_reader import PlaneReader, read_errors
from ddpm_lightning.utils.errors import UserError

__all__ = [
    "ENDINGS",
    "INSTALL",
    "BioImage",
    "VendorStack",
    "file_and_scene",
    "is_installed",
    "is_vendor",
    "scenes_of",
]


class _Format(NamedTuple):
    """A format of microscopes.

    Attributes:
        name: Its name for messages.
        module: Package with its reader.
        options: Options of the reader, with which it reads single planes.
    """

    name: str
    module: str
    options: dict[str, Any]


BY_PLANE = {"chunk_dims": ["Y", "X"]}
FORMATS = {
    ".czi": _Format("CZI", "bioio_czi", BY_PLANE),
    ".lif": _Format("LIF", "bioio_lif", BY_PLANE),
    ".nd2": _Format("ND2", "bioio_nd2", {}),
}
ENDINGS = tuple(FORMATS)
READABLE = "CZI, LIF and ND2 files of grey planes"
INSTALL = "pip install 'ddpm-lightning[microscopes]'"
#: Names that readers invent for channels without one.
NO_NAME = re.compile(r"Channel:.*\d")


class BioImage(Protocol):
    """What is used of ``bioio.BioImage``: mosaics are stitched, and axes are TCZYX."""

    scenes: tuple[str, ...]
    dims: Any
    dtype: np.dtype
    channel_names: list[str] | None
    physical_pixel_sizes: tuple[float | None, float | None, float | None]
    time_interval: timedelta | None
    reader: Any

    def set_scene(self, scene_id: str | int) -> None:
        """Selects a scene by its index."""
        ...

    def get_image_dask_data(self, dimension_order_out: str | None = None, **kwargs: Any) -> Any:
        """Returns a part of the scene, which is read when it is computed."""
        ...


def is_vendor(path: Path) -> bool:
    """Says whether a path is a file of a microscope, by its name, or leads to a scene in one."""
    return path.suffix.lower() in FORMATS or file_and_scene(path)[1] != ""


def file_and_scene(path: Path) -> tuple[Path, str]:
    """Returns the file that a path refers to, and the name of a scene in it; empty for the file itself."""
    inside = path.parent.suffix.lower() in FORMATS and path.parent.is_file()
    return (path.parent, path.name) if inside else (path, "")


def is_installed(path: Path) -> bool:
    """Says whether the reader of a file of a microscope is installed."""
    known = FORMATS.get(path.suffix.lower())
    return known is not None and find_spec(known.module) is not None


def scenes_of(path: Path) -> tuple[str, ...]:
    """Returns names of the scenes of a file that are unique and can be parts of file names.

    Raises:
        UserError: If it cannot be read.
    """
    with read_errors(path, FORMATS[path.suffix.lower()].name, READABLE):
        stat = path.stat()
        return _scenes(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _scenes(path: Path, size: int, modified: int) -> tuple[str, ...]:
    names = [re.sub(r"[^\w.-]+", "_", scene).strip("._") for scene in _open(path).scenes]
    common = Counter(name.lower() for name in names)
    return tuple(
        name if name and common[name.lower()] == 1 else f"{number}_{name}".rstrip("_")
        for number, name in enumerate(names, 1)
    )


def _open(path: Path) -> BioImage:
    """Opens a file with the reader of its format."""
    known = FORMATS[path.suffix.lower()]
    try:
        bioio, reader = import_module("bioio"), import_module(known.module)
    except ImportError as error:
        raise UserError(
            path, f"needs {known.module.replace('_', '-')} ({error})", READABLE, INSTALL
        ) from error
    return bioio.BioImage(str(path), reader=reader.Reader, **known.options)


class VendorStack(PlaneReader):
    """The grey planes of a scene, read one at a time.

    Args:
        path: A file with a single scene, or a scene as ``FILE/SCENE``.
        channels: Channels to keep, by index or by name; ``None`` keeps all. A single channel drops the axis C.

    Attributes:
        info: Description of the planes that this stack yields.

    Raises:
        UserError: If the file cannot be used.
    """

    def __init__(self, path: str | Path, channels: int | str | Sequence[int | str] | None = None) -> None:
        super().__init__(path)
        file, scene = file_and_scene(self.path)
        self._kind = FORMATS[file.suffix.lower()].name
        if not file.is_file():
            raise UserError(path, "no such file", READABLE, "give the name of an existing image file")
        scenes = scenes_of(file)
        if scene not in scenes and (scene or len(scenes) > 1):
            found = f"has no scene {scene!r}" if scene else f"contains {counted(len(scenes), 'scene')}"
            raise UserError(file, found, ", ".join(scenes), f"give one of them, as {file}/{scenes[0]}")
        with read_errors(file, self._kind, READABLE):
            self._image = _open(file)
            self._image.set_scene(scenes.index(scene) if scene else 0)
            self.info = self._described(file)
        self._stored = self.info  # before channels are chosen
        text = (
            f"of the metadata of the {self._kind} file, axes, pixel size, interval of frames and names of channels "
            "are copied; settings of the microscope, positions and times of single planes are not"
        )
        self.notes.append(Note("left_aside", 1, text))
        self._choose(channels)

    def _described(self, file: Path) -> ImageInfo:
        image = self._image
        sizes = dict(zip(image.dims.order, image.dims.shape, strict=True))
        stored = image.reader.dims
        # The standard axes of BioImage contain only the first position along any other.
        sizes = {**dict(zip(stored.order, stored.shape, strict=True)), **sizes}
        if "M" in stored.order and "M" not in image.dims.order:
            sizes.pop("M")  # tiles that were stitched
        if sizes.pop("S", 1) > 1:
            raise UserError(file, "a colour image", "grey images", "export one grey channel of it")
        if others := {axis: size for axis, size in sizes.items() if axis not in "TCZYX" and size > 1}:
            named = ", ".join(f"{axis} = {size}" for axis, size in others.items())
            raise UserError(
                file, f"has axes that are not supported: {named}", "T, C, Z, Y and X", "export it as OME-TIFF"
            )
        axes = "".join(axis for axis in "TCZYX" if sizes.get(axis, 1) > 1 or axis in "YX")
        z, y, x = map(_known, image.physical_pixel_sizes)
        interval = image.time_interval or getattr(image.reader, "timelapse_interval", None)
        seconds = interval.total_seconds() if isinstance(interval, timedelta) else None
        names = tuple(map(str, image.channel_names or ()))
        return ImageInfo(
            axes,
            tuple(int(sizes[axis]) for axis in axes),
            np.dtype(image.dtype).newbyteorder("="),
            pixel_size=(y, x) if y and x else None,
            z_step=z if "Z" in axes else None,
            time_step=_known(seconds) if "T" in axes else None,
            channel_names=() if all(map(NO_NAME.fullmatch, names)) else names,
            kind="ome",
        )

    def _pixels(self, number: int) -> np.ndarray:
        file, _ = file_and_scene(self.path)
        with read_errors(file, self._kind, READABLE):
            axes, shape = self._stored.axes[:-2], self._stored.shape[:-2]
            index = np.unravel_index(number, shape) if shape else ()
            place = {axis: int(at) for axis, at in zip(axes, index, strict=True)}
            pixels = self._image.get_image_dask_data("YX", **place).compute()
            return np.asarray(pixels).astype(self.info.dtype, copy=False)

    def close(self) -> None:
        """Closes nothing: readers open the file for each plane."""


def _known(size: float | None) -> float | None:
    """Returns a size if it is one."""
    return float(size) if size and isfinite(size) and size > 0 else None
