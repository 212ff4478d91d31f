"""Files beside the images that are not read, counted so that nobody believes they were."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ddpm_lightning.data.notes import Note

__all__ = ["endings_of", "is_other", "left_aside"]

#: Images that microscopists export, and that lose grey values, axes or pixel size.
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
#: Files of microscopes and of image analysis.
FORMATS = (
    *(
        ".czi",
        ".lsm",
        ".zvi",
        ".lif",
        ".lof",
        ".nd2",
        ".oib",
        ".oif",
        ".oir",
        ".vsi",
        ".ims",
        ".sld",
        ".sldy",
    ),
    *(".dv", ".r3d", ".stk", ".flex", ".mrc", ".dm3", ".dm4", ".h5", ".hdf5", ".n5", ".npy", ".nrrd", ".svs"),
    *(".ndpi", ".scn"),
)


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
