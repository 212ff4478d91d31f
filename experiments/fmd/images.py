"""The images of the mixed test set, from the published archive or from a folder of pairs.

The published archive holds, for 12 kinds of specimen and microscope, one folder each of recorded frames, and a folder
``test_mix``, where ``raw/NAME.png`` is a single frame and ``gt/NAME.png`` the mean of 50 frames of the same field: four
frames of each kind, all of field of view 19. The names contain the kind: ``Confocal_BPAE_B_1.png``.

A folder of pairs has the layout of ``data=folder``; the column ``source_low`` of its ``index.csv`` gives the name that
the file has in the archive. Splits are joined: no method here is trained on clean images of this set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage import io

from ddpm_lightning.data.splits import SPLITS
from ddpm_lightning.utils.errors import UserError
from experiments import common

__all__ = ["KINDS", "Frame", "find"]

KINDS = tuple(
    f"{microscope}_{specimen}"
    for microscope, specimens in {
        "Confocal": ("FISH", "MICE", "BPAE_B", "BPAE_G", "BPAE_R"),
        "TwoPhoton": ("MICE", "BPAE_B", "BPAE_G", "BPAE_R"),
        "WideField": ("BPAE_B", "BPAE_G", "BPAE_R"),
    }.items()
    for specimen in specimens
)


@dataclass(frozen=True)
class Frame:
    """A frame and its reference.

    Attributes:
        kind: Microscope and specimen, one of :data:`KINDS`.
        name: Name of the frame in the archive, without its suffix.
        low_path: File of the frame.
        high_path: File of the mean of 50 frames.
    """

    kind: str
    name: str
    low_path: Path
    high_path: Path

    @property
    def low(self) -> np.ndarray:
        """The frame with shape (H, W)."""
        return self._read(self.low_path)

    @property
    def high(self) -> np.ndarray:
        """The reference with shape (H, W), on the intensity scale of the frame."""
        return self._read(self.high_path)

    @staticmethod
    def _read(path: Path) -> np.ndarray:
        plane = io.imread(path)
        if plane.dtype != np.uint8 or plane.ndim != 2:
            found = f"contains {plane.dtype} with shape {plane.shape}"
            raise UserError(path, found, allowed="8-bit grey images", remedy="take the files as published")
        return plane


def find(folders: Mapping[str, Path]) -> list[Frame]:
    """Returns the images of the first folder that has any, in the order of :data:`KINDS`.

    Args:
        folders: Folders of pairs, or of the unpacked archive, by name.

    Raises:
        UserError: If there are none, or a frame has no reference.
    """
    for folder in folders.values():
        if images := [*_published(folder), *_listed(folder)]:
            return sorted(images, key=lambda image: (KINDS.index(image.kind), image.name))
    raise UserError(
        "--pairs",
        "names no folder with images of FMD",
        allowed="a folder with test_mix/raw/*.png and test_mix/gt/*.png, or with an index.csv that has source_low",
        remedy="see experiments/fmd/README.md for where to get them",
    )


def _published(folder: Path) -> list[Frame]:
    for root in (folder, folder / "test_mix"):
        if (root / "raw").is_dir() and (root / "gt").is_dir():
            frames = sorted((root / "raw").glob("*.png"))
            return [_image(path.stem, path, root / "gt" / path.name) for path in frames]
    return []


def _listed(folder: Path) -> list[Frame]:
    if not (folder / "index.csv").is_file():
        return []
    images = []
    for row in common.read(folder / "index.csv"):
        name = Path(row.get("source_low") or "").stem
        if row.get("split") in SPLITS and any(kind in name for kind in KINDS):
            split, file = folder / row["split"], f"{row['id']}.tif"
            images.append(_image(name, split / "low" / file, split / "high" / file))
    return images


def _image(name: str, low: Path, high: Path) -> Frame:
    kind = next((kind for kind in KINDS if kind in name), None)
    if kind is None:
        raise UserError(low, "names no kind of the set", ", ".join(KINDS), "keep the names of the archive")
    for path in (low, high):
        if not path.is_file():
            raise UserError(path, "does not exist", remedy="unpack the archive again")
    return Frame(kind, name, low, high)
