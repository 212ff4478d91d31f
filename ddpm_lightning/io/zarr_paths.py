"""Recognises Zarr stores among other files, paths inside stores, and ZIP files that contain stores.

A store is a folder or a ZIP file. A path may lead into either, as in ``plate.zarr/A/1/0`` and ``image.zarr.zip/0``.
"""

import os
import zipfile
from functools import lru_cache
from pathlib import Path, PurePosixPath

from ddpm_lightning.utils.errors import UserError

__all__ = ["groups_of_zip", "is_zarr", "on_disk", "stem_of", "store_of"]

SUFFIX = ".zarr"
#: Extensions of ZIP files that may be stores; ``.ozx`` is that of OME-Zarr.
ZIPS = (".zip", ".ozx")
#: Files that mark a folder as a Zarr group or array.
MARKERS = (".zgroup", ".zarray", "zarr.json")
METADATA = (*MARKERS, ".zattrs", ".zmetadata")
#: Largest metadata file, size up to which any chunk is accepted, and largest compression ratio beyond that size.
LARGEST_METADATA, HARMLESS, RATIO = 2**26, 2**26, 200


def is_zarr(path: Path) -> bool:
    """Says whether a path is a Zarr group or array: a folder, a ZIP file, or a path inside one of them."""
    if path.is_dir():
        return path.suffix.lower() == SUFFIX or _marked(path)
    archive = _zip_of(path)
    if archive is None:
        return False
    if archive.name.lower().endswith((f"{SUFFIX}.zip", ".ozx")):
        return True
    try:
        return bool(groups_of_zip(archive))
    except UserError:
        return False


def store_of(path: Path) -> tuple[Path, str]:
    """Returns the store that contains a Zarr path, and the path within it (``/`` between names; empty at its root)."""
    here = Path(os.path.abspath(path))
    root = _zip_of(here)
    if root is None:
        named = [above for above in here.parents if above.suffix.lower() == SUFFIX and _marked(above)]
        root = named[-1] if named else here
        while not named and _marked(root.parent) and root != root.parent:
            root = root.parent
    inner = here.relative_to(root).as_posix()
    return root, "" if inner == "." else inner


def on_disk(path: Path) -> Path:
    """Returns the file or folder on disk for a Zarr path: the ZIP file if it leads into one."""
    return path if path.exists() else _zip_of(path) or path


def stem_of(store: Path) -> tuple[str, str]:
    """Returns the name of a store without its extensions, and the extension of a folder of the same kind."""
    name = store.name
    for ending in (*ZIPS, SUFFIX):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    if name.lower().endswith(".ome"):
        return name[:-4], f"{name[-4:]}{SUFFIX}"
    return name, SUFFIX


def groups_of_zip(archive: Path) -> list[str]:
    """Returns the paths of Zarr stores in a ZIP file: an empty string for its root, else the outermost folders.

    Raises:
        UserError: If it is damaged or malicious: paths outside the archive, or small members that unpack to huge files.
    """
    try:
        stat = archive.stat()
        return list(_groups(archive, stat.st_size, stat.st_mtime_ns))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(
            archive, f"cannot be read as ZIP ({error})", "a ZIP file of Zarr", "copy it again"
        ) from error


@lru_cache(maxsize=64)
def _groups(archive: Path, size: int, modified: int) -> tuple[str, ...]:
    """Reads the directory of a ZIP file, which may be long; repeated only if the file changes."""
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
    marked: set[PurePosixPath] = set()
    for member in members:
        _refuse_harm(archive, member)
        if PurePosixPath(member.filename).name in MARKERS:
            marked.add(PurePosixPath(member.filename).parent)
    outermost = sorted(str(one) for one in marked if not any(above in marked for above in one.parents))
    return tuple("" if one == "." else one for one in outermost)


def _refuse_harm(archive: Path, member: zipfile.ZipInfo) -> None:
    name, found = PurePosixPath(member.filename.replace("\\", "/")), ""
    if name.is_absolute() or ".." in name.parts:
        found = "a path that leads outside the archive"
    elif member.flag_bits & 1:
        found = "encrypted"
    elif name.name in METADATA and member.file_size > LARGEST_METADATA:
        found = f"metadata of {member.file_size / 1e6:.0f} MB"
    elif member.file_size > max(HARMLESS, RATIO * member.compress_size):
        found = f"{member.compress_size / 1e6:.1f} MB that unpack to {member.file_size / 1e6:.0f} MB"
    if found:
        raise UserError(
            archive,
            f"contains {member.filename!r}: {found}",
            "ZIP files of Zarr as written by microscopy software",
            "do not use it; if you trust its source, unpack it and pass the folder",
        )


def _marked(folder: Path) -> bool:
    return any((folder / name).is_file() for name in MARKERS)


def _zip_of(path: Path) -> Path | None:
    named = (one for one in (path, *path.parents) if one.suffix.lower() in ZIPS)
    return next((one for one in named if one.is_file()), None)
