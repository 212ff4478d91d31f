"""Images as stacks of planes, whatever file they are in: TIFF in all its dialects, or OME-Zarr."""

from pathlib import Path, PurePosixPath
from typing import Any, Protocol, Self

import numpy as np

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.notes import Note
from ddpm_lightning.io.tiff import TiffStack, TiffStackWriter
from ddpm_lightning.io.zarr_paths import is_zarr, stem_of, store_of
from ddpm_lightning.utils.errors import UserError

__all__ = [
    "SUFFIXES",
    "Stack",
    "StackWriter",
    "image_name",
    "images_in",
    "is_image",
    "open_stack",
    "open_writer",
    "stem",
]

TIFFS = (".tif", ".tiff", ".btf", ".tf8")
ZARRS = (".zarr",)
SUFFIXES = (*TIFFS, *ZARRS, ".zarr.zip", ".ozx")


class Stack(Protocol):
    """Planes of a file, read one at a time; a context manager."""

    info: ImageInfo
    notes: list[Note]

    def __len__(self) -> int: ...

    def check_bits(self) -> None:
        """Compares the bits that the file states with all of its values, and believes the values."""

    def plane(self, number: int) -> np.ndarray:
        """Reads one plane with shape (H, W)."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> None: ...


class StackWriter(Protocol):
    """Planes written one at a time to a file that takes its name when the context ends well."""

    def write(self, plane: np.ndarray) -> None:
        """Writes the next plane with shape (H, W)."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> None: ...


def is_image(path: Path) -> bool:
    """Says whether a path looks like an image that can be read."""
    return not path.name.startswith(".") and (path.name.lower().endswith(TIFFS) or is_zarr(path))


def image_name(path: Path) -> str:
    """Returns the name of an image as a file of its own: that of ``plate.zarr/A/1/0`` is ``plate_A_1_0.zarr``."""
    if not is_zarr(path):
        return path.name
    store, inner = store_of(path)
    name, ending = stem_of(store)
    parts = [stem_of(Path(part))[0] for part in Path(inner).parts]
    # A folder is often zipped with its own name.
    parts = parts[parts[:1] == [name] :]
    return f"{'_'.join((name, *parts))}{ending}"


def stem(name: str) -> str:
    """Returns a name without its endings: ``a.ome.tif`` gives ``a``, ``Pos0/a.tif`` gives ``Pos0/a``."""
    name = name.removesuffix(PurePosixPath(name).suffix)
    return name[: -len(".ome")] if name.lower().endswith(".ome") else name


def images_in(path: Path) -> list[Path]:
    """Returns the images in a file or a store: of a plate, say, all wells and fields.

    What cannot be read, or holds none, stands for itself: whoever opens it learns why.
    """
    if not is_zarr(path):
        return [path]
    from ddpm_lightning.io.zarr_stores import images_of  # only where it is used: an extra

    try:
        return images_of(path)
    except UserError:
        return [path]


def open_stack(path: Path, channels: Any = None) -> Stack:
    """Opens an image for reading.

    Args:
        path: The file, or an image of a Zarr: its folder, or a path that leads into a ZIP file.
        channels: Channels to keep, by index or by name; all where ``None``.

    Raises:
        UserError: Where it cannot be used.
    """
    if is_zarr(path):
        from ddpm_lightning.io.ome_zarr import ZarrStack  # only where it is used: an extra

        return ZarrStack(path, channels)
    return TiffStack(path, channels)


def open_writer(path: Path, info: ImageInfo, dtype: np.dtype | str | None = None) -> StackWriter:
    """Opens an image for writing, in the format that its name says.

    Args:
        path: The file, or the folder of a Zarr.
        info: Description of the planes, usually that of the source.
        dtype: Pixel type where the planes are another quantity than the source's.
    """
    if path.suffix.lower() in ZARRS:
        from ddpm_lightning.io.ome_zarr import ZarrStackWriter  # only where it is used: an extra

        return ZarrStackWriter(path, info, dtype)
    return TiffStackWriter(path, info, dtype)
