"""Your own pairs: ``{train,val,test}/{low,high}/NAME.tif``. Files with equal names form a pair, whatever the extension.

A file may contain one image, a time series or a z stack. Each of its planes is a pair (``NAME_t3_z0``), all of one
field of view; with ``neighbours``, a pair includes the planes before and after it in its file. The planes of a noisy
series with a single clean image are repeats: each forms a pair with that image.

All formats that can be restored are read, also in position folders (``low/Pos0/NAME.tif`` is called ``Pos0_NAME``).
Folders ``low/`` and ``high/`` without folders for the splits are split by field of view. If there are no clean images,
``high/`` is omitted: methods such as Noise2Void learn from noisy images alone.

The field of view of a file is given by a pattern of names, or by one of these files beside the folders: ``fields.csv``
(columns ``name`` and ``field``, optionally ``split``), ``index.csv`` (columns ``id`` and ``field``, optionally
``split``), or the ``manifest.json`` of a prepared set. Otherwise each file is a field of its own.
"""

import csv
import io
from collections.abc import Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.data.splits import SPLITS, Split, assign, check_split
from ddpm_lightning.datasets.preparation.layouts import check_pattern, field_of
from ddpm_lightning.datasets.preparation.manifest import fields_of, read_manifest
from ddpm_lightning.io.cached_planes import CachedPlanes
from ddpm_lightning.io.listing import extensions_of, find_images, notes_on_ignored
from ddpm_lightning.io.notes import Note
from ddpm_lightning.io.stack_axis import NeighboursAxis, StackAxis
from ddpm_lightning.io.stacks import SUFFIXES, image_name, images_in, stem
from ddpm_lightning.simulation.degraded_pairs import Degradations, degraded
from ddpm_lightning.utils.errors import UserError, printable
from ddpm_lightning.utils.paths import expanded, natural
from ddpm_lightning.utils.settings import FromZero, Positive, Text

__all__ = ["FolderData", "FolderPairs"]

LAYOUT = (
    "a folder with {train,val,test}/{low,high}/*.tif, or {low,high}/*.tif, in which partners have equal names; for"
    " methods that need no clean images, low/ is enough"
)


class FolderPairs:
    """The pairs of one split of a folder.

    Args:
        root: Folder of the splits.
        split: Name of the split.
        pixel_size: Size of a pixel in µm; by default that of each file, if it has one.
        field_pattern: Regular expression whose first group is the field of view in a file name without its suffix.
        assignment: How fields are assigned to splits if there are no folders of splits; see :func:`assign`.
        seed: Seed of that split.
        neighbours_axis: Axis along which planes of a file are neighbours.

    Raises:
        UserError: If a folder is missing or empty, or a file has no partner; ``high`` may be missing as a whole.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        pixel_size: float | None = None,
        field_pattern: str | None = None,
        assignment: Split | None = None,
        seed: int = 0,
        neighbours_axis: NeighboursAxis = "auto",
    ) -> None:
        self.neighbours_axis: NeighboursAxis = neighbours_axis
        root = Path(root)
        self.folder = root / split if assignment is None else root
        lows, self._aside = _files(self.folder / "low")
        self.paired = (self.folder / "high").is_dir()
        highs, aside = _files(self.folder / "high") if self.paired else (lows, [])
        self._aside += aside
        if alone := sorted(lows.keys() ^ highs.keys(), key=natural):
            name, other = alone[0], "high" if alone[0] in lows else "low"
            more = f" (and {len(alone) - 1} other files have none)" if len(alone) > 1 else ""
            raise UserError(
                lows.get(name) or highs[name],
                f"has no partner of the same name in {self.folder / other}{more}",
                remedy="add it, or remove this file",
            )
        manifest = read_manifest(root)
        table, placed = _table(root, split, lows, by_split=assignment is None)
        if manifest is not None:
            table = fields_of(manifest, split)
        names = sorted(lows, key=natural)
        self.fields = {name: table.get(name) or field_of(name, field_pattern, lows[name]) for name in names}
        if assignment is not None:
            by_field = {} if placed else assign(self.fields.values(), assignment, seed)
            names = [name for name in names if (placed.get(name) or by_field.get(self.fields[name])) == split]
        self.pixel_size = pixel_size if manifest is None else pixel_size or manifest["pixel_size"]
        self.names = names
        self.files = [(CachedPlanes(lows[name]), CachedPlanes(highs[name])) for name in names]
        # The files of a prepared set hold one plane each: there is no need to open thousands of them.
        planes = [1 if manifest else _count(low) for low, _ in self.files]
        self.index = [(number, plane) for number, count in enumerate(planes) for plane in range(count)]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Pair:
        """Reads a pair.

        Raises:
            UserError: If a file cannot be read as grey planes, sizes differ, or an image is constant.
        """
        number, plane = self.index[index]
        low, high = self.files[number]
        if not _partners(low, high):
            raise UserError(
                low.path,
                f"is {low.size}, but its partner {high.path} is {high.size}",
                allowed="partners of equal size, or a series of repeats with one clean image",
                remedy="crop or register the pair; images are never resized silently",
            )
        name, label = self.names[number], low.label(plane)
        return Pair(
            low.plane(plane),
            high.plane(plane % high.planes),
            f"{name}_{label}" if label else name,
            self.fields[name],
            low.pixel_size if self.pixel_size is None else self.pixel_size,
            paired=self.paired,
        )

    def neighbour(self, index: int, distance: int) -> int | None:
        """Returns the index of a neighbour of a plane in its file."""
        number, plane = self.index[index]
        other = self._axis(self.files[number][0]).neighbour(plane, distance)
        return None if other is None else index - plane + other

    @property
    def stack_axis(self) -> str:
        """The axis of neighbours, if it is depth (``z``) or time (``t``) in all files with several planes."""
        letters = {self._axis(low).letter for low, _ in self.files} - {""}
        return letters.pop().lower() if letters in ({"Z"}, {"T"}) else ""

    def _axis(self, file: CachedPlanes) -> StackAxis:
        return StackAxis.of(file.info, self.neighbours_axis)

    def notes(self) -> list[str]:
        """Returns what was ignored in the folder, and what was ignored or guessed in the files read so far."""
        texts = [f"{note.text} ({folder})" for folder, note in self._aside]
        found: dict[str, list[str]] = {}
        for path, note in ((file.path, note) for pair in self.files for file in pair for note in file.notes):
            found.setdefault(note.text, []).append(str(path.relative_to(self.folder)))
        for text, names in found.items():
            names = list(dict.fromkeys(names))
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            texts.append(f"{names[0]}{more}: {text}")
        return texts + self._repeats()

    def _repeats(self) -> list[str]:
        axes: list[str] = []
        for low, high in self.files:
            with suppress(UserError):  # a file that cannot be read is reported when its pairs are read
                axes += [low.info.axes] * (low.planes > high.planes and _partners(low, high))
        kinds = " and ".join(sorted(set(axes)))
        text = f"{len(axes)} noisy series ({kinds}) with one clean image each: their planes are treated as repeats"
        return [text] if axes else []


def _partners(low: CachedPlanes, high: CachedPlanes) -> bool:
    """Says whether each noisy plane has a clean one: its own, or one that all repeats share."""
    same = low.stacked[len(low.stacked) - len(high.stacked) :] == high.stacked
    return same and low.info.plane_shape == high.info.plane_shape


def _count(file: CachedPlanes) -> int:
    """Returns the number of planes; a file that cannot be read counts as one, and raises the error when it is read."""
    try:
        return file.planes
    except UserError:
        return 1


def _files(folder: Path) -> tuple[dict[str, Path], list[tuple[str, Note]]]:
    """Returns the images of a folder by name, and notes on what else it contains, with the name of the folder."""
    if not folder.is_dir():
        raise UserError(folder, "is not a folder", allowed=LAYOUT, remedy="check data.root=DIR")
    paths, others = find_images(folder)
    if not paths:
        found = "contains no TIFF files" + (f", but {extensions_of(others)} files" if others else "")
        raise UserError(folder, found, allowed=LAYOUT, remedy="save the images as TIFF" if others else "")
    files: dict[str, Path] = {}
    for path in paths:
        inner = path.relative_to(folder)
        if printable(str(inner)) != str(inner):
            raise UserError(path, "has a name that is not UTF-8", remedy="rename the file")
        for image in images_in(path):
            # Figures are named like this as well.
            name = "_".join((*inner.parts[:-1], stem(image_name(image))))
            if name in files:
                raise UserError(
                    image,
                    f"has the same name ({name}) as {files[name].name}",
                    remedy="rename or remove one of them",
                )
            files[name] = image
    return files, [(folder.name, note) for note in notes_on_ignored(others)]


def _table(
    root: Path, split: str, names: Container[str], by_split: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Reads which field of view, and which split, each file belongs to.

    Args:
        root: Folder that may hold a table.
        split: Split that is asked for.
        names: Names of the files, without their extensions; the table may list them with extensions.
        by_split: Whether names are only unique within their split.
    """
    for table, key in ((root / "fields.csv", "name"), (root / "index.csv", "id")):
        if not table.is_file():
            continue
        rows = _rows(table)
        if not rows:
            raise UserError(table, "names no files", allowed=f"a line {key},field and a line for each file")
        if key not in rows[0] or "field" not in rows[0]:
            raise UserError(table, f"has columns {list(rows[0])}", allowed=f"{key}, field[, split]")
        for row in rows:
            if row[key] not in names and (row[key] or "").lower().endswith((*SUFFIXES, ".ome")):
                row[key] = stem(row[key])
        _check_splits(table, rows)
        if by_split:
            rows = [row for row in rows if row.get("split", split) == split]
        placed = {row[key]: row["split"] for row in rows if row.get("split")}
        if wrong := sorted(set(placed.values()) - set(SPLITS)):
            raise UserError(table, f"names the split {wrong[0]!r}", allowed=", ".join(SPLITS))
        return _unambiguous(table, rows, key), placed
    return {}, {}


def _check_splits(table: Path, rows: list[dict[str, str]]) -> None:
    """Rejects a table with one field of view in two splits: scores would be those of images seen in training."""
    split_of: dict[str, str] = {}
    for row in rows:
        field, split = (row["field"] or "").strip(), (row.get("split") or "").strip()
        if field and split and split_of.setdefault(field, split) != split:
            raise UserError(
                table,
                f"puts the field of view {field} into two splits, {split_of[field]} and {split}",
                remedy="keep each field in one split",
            )


def _unambiguous(table: Path, rows: list[dict[str, str]], key: str) -> dict[str, str]:
    """Returns the field of each file; an error in the table could put a field into two splits."""
    fields: dict[str, str] = {}
    for row in rows:
        name, field = row[key], (row["field"] or "").strip()
        if not field:
            raise UserError(table, f"names no field for {name}", remedy="write one, or remove the line")
        if fields.setdefault(name, field) != field:
            raise UserError(
                table,
                f"puts {name} into two fields, {fields[name]} and {field}",
                remedy="remove one of the lines",
            )
    return fields


def _rows(table: Path) -> list[dict[str, str]]:
    """Reads a table as spreadsheets save it: with or without a byte-order mark, separated by commas or semicolons."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            table,
            f"is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}",
            remedy="save it as CSV UTF-8 (spreadsheets offer that format by this name)",
        ) from error
    except OSError as error:
        raise UserError(table, f"cannot be read ({error})") from error
    first = text.partition("\n")[0]
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ","))


class FolderData(PairDataModule):
    """Pairs of TIFF files of your own.

    Args:
        root: Folder that contains ``{train,val,test}/{low,high}/*.tif``, or ``{low,high}/*.tif``.
        pixel_size: Size of a pixel in µm, if the files do not record it.
        name: Name of the set in results; by default that of the folder.
        field_pattern: Regular expression whose first group is the field of view in a file name without its suffix.
        split: Fractions of the fields, or names of fields, for folders without splits.
        split_seed: Seed of the split by fractions; separate from that of the run, so that all runs have the same split.
        degradations: Further degradations of the low images, in order, or by name.
        neighbours_axis: Axis along which planes of a file are neighbours: ``z``, ``t``, or ``auto`` for the first of
            depth, time and other axes in each file.
        settings: Settings of :class:`PairDataModule`.

    Raises:
        UserError: If the folder does not exist.
    """

    def __init__(
        self,
        root: Text | Path,
        pixel_size: Positive | None = None,
        name: Text | None = None,
        field_pattern: Text | None = None,
        split: Mapping[str, Any] | None = None,
        split_seed: FromZero = 0,
        degradations: Degradations = (),
        neighbours_axis: NeighboursAxis = "auto",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.neighbours_axis: NeighboursAxis = neighbours_axis
        self.root = expanded(root)
        if not self.root.is_dir():
            raise UserError(f"data.root={root}", "is not a folder", allowed=LAYOUT)
        self.flat = not any((self.root / name).is_dir() for name in SPLITS)
        if self.flat and not (self.root / "low").is_dir():
            raise UserError(f"data.root={root}", "contains no folder train, val, test or low", allowed=LAYOUT)
        self.pixel_size, self.field_pattern, self.degradations = pixel_size, field_pattern, degradations
        self.split = split or {"train": 0.8, "val": 0.1, "test": 0.1}
        self.split_seed = split_seed
        check_pattern(field_pattern, "data.field_pattern")
        check_split(self.split, "data.split")
        self._read: dict[str, FolderPairs] = {}
        self.name = name or self.root.resolve().name

    @property
    def facts(self) -> str:
        """Facts about the set, as Markdown."""
        return f"Pairs of the folder `{self.root}`" + (", split by field of view." if self.flat else ".")

    def source(self, split: str) -> PairSource:
        """Returns the pairs of a split."""
        assignment = self.split if self.flat else None
        pairs = FolderPairs(
            self.root,
            split,
            self.pixel_size,
            self.field_pattern,
            assignment,
            self.split_seed,
            self.neighbours_axis,
        )
        self._read[split] = pairs
        if self.neighbours and split == "train":
            self.stack_axis = pairs.stack_axis
        return degraded(pairs, self.degradations, split)

    def notes(self, split: str) -> list[str]:
        """Returns what is ignored in a split, and what was guessed in the files read so far."""
        return self._read[split].notes() if split in self._read else []
