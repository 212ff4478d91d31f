"""Opens Zarr stores and finds the images in them: an image, a plate, a bioformats2raw container, or an array.

A group with ``multiscales`` is an image; its contents (resolution levels, labels) are not images of their own. All
other groups are searched, including the paths that the metadata of plates, wells and series list.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

from ddpm_lightning.io.notes import Note
from ddpm_lightning.io.plane_reader import read_errors
from ddpm_lightning.io.zarr_metadata import READABLE, Metadata
from ddpm_lightning.io.zarr_paths import groups_of_zip, on_disk, store_of
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import natural

__all__ = ["images_of", "load_zarr", "open_image"]

#: Groups that contain no images: masks, and the OME-XML of a container.
NO_IMAGES = ("labels", "OME")
#: Maximum nesting of groups: a plate has four levels.
DEEPEST = 10
#: Maximum number of chunks, and of planes, of an array: looking for 400,000 takes a second, and a few bytes of
#: metadata can announce any number.
MOST = 2_000_000


def load_zarr() -> ModuleType:
    """Returns the package ``zarr``.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        remedy = "pip install 'ddpm-lightning[zarr]'"
        raise UserError("zarr", "is required to read Zarr, but is not installed", remedy=remedy) from error
    return zarr


def images_of(path: Path) -> list[Path]:
    """Returns the images in a store or in one of its groups; in a ZIP file, as paths that lead into it.

    Raises:
        UserError: If it cannot be read, or contains none.
    """
    with read_errors(path, "Zarr", READABLE), ExitStack() as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about folders and files in a store that do not belong to Zarr
        _, inner = store_of(path)
        tops = [inner]
        if on_disk(path) != path or path.is_file():
            tops = [inner] if inner else groups_of_zip(path)
        found: dict[Path, None] = {}
        node: Any = None
        for top in tops:
            root = path if top == inner else path / top
            node = opened.enter_context(_opened(root))
            found |= dict.fromkeys(root / below for below in _below(node, DEEPEST))
        if not found:
            arrays = sorted(name for name, _ in node.arrays()) if tops else []
            remedy = (
                f"pass an array in it: {path / arrays[0]}" if arrays else "pass an image or its parent folder"
            )
            raise UserError(path, "a Zarr group without an image (no multiscales)", READABLE, remedy)
    return sorted(found, key=lambda image: natural(image.as_posix()))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens a group or an array."""
    zarr = load_zarr()
    if path.is_dir():
        yield zarr.open(str(path), mode="r")
        return
    archive, inner = store_of(path)
    groups_of_zip(archive)  # rejects malicious archives
    with zarr.storage.ZipStore(archive, mode="r") as store:
        yield zarr.open(store, path=inner, mode="r")


def open_image(path: Path, opened: ExitStack) -> tuple[Any, Metadata, list[Note]]:
    """Opens an image: the full-resolution array of a group, or the array at the path.

    Args:
        path: Group or array, or a store with a single image.
        opened: Stack that closes what is opened here.

    Returns:
        The array, its attributes, and notes on what else the group contains.

    Raises:
        UserError: If there is no image, or more than one.
    """
    images = images_of(path)
    if len(images) > 1:
        names = ", ".join(store_of(image)[1] for image in images[:5]) + ", …" * (len(images) > 5)
        found = f"a store of {len(images)} images"
        raise UserError(
            path, found, "one image", f"pass one of them as {path}/NAME, where NAME is one of {names}"
        )
    path = images[0]
    node = opened.enter_context(_opened(path))
    if not hasattr(node, "shape"):
        ome, others = _parts(node)
        array, metadata = _level(node, ome, others, path)
        _check_size(array, path)
        return array, metadata, _beside(node, path) + _not_stored(array)
    _check_size(node, path)
    with suppress(Exception), ExitStack() as above:
        group = above.enter_context(_opened(path.parent))
        ome, others = _parts(group)
        paths = [dataset["path"] for dataset in ome["multiscales"][0]["datasets"]]
        return node, _metadata(node, ome, others, paths.index(path.name)), _not_stored(node)
    return node, _metadata(node, {}, {}, 0), _not_stored(node)


def _below(node: Any, depth: int) -> Iterator[str]:
    """Yields the paths of images relative to a group; an empty string if the group or array is an image itself."""
    if hasattr(node, "shape") or _parts(node)[0].get("multiscales"):
        yield ""
        return
    groups = dict(node.groups()) if depth else {}
    for named in _named(_parts(node)[0]):
        with suppress(Exception):  # a plate may list wells that were never written
            groups.setdefault(named, node[named])
    for name, child in groups.items():
        if name not in NO_IMAGES and hasattr(child, "groups"):
            yield from (f"{name}/{inner}".rstrip("/") for inner in _below(child, depth - 1))


def _named(ome: dict[str, Any]) -> list[str]:
    """Returns the paths that the metadata of a plate, a well or a series list."""
    listed = [*ome.get("plate", {}).get("wells", []), *ome.get("well", {}).get("images", [])]
    return [one["path"] for one in listed] + list(ome.get("series", []))


def _parts(group: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits the attributes of a group into those that OME-NGFF defines and all others."""
    attributes = dict(group.attrs)
    if isinstance(attributes.get("ome"), dict):
        return attributes.pop("ome"), attributes
    own = ("multiscales", "omero", "plate", "well", "series", "image-label")
    return {key: attributes.pop(key) for key in own if key in attributes}, attributes


def _level(group: Any, ome: dict[str, Any], others: dict[str, Any], path: Path) -> tuple[Any, Metadata]:
    """Returns the full-resolution array: by convention the first, or any larger one."""
    datasets = ome["multiscales"][0]["datasets"]
    arrays = {0: group[datasets[0]["path"]]}
    for number, dataset in enumerate(datasets[1:], 1):
        with suppress(KeyError):
            arrays[number] = group[dataset["path"]]
    level = max(arrays, key=lambda number: arrays[number].size)
    if not hasattr(arrays[level], "shape"):
        raise UserError(path, f"lists {datasets[level]['path']} as an array, but it is a group", READABLE)
    return arrays[level], _metadata(arrays[level], ome, others, level)


def _metadata(array: Any, ome: dict[str, Any], others: dict[str, Any], level: int) -> Metadata:
    attributes = dict(array.attrs)
    names = getattr(array.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS") or ()
    newer = array.metadata.zarr_format == 3
    return Metadata(ome, others, level, attributes, newer, tuple(names) if all(names) else ())


def _beside(group: Any, path: Path) -> list[Note]:
    """Returns notes on the labels of an image, other contents of its group, and store-wide metadata."""
    notes = []
    datasets = _parts(group)[0]["multiscales"][0]["datasets"]
    levels = {dataset["path"].split("/")[0] for dataset in datasets}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels = len(dict(group["labels"].groups())) if "labels" in group else 0
        others = sorted({name for name, _ in group.members()} - levels - {"labels"})
    if others:
        text = f"other contents of the group of the image, not copied: {', '.join(others[:5])}"
        notes.append(Note("left_aside", len(others), text))
    if labels:
        notes.append(Note("left_aside", labels, f"label images, not restored: {labels}"))
    store, inner = store_of(path)
    if inner:
        with suppress(Exception), _opened(store) as root:
            if "OME" in root or _parts(root)[0].get("plate"):
                text = "metadata of the store as a whole (plate, OME-XML) are not copied"
                notes.append(Note("left_aside", 1, text))
    return notes


def _check_size(array: Any, path: Path) -> None:
    """Rejects sizes that no real store has, before they cost time and memory."""
    files = array.chunks if array.shards is None else array.shards
    chunks = prod(-(-side // of_file) for side, of_file in zip(array.shape, files, strict=True))
    planes = prod(array.shape[:-2])
    if max(chunks, planes) > MOST:
        raise UserError(
            path,
            f"an array of {planes} planes in {chunks} chunks",
            allowed=f"at most {MOST} of either",
            remedy="restore parts of it, or store it in larger chunks",
        )


def _not_stored(array: Any) -> list[Note]:
    """Returns a note on chunks without a file: omitted because they are empty, or lost."""
    if array.shards is not None:  # a shard may omit chunks within itself
        return []
    missing = array.nchunks - array.nchunks_initialized
    text = f"chunks that are not stored are read as {array.fill_value}: {missing} of {array.nchunks}"
    return [Note("guessed", missing, text)] if missing else []
