"""Zarr stores among other files: which paths lie in one, and what is in a ZIP that holds one.

A store is a folder or a ZIP. A path may lead into either, as in ``plate.zarr/A/1/0`` and ``image.zarr.zip/0``.
"""

import os
import zipfile
from functools import lru_cache
from pathlib import Path, PurePosixPath

from ddpm_lightning.errors import UserError

__all__ = ["ZIPS", "groups_of_zip", "is_zarr", "on_disk", "stem_of", "store_of"]

SUFFIX = ".zarr"
#: Names of ZIP files that may be stores; ``.ozx`` is that of OME-Zarr.
ZIPS = (".zip", ".ozx")
#: Files that make a folder a group or an array of Zarr.
MARKERS = (".zgroup", ".zarray", "zarr.json")
METADATA = (*MARKERS, ".zattrs", ".zmetadata")
#: No honest description is larger, and no honest chunk shrinks more beyond a size that does no harm.
LARGEST_METADATA, HARMLESS, RATIO = 2**26, 2**26, 200


def is_zarr(path: Path) -> bool:
    """Says whether a path is a group or an array of Zarr: a folder, a ZIP file, or something in one of them."""
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
    """Returns the store that a path of Zarr is in, and where in it, with ``/`` between names; empty at its top."""
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
    """Returns the file or folder that holds a path of Zarr: the ZIP file, where it leads into one."""
    return path if path.exists() else _zip_of(path) or path


def stem_of(store: Path) -> tuple[str, str]:
    """Returns the name of a store without its endings, and the ending of a folder of the same kind."""
    name = store.name
    for ending in (*ZIPS, SUFFIX):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    if name.lower().endswith(".ome"):
        return name[:-4], f"{name[-4:]}{SUFFIX}"
    return name, SUFFIX


def groups_of_zip(archive: Path) -> list[str]:
    """Returns where a ZIP file holds Zarr: an empty string where it is one itself, else the outermost folders.

    Raises:
        UserError: If it is damaged, or made to do harm: names that lead out of it, or small files that become huge.
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
    """Reads the directory of a ZIP file, which may be long, once for each state that the file is in."""
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
        found = "a path that leads out of it"
    elif member.flag_bits & 1:
        found = "encrypted"
    elif name.name in METADATA and member.file_size > LARGEST_METADATA:
        found = f"a description of {member.file_size / 1e6:.0f} MB"
    elif member.file_size > max(HARMLESS, RATIO * member.compress_size):
        found = f"{member.compress_size / 1e6:.1f} MB that become {member.file_size / 1e6:.0f} MB"
    if found:
        raise UserError(
            archive,
            f"holds {member.filename!r}: {found}",
            "ZIP files of Zarr, as programs for microscopy write them",
            "do not use it; if you trust it, unpack it and name the folder",
        )


def _marked(folder: Path) -> bool:
    return any((folder / name).is_file() for name in MARKERS)


def _zip_of(path: Path) -> Path | None:
    named = (one for one in (path, *path.parents) if one.suffix.lower() in ZIPS)
    return next((one for one in named if one.is_file()), None)
