"""Your own pairs: ``{train,val,test}/{low,high}/NAME.tif``, equal names being partners.

Fields of view are read from ``fields.csv`` (columns ``name`` and ``field``, optionally ``split``) or ``index.csv``
(columns ``id`` and ``field``, optionally ``split``) beside the split folders; without either, each pair is a field of
its own.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.data.datamodule import SPLITS, PairDataModule
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.data.tiff import read_image, read_info
from ddpm_lightning.errors import UserError

__all__ = ["FolderData", "FolderPairs"]

SUFFIXES = {".tif", ".tiff"}
LAYOUT = "a folder with {train,val,test}/{low,high}/*.tif, partners having equal names"


class FolderPairs:
    """The pairs of one split of a folder.

    Args:
        root: Folder that holds the splits.
        split: Name of the split.
        pixel_size: Size of a pixel in µm; by default that of each file, where it has one.

    Raises:
        UserError: If a folder is missing or empty, or a file has no partner.
    """

    def __init__(self, root: str | Path, split: str, pixel_size: float | None = None) -> None:
        self.folder = Path(root) / split
        self.pixel_size = pixel_size
        lows, highs = (self._files(self.folder / role) for role in ("low", "high"))
        for name in sorted(lows.keys() ^ highs.keys()):
            path = lows.get(name) or highs[name]
            other = "high" if name in lows else "low"
            raise UserError(
                path,
                f"has no partner of the same name in {self.folder / other}",
                remedy="add it, or remove this file",
            )
        self.files = [(lows[name], highs[name]) for name in sorted(lows)]
        self.fields = _fields(Path(root), split)

    @staticmethod
    def _files(folder: Path) -> dict[str, Path]:
        if not folder.is_dir():
            raise UserError(folder, "is not a folder", allowed=LAYOUT, remedy="check data.root=DIR")
        files: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                continue
            if path.stem in files:
                raise UserError(
                    path, f"and {files[path.stem].name} both claim the name {path.stem}", remedy="keep one"
                )
            files[path.stem] = path
        if not files:
            raise UserError(folder, "holds no TIFF files", allowed=LAYOUT)
        return files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Pair:
        """Reads a pair.

        Raises:
            UserError: If a file cannot be read as one grey plane, the sizes differ, or an image is constant.
        """
        low_path, high_path = self.files[index]
        low, high = read_image(low_path), read_image(high_path)
        if low.shape != high.shape:
            raise UserError(
                low_path,
                f"is {_size(low)} pixels, its partner {high_path} is {_size(high)}",
                allowed="partners of equal size",
                remedy="crop or register the pair; images are never resized silently",
            )
        for path, image in ((low_path, low), (high_path, high)):
            if image.min() == image.max():
                raise UserError(
                    path, f"is constant: every pixel is {image.flat[0]}", remedy="leave this pair out"
                )
        name = low_path.stem
        return Pair(low, high, name, self.fields.get(name, name), self._pixel_size(low_path))

    def _pixel_size(self, path: Path) -> float | None:
        if self.pixel_size is not None:
            return self.pixel_size
        recorded = read_info(path).pixel_size
        return None if recorded is None else float(np.mean(recorded))


def _size(image: np.ndarray) -> str:
    return " x ".join(map(str, image.shape))


def _fields(root: Path, split: str) -> dict[str, str]:
    """Reads which field of view each pair of a split belongs to."""
    for table, key in ((root / "fields.csv", "name"), (root / "index.csv", "id")):
        if not table.is_file():
            continue
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows or key not in rows[0] or "field" not in rows[0]:
            raise UserError(
                table, f"has columns {list(rows[0]) if rows else []}", allowed=f"{key}, field[, split]"
            )
        return {row[key]: row["field"] for row in rows if row.get("split", split) == split}
    return {}


class FolderData(PairDataModule):
    """Pairs of TIFF files of your own.

    Args:
        root: Folder that holds ``{train,val,test}/{low,high}/*.tif``.
        pixel_size: Size of a pixel in µm, if the files do not record it.
        name: Name of the set in results; by default that of the folder.
        settings: Settings of :class:`PairDataModule`.

    Raises:
        UserError: If the folder does not exist.
    """

    def __init__(
        self, root: str | Path, pixel_size: float | None = None, name: str | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise UserError(f"data.root={root}", "is not a folder", allowed=LAYOUT)
        if not any((self.root / split).is_dir() for split in SPLITS):
            raise UserError(f"data.root={root}", "holds no folder train, val or test", allowed=LAYOUT)
        self.pixel_size = pixel_size
        self.name = name or self.root.resolve().name

    def source(self, split: str) -> FolderPairs:
        """Returns the pairs of a split."""
        return FolderPairs(self.root, split, self.pixel_size)
