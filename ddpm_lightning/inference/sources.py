"""Which images a job restores, and what each is called in the results and the records.

A result keeps the name of its source: its path relative to the input folder. The input folder of a file is the folder
that contains it, that of a pattern is the part before the first wildcard, and that of several inputs is their common
parent. So ``input=noisy`` gives ``a.tif``; ``input=experiment``, ``input=[Pos0,Pos1]`` and ``input='Pos*/*.tif'`` give
``Pos0/a.tif`` and ``Pos1/a.tif``. The name of an image in a Zarr store contains its path in the store:
``plate.zarr/A/1/0`` becomes ``plate_A_1_0.zarr``. Likewise, the scene ``a.lif/Cells`` becomes ``a_Cells.ome.tif``.
"""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from ddpm_lightning.io.formats import OutputFormat, name_in_format
from ddpm_lightning.io.listing import (
    EXPORT_FORMATS,
    contains_results,
    extensions_of,
    find_images,
    is_tiff,
    is_unsupported,
    notes_on_ignored,
    walk,
)
from ddpm_lightning.io.notes import Note
from ddpm_lightning.io.stacks import SUFFIXES, container, file_of, image_name, images_in, is_image
from ddpm_lightning.io.vendor_files import ENDINGS, INSTALL, file_and_scene
from ddpm_lightning.io.zarr_paths import is_zarr, store_of
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import expanded

__all__ = ["Found", "Source", "find_files"]

ALLOWED = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
REMEDY = "save the images as TIFF; in ImageJ: File > Save As > Tiff"
WILDCARDS = "*?["
#: The image that ships with the package; ``input=example`` refers to it unless a file or folder has that name.
EXAMPLE = Path(__file__).parents[1] / "shipped" / "example.ome.tif"


@dataclass(frozen=True)
class Source:
    """An image to restore.

    Attributes:
        path: The path that is opened.
        name: Name of its result relative to the results folder, with ``/`` between folders; key of noise and records.
    """

    path: Path
    name: str

    @classmethod
    def of(cls, source: "Path | Source") -> "Source":
        """Returns a source unchanged, and a path as a source with its own name."""
        return cls(source, image_name(source)) if isinstance(source, Path) else source

    @property
    def file(self) -> Path:
        """The file or folder that contains the image."""
        return file_of(self.path)

    @property
    def store(self) -> Path:
        """The file or, for Zarr, the whole store."""
        return container(self.path)[0]

    @property
    def within(self) -> str:
        """Path of the image in its store or file, starting with the name of that; empty for files of one image."""
        store, inner = container(self.path)
        return f"{store.name}/{inner}" if inner else ""


class Found(NamedTuple):
    """The images that an input refers to.

    Attributes:
        sources: The images, in order.
        notes: What else was found and is not restored.
    """

    sources: list[Source]
    notes: list[Note]


class _Seen(NamedTuple):
    """Paths that one input refers to, the folder that their names are relative to, and what is ignored."""

    base: Path
    paths: list[Path]
    others: list[Path]


def find_files(
    source: str | Path | Sequence[str | Path],
    results: Path | None = None,
    output_format: OutputFormat = "same",
) -> Found:
    """Returns the images that a path, a pattern, or a list of these refers to, in order, without duplicates.

    A folder refers to the images in it or, if there are none, to those in its subfolders. A pattern such as
    ``day1/*.tif`` refers to the images that it matches or, if it matches none, to those in the folders that it matches.
    ``example`` refers to the image that ships with the package, unless a file or folder has that name.

    Args:
        source: The input.
        results: Folder of the results; results of earlier jobs in it are not used as input.
        output_format: Format of the results, which determines the endings of their names.

    Raises:
        UserError: If there are none.
    """
    given = [source] if isinstance(source, str | Path) else list(source)
    if not given:
        raise UserError("input", "is an empty list", allowed="files, folders or patterns such as day1/*.tif")
    seen = [_seen(one) for one in given]
    base = os.path.commonpath([os.path.abspath(_outside(one.base)) for one in seen])
    paths, others = ([path for one in seen for path in getattr(one, part)] for part in ("paths", "others"))
    if results is not None and contains_results(results):
        place = results.resolve()
        # If nothing else is left, the input is the results folder itself, which is rejected elsewhere.
        paths = [path for path in paths if not path.resolve().is_relative_to(place)] or paths
        others = [path for path in others if not path.resolve().is_relative_to(place)]
    places: dict[str, Path] = {}
    for image in (image for path in paths for image in images_in(path)):
        places.setdefault(os.path.abspath(image), image)
    found = [Source(path, name_in_format(_name(path, base), output_format)) for path in places.values()]
    return Found(found, notes_on_ignored(others))


def _outside(folder: Path) -> Path:
    """Returns the folder that contains a store, for a store or a folder in it; other folders unchanged."""
    store, inner = store_of(folder)
    return store.parent if inner or is_zarr(folder) else folder


def _name(path: Path, base: str) -> str:
    folder = container(path)[0].parent
    return (Path(os.path.relpath(os.path.abspath(folder), base)) / image_name(path)).as_posix()


def _seen(source: str | Path) -> _Seen:
    path = expanded(source)
    if str(source) == "example" and not path.exists():
        path = EXAMPLE
    if path.is_file() and is_unsupported(path) and not is_tiff(path):
        found = f"is a {path.suffix} file, which is not read"
        if path.suffix.lower() in EXPORT_FORMATS:
            found += ", because the format loses grey values or pixel size"
        readable = path.suffix.lower() in ENDINGS
        raise UserError(f"input={source}", found, ALLOWED, f"{INSTALL}, or {REMEDY}" if readable else REMEDY)
    if file_and_scene(path)[1]:
        return _Seen(path.parent.parent, [path], [])
    if path.is_file() or is_zarr(path):
        return _Seen(_outside(path if is_zarr(path) else path.parent), [path], [])
    if path.is_dir():
        images, others = find_images(path)
        if not images:
            found = "contains no TIFF files" + (f", but {extensions_of(others)} files" if others else "")
            raise UserError(f"input={source}", found, ALLOWED, REMEDY if others else "")
        return _Seen(path, images, others)
    if not any(letter in str(source) for letter in WILDCARDS):
        store, inner = store_of(path)
        images = [store_of(image)[1] for image in images_in(store)] if inner else []
        few = ", ".join(str(store / image) for image in images[:5]) + ", …" * (len(images) > 5)
        allowed = few or "a file, a folder, or a pattern such as day1/*.tif"
        raise UserError(f"input={source}", "no such file or folder", allowed)
    # Existing folders in front of the pattern are taken literally: data [1]/*.tif.
    base = next((folder for folder in path.parents if folder.is_dir()), Path())
    pattern = path.relative_to(base)
    matched = sorted(base / name for name in glob.glob(str(pattern), root_dir=base, recursive=True))
    stores = {found for found in matched if is_zarr(found)}
    # Paths within a matching store belong to that store.
    images = [found for found in matched if is_image(found) and stores.isdisjoint(found.parents)]
    others = [found for found in matched if is_unsupported(found)]
    if not images:
        for found, aside in walk((found for found in matched if found.is_dir()), set()):
            images += found
            others += aside
    if not images:
        found = "matches no TIFF files" + (f", but {extensions_of(others)} files" if others else "")
        raise UserError(f"input={source}", found, ALLOWED, REMEDY if others else "")
    fixed = list(takewhile(lambda part: not any(letter in part for letter in WILDCARDS), pattern.parts))
    return _Seen(base.joinpath(*fixed), images, others)
