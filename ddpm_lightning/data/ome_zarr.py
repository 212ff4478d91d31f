"""OME-Zarr plane by plane: the first image of a ``NAME.zarr`` folder in, one of the same axes and sampling out.

An OME-Zarr is a Zarr group whose attributes list arrays of falling resolution (``multiscales``). The one of full
resolution is read; the one that is written has that level alone, in chunks of one plane, in the version of Zarr and of
the metadata that the source has. A Zarr array without a group has no metadata but its shape. Needs the extra ``zarr``.

References:
    The OME-NGFF specification, versions 0.4 and 0.5, https://ngff.openmicroscopy.org.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np

from ddpm_lightning.data.image import ImageInfo, TiffTags
from ddpm_lightning.data.planes import Planes
from ddpm_lightning.errors import UserError

__all__ = ["ZarrStack", "ZarrStackWriter"]

MICROMETRES = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "angstrom": 1e-4}
SECONDS = {"second": 1.0, "millisecond": 1e-3, "minute": 60.0, "hour": 3600.0}
#: What ``ImageInfo.kind`` says of either version of the metadata.
KINDS = {"0.4": "ome-zarr-0.4", "0.5": "ome-zarr-0.5"}
READABLE = "OME-Zarr of numbers with axes ending in y and x, or a Zarr array"


def _zarr() -> ModuleType:
    try:
        import zarr
    except ImportError as error:
        remedy = "pip install 'ddpm-lightning[zarr]'"
        raise UserError("zarr", "is needed for .zarr folders and is not installed", remedy=remedy) from error
    return zarr


class ZarrStack(Planes):
    """The grey planes of an OME-Zarr's image of full resolution, read one at a time.

    Args:
        path: The folder.
        channels: Channels to keep, by index or by name; all where ``None``. A single one drops the axis C.

    Attributes:
        info: Description of the planes that this stack yields.

    Raises:
        UserError: Where the folder cannot be used.
    """

    def __init__(self, path: str | Path, channels: int | str | Sequence[int | str] | None = None) -> None:
        super().__init__(path)
        with _explained(self.path):
            node = _zarr().open(str(self.path), mode="r")
            self._array, scales, attributes = _full_resolution(node, self.path)
            self.info = _describe(self._array, scales, attributes, self.path)
        self._choose(channels)

    def _pixels(self, number: int) -> np.ndarray:
        with _explained(self.path):
            index = np.unravel_index(number, self._array.shape[:-2])
            return np.asarray(self._array[tuple(int(i) for i in index)]).astype(self.info.dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        """Nothing is held open."""


class ZarrStackWriter:
    """Writes planes to an OME-Zarr, one at a time.

    The folder grows under a temporary name and takes its own when the ``with`` block ends well; otherwise it is
    removed.

    Args:
        path: Folder to write; the one that it stands in is made where it is missing.
        info: Description of the planes, usually that of the source.
        dtype: Pixel type where the planes are another quantity than the source's; its display range is then left out.

    Raises:
        UserError: Where the folder cannot be written.
    """

    def __init__(self, path: str | Path, info: ImageInfo, dtype: np.dtype | str | None = None) -> None:
        self.path = Path(path)
        self.info = info if dtype is None else replace(info, dtype=np.dtype(dtype), bits=None)
        self.written, self._derived = 0, dtype is not None
        self._partial = self.path.with_name(f".{self.path.name}.partial")

    def __enter__(self) -> Self:
        zarr, info = _zarr(), self.info
        with self._disk():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._partial, ignore_errors=True)
            newer = info.kind == KINDS["0.5"]
            group = zarr.open_group(str(self._partial), mode="w", zarr_format=3 if newer else 2)
            metadata = _metadata(info, self.path.stem, self._derived)
            if newer:
                group.attrs.update({"ome": {"version": "0.5", **metadata}})
            else:
                metadata["multiscales"][0]["version"] = "0.4"
                group.attrs.update(metadata)
            chunks = (*(1,) * (len(info.shape) - 2), *info.plane_shape)
            self._array = group.create_array("0", shape=info.shape, chunks=chunks, dtype=info.dtype)
        return self

    def write(self, plane: np.ndarray) -> None:
        """Writes the next plane with shape (H, W) and the dtype of the file."""
        if plane.shape != self.info.plane_shape or plane.dtype != self.info.dtype:
            raise ValueError(f"{self.path} takes {self.info.plane_shape} {self.info.dtype}")
        if self.written == self.info.plane_count:
            raise ValueError(f"{self.path}: more planes than the {self.info.plane_count} announced")
        index = np.unravel_index(self.written, self.info.shape[:-2]) if self.info.shape[:-2] else ()
        with self._disk():
            self._array[tuple(int(i) for i in index)] = plane
        self.written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                if self.written != self.info.plane_count:
                    raise ValueError(f"{self.path}: {self.written} of {self.info.plane_count} planes")
                with self._disk():
                    shutil.rmtree(self.path, ignore_errors=True)
                    self._partial.replace(self.path)
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            shutil.rmtree(self._partial, ignore_errors=True)
            remedy = "make room, choose another folder, or change its permissions"
            raise UserError(self.path, f"cannot be written ({error})", remedy=remedy) from error


def _full_resolution(node: Any, path: Path) -> tuple[Any, list[float], dict[str, Any]]:
    """Returns the array of full resolution, its scale for each axis, and the metadata."""
    if hasattr(node, "shape"):
        return node, [], {}
    attributes = dict(node.attrs)
    attributes = dict(attributes.get("ome", {"version": "0.4", **attributes}))
    if not attributes.get("multiscales"):
        raise UserError(
            path, "a Zarr group without an image (no multiscales)", READABLE, "name the image in it"
        )
    dataset = attributes["multiscales"][0]["datasets"][0]
    steps = dataset.get("coordinateTransformations", [])
    scales = next((list(step["scale"]) for step in steps if step.get("type") == "scale"), [])
    return node[dataset["path"]], scales, attributes


def _describe(array: Any, scales: list[float], attributes: dict[str, Any], path: Path) -> ImageInfo:
    named = (attributes.get("multiscales") or [{}])[0].get("axes", [])
    axes = [{"name": axis} if isinstance(axis, str) else axis for axis in named]
    letters = "".join(axis["name"].upper()[0] for axis in axes) or "TCZYX"[-array.ndim :]
    dtype = np.dtype(array.dtype).newbyteorder("=")
    if len(letters) != array.ndim or not letters.endswith("YX") or len(set(letters)) < len(letters):
        raise UserError(path, f"axes {letters} with shape {tuple(array.shape)}", READABLE, "reorder its axes")
    if dtype.kind not in "uif" or 0 in array.shape:
        raise UserError(path, f"an array of {dtype} with shape {tuple(array.shape)}", READABLE)
    sizes = {}
    for letter, axis, scale in zip(letters, axes, scales, strict=False):
        unit = (SECONDS if letter == "T" else MICROMETRES).get(axis.get("unit", ""))
        sizes[letter] = scale * unit if unit and scale > 0 else None
    omero = attributes.get("omero", {})
    channels = omero.get("channels", [])
    names = tuple(channel.get("label", "") for channel in channels)
    count = array.shape[letters.index("C")] if "C" in letters else 1
    y, x = sizes.get("Y"), sizes.get("X")
    return ImageInfo(
        letters,
        tuple(int(size) for size in array.shape),
        dtype,
        pixel_size=(y, x) if y and x else None,
        z_step=sizes.get("Z"),
        time_step=sizes.get("T"),
        channel_names=names if len(names) == count and any(names) else (),
        kind=KINDS["0.5" if attributes.get("version", "") >= "0.5" else "0.4"],
        # How viewers shall show the channels travels as text, as an ImageDescription does.
        tags=TiffTags(
            letters,
            tuple(array.shape),
            dtype,
            description=json.dumps(omero) if len(channels) == count else "",
        ),
    )


def _metadata(info: ImageInfo, name: str, derived: bool) -> dict[str, Any]:
    """Returns what OME-NGFF says of an image: axes with units, the size of a pixel, and how to show its channels."""
    kinds = {"T": "time", "C": "channel"}
    y, x = info.pixel_size or (None, None)
    sizes = {"Y": y, "X": x, "Z": info.z_step, "T": info.time_step}
    axes = []
    for letter in info.axes:
        axis = {"name": letter.lower(), "type": kinds.get(letter, "space")}
        if sizes.get(letter):
            axis["unit"] = "second" if letter == "T" else "micrometer"
        axes.append(axis)
    scale = [float(sizes.get(letter) or 1.0) for letter in info.axes]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    metadata: dict[str, Any] = {"multiscales": [{"name": name, "axes": axes, "datasets": [level]}]}
    if omero := _omero(info, derived):
        metadata["omero"] = omero
    return metadata


def _omero(info: ImageInfo, derived: bool) -> dict[str, Any]:
    text = info.tags.description if info.tags else ""
    omero = json.loads(text) if text.startswith("{") else {}
    if not omero.get("channels"):
        return {"channels": [{"label": label} for label in info.channel_names]} if info.channel_names else {}
    chosen = info.channels if info.channels is not None else range(len(omero["channels"]))
    channels = [dict(omero["channels"][number]) for number in chosen]
    for channel in channels if derived else ():
        channel.pop("window", None)  # the display range of the source's intensities
    return {**omero, "channels": channels}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns whatever a damaged folder does to the reader into one sentence for the user."""
    try:
        yield
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(path, "no permission to read it", READABLE, "change its permissions") from error
    except Exception as error:
        found = f"cannot be read as Zarr ({type(error).__name__}: {error})"
        raise UserError(path, " ".join(found.split()), READABLE, "copy or export it again") from error
