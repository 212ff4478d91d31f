"""The images of a folder, and a count of the files next to them that are not read."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from ddpm_lightning.io.notes import Note, counted
from ddpm_lightning.io.stacks import is_image
from ddpm_lightning.io.vendor_files import ENDINGS, INSTALL, is_installed

__all__ = [
    "EXPORT_FORMATS",
    "walk",
    "extensions_of",
    "contains_results",
    "is_unsupported",
    "is_tiff",
    "notes_on_ignored",
    "find_images",
]

#: Names that mark a folder of results.
RESULTS = ("restore.json", ".restore")

#: Formats that microscopists export, and that lose grey values, axes or pixel size.
EXPORT_FORMATS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
#: Formats of microscopes and of image analysis.
VENDOR_FORMATS = tuple(
    (
        ".czi .lsm .zvi .lif .lof .nd2 .oib .oif .oir .vsi .ims .sld .sldy .dv .r3d .stk .flex .mrc .dm3 .dm4"
        " .h5 .hdf5 .n5 .npy .nrrd .svs .ndpi .scn"
    ).split()
)


def find_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the images in a folder or, if there are none, in its subfolders; and what is not read.

    Not read are images in other formats, and subfolders with images if the folder itself contains images.
    """
    images, others, folders = _listed(folder)
    if images:
        seen = {folder.resolve()}
        others += [inner for inner in folders if any(found for found, _ in walk([inner], seen))]
        return images, others
    for found, aside in walk(folders, {folder.resolve()}):
        images += found
        others += aside
    return images, others


def _listed(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Returns the images of a folder, images in unsupported formats, and the subfolders that may contain more."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    images = [path for path in entries if is_image(path)]
    folders = [path for path in entries if path.is_dir() and path not in images]
    return images, [path for path in entries if is_unsupported(path)], folders


def walk(folders: Iterable[Path], seen: set[Path]) -> Iterator[tuple[list[Path], list[Path]]]:
    """Yields the images and other files of folders and all their subfolders, each once: links may form loops."""
    for folder in folders:
        if folder.resolve() in seen or contains_results(folder):
            continue
        seen.add(folder.resolve())
        images, others, inner = _listed(folder)
        yield images, others
        yield from walk(inner, seen)


def contains_results(folder: Path) -> bool:
    """Says whether a folder contains results of this program; such folders are not searched."""
    return any((folder / name).exists() for name in RESULTS)


def is_unsupported(path: Path) -> bool:
    """Says whether a path is an image in a format that is not read; hidden files do not count."""
    unread = path.suffix.lower() in EXPORT_FORMATS + VENDOR_FORMATS and not is_installed(path)
    return unread and not path.name.startswith(".")


def is_tiff(path: Path) -> bool:
    """Says whether a file begins as a TIFF does, whatever its name: so do some formats of microscopes."""
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    except OSError:
        return True  # whoever reads it says what is wrong


def extensions_of(paths: Iterable[Path]) -> str:
    """Returns the distinct extensions of files, for a message."""
    return " and ".join(sorted({path.suffix for path in paths}))


def notes_on_ignored(paths: Iterable[Path]) -> list[Note]:
    """Returns notes on what is not read.

    Args:
        paths: Files in unsupported formats, and subfolders with further images.
    """
    paths = list(dict.fromkeys(paths))
    kinds = Counter(path.suffix.lower() for path in paths if is_unsupported(path))
    texts: dict[tuple[str, ...], str] = {
        EXPORT_FORMATS: "not read, because the format loses grey values or pixel size: save as TIFF instead"
    }
    texts[ENDINGS] = f"not read: {INSTALL}, or convert to OME-TIFF"
    texts[tuple(sorted({*VENDOR_FORMATS} - {*ENDINGS}))] = "not read: convert to OME-TIFF"
    notes = []
    for endings, text in texts.items():
        for ending in endings:
            if count := kinds[ending]:
                notes.append(Note("left_aside", count, f"{counted(count, f'{ending} file')} {text}"))
    if folders := [path for path in paths if not is_unsupported(path)]:
        text = f"{counted(len(folders), 'folder')} with images not searched: the folder above has images of its own"
        notes.append(Note("left_aside", len(folders), text))
    return notes
