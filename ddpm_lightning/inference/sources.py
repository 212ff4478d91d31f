"""Which images a job restores, and what each is called in the results and the records.

A result is called as its source is, and lies where the source lies: the name is the path relative to the folder that
was given. A file stands for the folder that it is in, a pattern for the folder before its first wildcard, and several
inputs for the folder that they share. So ``input=noisy`` gives ``a.tif``; ``input=experiment``, ``input=[Pos0,Pos1]``
and ``input='Pos*/*.tif'`` give ``Pos0/a.tif`` and ``Pos1/a.tif``. An image in a store of Zarr is called after both:
that of ``plate.zarr/A/1/0`` is ``plate_A_1_0.zarr``.
"""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, Self

from ddpm_lightning.data.listing import below, endings_of, holds_results, is_other, left_aside, search
from ddpm_lightning.data.notes import Note
from ddpm_lightning.data.stacks import SUFFIXES, image_name, images_in, is_image
from ddpm_lightning.data.zarr_paths import is_zarr, on_disk, store_of
from ddpm_lightning.errors import UserError
from ddpm_lightning.paths import expanded

__all__ = ["Found", "Source", "find_files"]

ALLOWED = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
WILDCARDS = "*?["


@dataclass(frozen=True)
class Source:
    """An image to restore.

    Attributes:
        path: What is opened.
        name: Name of its result below the folder of the results, with ``/`` between folders; it keys noise and records.
    """

    path: Path
    name: str

    @classmethod
    def of(cls, source: "Path | Source") -> Self:
        """Returns a source; a path stands for itself."""
        return source if isinstance(source, cls) else cls(source, source.name)

    @property
    def file(self) -> Path:
        """The file or folder that holds the image."""
        return on_disk(self.path)

    @property
    def store(self) -> Path:
        """The file or, of Zarr, the whole store."""
        return store_of(self.path)[0] if is_zarr(self.path) else self.path

    @property
    def within(self) -> str:
        """Where the image is in a store of Zarr, starting with the name of the store; empty where it is no part."""
        store, inner = store_of(self.path) if is_zarr(self.path) else (self.path, "")
        return f"{store.name}/{inner}" if inner else ""


class Found(NamedTuple):
    """What an input means.

    Attributes:
        sources: The images, in order.
        notes: What else was there and is not restored.
    """

    sources: list[Source]
    notes: list[Note]


class _Seen(NamedTuple):
    """Paths that one input stands for, the folder that they are named from, and what was passed by."""

    base: Path
    paths: list[Path]
    others: list[Path]


def find_files(source: str | Path | Sequence[str | Path], results: Path | None = None) -> Found:
    """Returns the images that a path, a pattern, or a list of either means, in order, each once.

    A folder stands for the images in it or, where there are none, for those in the folders below it. A pattern such as
    ``day1/*.tif`` stands for the images that it matches or, where it matches none, for those in the folders that it
    matches.

    Args:
        source: The input.
        results: Folder of the results; what an earlier job left there is no input.

    Raises:
        UserError: If there are none.
    """
    given = [source] if isinstance(source, str | Path) else list(source)
    if not given:
        raise UserError("input", "is an empty list", allowed="files, folders or patterns such as day1/*.tif")
    seen = [_seen(one) for one in given]
    base = os.path.commonpath([os.path.abspath(_outside(one.base)) for one in seen])
    paths, others = ([path for one in seen for path in getattr(one, part)] for part in ("paths", "others"))
    if results is not None and holds_results(results):
        place = results.resolve()
        # Where nothing else is left, the input is the folder of the results, which is refused elsewhere.
        paths = [path for path in paths if not path.resolve().is_relative_to(place)] or paths
        others = [path for path in others if not path.resolve().is_relative_to(place)]
    places: dict[str, Path] = {}
    for image in (image for path in paths for image in images_in(path)):
        places.setdefault(os.path.abspath(image), image)
    return Found([Source(path, _name(path, base)) for path in places.values()], left_aside(others))


def _outside(folder: Path) -> Path:
    """Returns the folder that a store is in, for a folder that is a store or within one."""
    store, inner = store_of(folder)
    return store.parent if inner or is_zarr(folder) else folder


def _name(path: Path, base: str) -> str:
    folder = store_of(path)[0].parent if is_zarr(path) else path.parent
    return (Path(os.path.relpath(os.path.abspath(folder), base)) / image_name(path)).as_posix()


def _seen(source: str | Path) -> _Seen:
    path = expanded(source)
    if path.is_file() or is_zarr(path):
        return _Seen(_outside(path if is_zarr(path) else path.parent), [path], [])
    if path.is_dir():
        images, others = search(path)
        if not images:
            found = f"holds no TIFF files, but {endings_of(others)}" if others else "holds no TIFF files"
            remedy = "save the images as TIFF; in ImageJ: File > Save As > Tiff" if others else ""
            raise UserError(f"input={source}", found, ALLOWED, remedy)
        return _Seen(path, images, others)
    if not any(letter in str(source) for letter in WILDCARDS):
        store, inner = store_of(path)
        images = [store_of(image)[1] for image in images_in(store)] if inner else []
        few = ", ".join(str(store / image) for image in images[:5]) + ", …" * (len(images) > 5)
        raise UserError(f"input={source}", "no such file or folder", few)
    # Folders above the pattern that exist are taken by their names: data [1]/*.tif.
    base = next((folder for folder in path.parents if folder.is_dir()), Path())
    pattern = path.relative_to(base)
    matched = sorted(base / name for name in glob.glob(str(pattern), root_dir=base, recursive=True))
    stores = {found for found in matched if is_zarr(found)}
    # What is below a store that matches is in it already.
    images = [found for found in matched if is_image(found) and stores.isdisjoint(found.parents)]
    others = [found for found in matched if is_other(found)]
    if not images:
        for found, aside in below((found for found in matched if found.is_dir()), set()):
            images += found
            others += aside
    if not images:
        raise UserError(f"input={source}", "matches no TIFF files", allowed=ALLOWED)
    fixed = list(takewhile(lambda part: not any(letter in part for letter in WILDCARDS), pattern.parts))
    return _Seen(base.joinpath(*fixed), images, others)
