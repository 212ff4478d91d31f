"""The images of a folder, and the files beside them that are not read, counted so that nobody believes they were."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from ddpm_lightning.data.notes import Note
from ddpm_lightning.data.stacks import is_image

__all__ = ["below", "endings_of", "holds_results", "is_other", "left_aside", "search"]

#: What a folder of results holds.
OURS = ("restore.json", ".restore")

#: Images that microscopists export, and that lose grey values, axes or pixel size.
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
#: Files of microscopes and of image analysis.
FORMATS = tuple(
    (
        ".czi .lsm .zvi .lif .lof .nd2 .oib .oif .oir .vsi .ims .sld .sldy .dv .r3d .stk .flex .mrc .dm3 .dm4"
        " .h5 .hdf5 .n5 .npy .nrrd .svs .ndpi .scn"
    ).split()
)


def search(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the images in a folder or, where there are none, those in the folders below it; and what is not read.

    What is not read are images of other formats, and folders with images beside the images.
    """
    images, others, folders = _listed(folder)
    if images:
        seen = {folder.resolve()}
        others += [inner for inner in folders if any(found for found, _ in below([inner], seen))]
        return images, others
    for found, aside in below(folders, {folder.resolve()}):
        images += found
        others += aside
    return images, others


def _listed(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Returns the images of a folder, what is like one and cannot be read, and the folders that may hold more."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    images = [path for path in entries if is_image(path)]
    folders = [path for path in entries if path.is_dir() and path not in images]
    return images, [path for path in entries if is_other(path)], folders


def below(folders: Iterable[Path], seen: set[Path]) -> Iterator[tuple[list[Path], list[Path]]]:
    """Yields images and others of folders and all folders in them, each folder once: links may lead in circles."""
    for folder in folders:
        if folder.resolve() in seen or holds_results(folder):
            continue
        seen.add(folder.resolve())
        images, others, inner = _listed(folder)
        yield images, others
        yield from below(inner, seen)


def holds_results(folder: Path) -> bool:
    """Says whether a job of ours left results in a folder: a search through folders passes it by."""
    return any((folder / name).exists() for name in OURS)


def is_other(path: Path) -> bool:
    """Says whether a path is an image that is not read; hidden files are none."""
    return not path.name.startswith(".") and path.suffix.lower() in PICTURES + FORMATS


def endings_of(paths: Iterable[Path]) -> str:
    """Returns the different endings of files, for a message."""
    return " and ".join(sorted({path.suffix for path in paths}))


def left_aside(paths: Iterable[Path]) -> list[Note]:
    """Returns notes on what is not read.

    Args:
        paths: Files beside the images, and folders with further images.
    """
    paths = list(dict.fromkeys(paths))
    kinds = Counter(path.suffix.lower() for path in paths if is_other(path))
    texts = {PICTURES: "not read, since they lose grey values and pixel size: save them as TIFF"}
    texts[FORMATS] = "not read: save them as OME-TIFF"
    notes = []
    for endings, text in texts.items():
        for ending in endings:
            if count := kinds[ending]:
                files = f"{count} {ending} file{'s' * (count > 1)}"
                notes.append(Note("left_aside", count, f"{files} beside the images: {text}"))
    if folders := [path for path in paths if not is_other(path)]:
        told = f"{len(folders)} folder{'s' * (len(folders) > 1)} with images beside the images"
        notes.append(Note("left_aside", len(folders), f"{told}: not searched, name them to have them read"))
    return notes
