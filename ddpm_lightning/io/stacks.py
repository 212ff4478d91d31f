"""Opens images of any supported format as stacks of planes: TIFF of any dialect, OME-Zarr, files of microscopes."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.plane_reader import PlaneReader
from ddpm_lightning.io.plane_writer import PlaneWriter
from ddpm_lightning.io.tiff import TiffStack, TiffStackWriter
from ddpm_lightning.io.vendor_files import VendorStack, file_and_scene, is_installed, is_vendor, scenes_of
from ddpm_lightning.io.zarr_paths import is_zarr, on_disk, stem_of, store_of
from ddpm_lightning.utils.errors import UserError

__all__ = [
    "SUFFIXES",
    "container",
    "file_of",
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


def is_image(path: Path) -> bool:
    """Says whether a path has the name of a readable image; files of microscopes need a reader that is installed."""
    if path.name.startswith("."):
        return False
    return path.name.lower().endswith(TIFFS) or (path.is_file() and is_installed(path)) or is_zarr(path)


def file_of(path: Path) -> Path:
    """Returns the file or folder on disk that contains an image."""
    return file_and_scene(path)[0] if is_vendor(path) else on_disk(path)


def container(path: Path) -> tuple[Path, str]:
    """Returns the file or store that contains an image, and the path within it; empty if it is the image itself."""
    if is_vendor(path):
        return file_and_scene(path)
    return store_of(path) if is_zarr(path) else (path, "")


def image_name(path: Path) -> str:
    """Returns the name of an image as a file of its own, in a format that can be written.

    That of ``plate.zarr/A/1/0`` is ``plate_A_1_0.zarr``, and that of ``day1.lif/Cells`` is ``day1_Cells.ome.tif``.
    """
    if is_vendor(path):
        file, scene = file_and_scene(path)
        return f"{'_'.join((file.stem, *([scene] if scene else ())))}.ome.tif"
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
    """Returns the images in a file or a store: for example, all wells and fields of a plate, or scenes of a file.

    A path that cannot be read or contains no image is returned as it is: opening it raises the error.
    """
    if is_vendor(path):
        try:
            scenes = () if file_and_scene(path)[1] else scenes_of(path)
        except UserError:
            return [path]
        return [path / scene for scene in scenes] if len(scenes) > 1 else [path]
    if not is_zarr(path):
        return [path]
    from ddpm_lightning.io.zarr_stores import images_of  # imported when needed: an extra

    try:
        return images_of(path)
    except UserError:
        return [path]


def open_stack(path: Path, channels: Any = None) -> PlaneReader:
    """Opens an image for reading.

    Args:
        path: The file, or an image of a Zarr: its folder, or a path that leads into a ZIP file; or ``FILE/SCENE``.
        channels: Channels to keep, by index or by name; ``None`` keeps all.

    Raises:
        UserError: If it cannot be used.
    """
    if is_vendor(path):
        return VendorStack(path, channels)
    if is_zarr(path):
        from ddpm_lightning.io.ome_zarr import ZarrStack  # imported when needed: an extra

        return ZarrStack(path, channels)
    return TiffStack(path, channels)


def open_writer(path: Path, info: ImageInfo, dtype: np.dtype | str | None = None) -> PlaneWriter:
    """Opens an image for writing, in the format of its name.

    Args:
        path: The file, or the folder of a Zarr.
        info: Description of the planes, usually that of the source.
        dtype: Data type if the planes are a different quantity from the source.
    """
    if path.suffix.lower() in ZARRS:
        from ddpm_lightning.io.ome_zarr import ZarrStackWriter  # imported when needed: an extra

        return ZarrStackWriter(path, info, dtype)
    return TiffStackWriter(path, info, dtype)
