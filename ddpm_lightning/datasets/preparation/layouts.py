"""Folder layouts of published sets, and the pairs in them.

A layout is an object with :meth:`find`; each data set lists its known layouts. Nothing is guessed: a file without a
partner, or with two, causes an error that names it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import regex

from ddpm_lightning.datasets.preparation.images import SUFFIXES
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import natural

__all__ = [
    "RepeatedCaptures",
    "FoundPair",
    "Layout",
    "PairedFolders",
    "check_pattern",
    "field_of",
    "find_pairs",
]


#: Maximum number of characters of a pattern, and maximum time in seconds for one name: a model file may contain any
#: pattern.
LONGEST_PATTERN, SECONDS = 1000, 1.0


@dataclass(frozen=True)
class FoundPair:
    """Two files that belong together.

    Attributes:
        low: File of the degraded image, or stack of images.
        high: File of the clean image, or stack.
        field: Field of view.
        split: Split in which it was published, or ``None``.
        registered: Whether the publishers registered it.
    """

    low: Path
    high: Path
    field: str
    split: str | None = None
    registered: bool = False


class Layout(Protocol):
    """An arrangement of pairs in folders."""

    @property
    def description(self) -> str:
        """The layout in words, for messages."""
        ...

    def find(self, folder: Path, field_pattern: str | None) -> list[FoundPair]:
        """Returns the pairs below a folder, in a fixed order; none if the folder has another layout."""
        ...


@dataclass(frozen=True)
class PairedFolders:
    """Two folders beside each other, with equal file names: ``…/low/NAME`` and ``…/high/NAME``.

    Attributes:
        low: Name of the folder of degraded images.
        high: Name of the folder of clean images.
        splits: Splits by name of the parent folder; other pairs are split by field.
        registered: Whether the images are registered already.
    """

    low: str
    high: str
    splits: Mapping[str, str] = field(default_factory=dict)
    registered: bool = False

    @property
    def description(self) -> str:
        """The layout in words, for messages."""
        above = f"{{{','.join(self.splits)}}}/" if self.splits else "…/"
        return f"{above}{self.low}/NAME beside {self.high}/NAME"

    def find(self, folder: Path, field_pattern: str | None) -> list[FoundPair]:
        """Returns the pairs in all such folders."""
        found = []
        for lows in sorted(path for path in folder.rglob(self.low) if path.is_dir()):
            highs = lows.with_name(self.high)
            if not highs.is_dir():
                continue
            above = lows.parent
            place = "" if above == folder else f"{above.name}/"
            low_files, high_files = _by_stem(lows), _by_stem(highs)
            for stem in sorted(low_files.keys() | high_files.keys(), key=natural):
                if stem not in low_files or stem not in high_files:
                    present, other = (lows, highs) if stem in low_files else (highs, lows)
                    raise UserError(
                        (low_files | high_files)[stem],
                        f"in {present.name} has no partner of the same name in {other}",
                        remedy="add the partner, or remove this file",
                    )
                view = place + field_of(stem, field_pattern, low_files[stem])
                split = self.splits.get(above.name)
                found.append(FoundPair(low_files[stem], high_files[stem], view, split, self.registered))
        return found


@dataclass(frozen=True)
class RepeatedCaptures:
    """Repeated captures of each field and their mean: ``NAME/raw/FIELD/*.png`` and ``NAME/gt/FIELD/avg50.png``.

    Attributes:
        name: Name of the folder, if there are several.
        level: Folder of the captures: ``raw`` for single ones, ``avg2`` to ``avg16`` for means of a few.
        clean: Folder of the means of all captures.
    """

    name: str
    level: str = "raw"
    clean: str = "gt"

    @property
    def description(self) -> str:
        """The layout in words, for messages."""
        return f"{self.name}/{self.level}/FIELD/*.png beside {self.name}/{self.clean}/FIELD/avg50.png"

    def find(self, folder: Path, field_pattern: str | None) -> list[FoundPair]:
        """Returns the pairs of each capture and the mean of its field."""
        bases = [
            path.parent for path in [folder / self.clean, *folder.rglob(f"*/{self.clean}")] if path.is_dir()
        ]
        bases = sorted(base for base in set(bases) if (base / self.level).is_dir())
        if len(bases) > 1:
            bases = [base for base in bases if base.name == self.name]
        found = []
        for base in bases[:1]:
            for view in sorted(
                filter(Path.is_dir, (base / self.level).iterdir()), key=lambda path: natural(path.name)
            ):
                mean = self._mean(base / self.clean / view.name, view)
                captures = _by_stem(view)
                found += [
                    FoundPair(captures[stem], mean, view.name) for stem in sorted(captures, key=natural)
                ]
        return found

    @staticmethod
    def _mean(folder: Path, captures: Path) -> Path:
        candidates = list(_by_stem(folder).values()) if folder.is_dir() else []
        if len(candidates) != 1:
            names = ", ".join(path.name for path in candidates) or "none"
            raise UserError(
                captures,
                f"needs one clean image in {folder}, but there are {len(candidates)} ({names})",
                allowed="one file, avg50.png",
                remedy="add it, or leave only the mean of all captures there",
            )
        return candidates[0]


def find_pairs(folder: Path, layouts: Sequence[Layout], field_pattern: str | None = None) -> list[FoundPair]:
    """Returns the pairs below a folder, by the first layout that finds any.

    Args:
        folder: The folder.
        layouts: Known layouts of the set.
        field_pattern: Regular expression whose first group is the field of view in a file name without its suffix;
            by default each file is a field of its own.

    Raises:
        UserError: If no layout fits, or a file has no partner or two.
    """
    if not folder.is_dir():
        raise UserError(folder, "is not a folder")
    for layout in layouts:
        if found := layout.find(folder, field_pattern):
            return found
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir())[:8]
    raise UserError(
        folder,
        f"contains no pairs in a known layout; its folders: {', '.join(names) or 'none'}",
        allowed="; or ".join(layout.description for layout in layouts),
        remedy="check that the archive is the right one, or rename the folders",
    )


def check_pattern(pattern: str | None, key: str) -> None:
    """Rejects everything except a regular expression with a group.

    Raises:
        UserError: Naming the key.
    """
    if pattern is None:
        return
    try:
        if len(pattern) > LONGEST_PATTERN:
            trouble = f"it has {len(pattern)} characters, more than {LONGEST_PATTERN}"
        elif regex.compile(pattern).groups:
            return
        else:
            trouble = "it has no group"
    except regex.error as error:
        trouble = str(error)
    raise UserError(
        f"{key}={pattern}",
        f"cannot be used: {trouble}",
        allowed=r"a regular expression whose first group is the field of view: (\d+)_",
    )


def field_of(stem: str, pattern: str | None, path: Path) -> str:
    """Returns the field of view of a file, from its name.

    Raises:
        UserError: If the pattern is invalid or does not match.
    """
    if pattern is None:
        return stem
    check_pattern(pattern, "field_pattern")
    try:
        match = regex.search(pattern, stem, timeout=SECONDS)
    except TimeoutError as error:
        found = f"takes more than {SECONDS:g} s on {path.name}"
        raise UserError(f"field_pattern={pattern}", found, remedy="simplify the expression") from error
    if match is None or match.group(1) is None:
        raise UserError(
            path, f"does not match the pattern of fields of view {pattern!r}", remedy="correct field_pattern"
        )
    return match.group(1)


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in files:
            raise UserError(
                path,
                f"and {files[path.stem].name} are two candidates for {path.stem}",
                remedy="keep one of them",
            )
        files[path.stem] = path
    return files
