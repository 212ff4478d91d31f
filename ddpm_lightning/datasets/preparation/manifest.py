"""``manifest.json``: the origin of each pair of a prepared set. It is written last, once the set is complete.

For each pair: split, name, field of view, source files and plane, crop as (top, left, height, width), the motion that
registered it, and the SHA-256 of both files. For the set: source and its hash, settings, sizes, and what was left out
and why.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from ddpm_lightning.utils.atomic import sha256
from ddpm_lightning.utils.errors import UserError

__all__ = [
    "FORMAT",
    "MANIFEST",
    "LeftOut",
    "Manifest",
    "MotionRecord",
    "Origin",
    "PairRecord",
    "SourcePair",
    "damage",
    "fields_of",
    "read_manifest",
]

MANIFEST = "manifest.json"
FORMAT = 1


class Source(TypedDict):
    """The published file, or a hash of the files of a folder."""

    name: str
    sha256: str


class Origin(TypedDict):
    """Name and source of a set, pixel size in µm, and the published number of pairs of each split."""

    data: str
    source: Source
    pixel_size: float | None
    published: dict[str, int]


class MotionRecord(TypedDict):
    """The motion that registered a pair, in pixels and degrees, and the correlation before and after it."""

    down: float
    right: float
    angle: float
    correlation: list[float]
    applied: bool


class SourcePair(TypedDict):
    """Two source files, with their field of view."""

    low: str
    high: str
    field: str


class PairRecord(SourcePair):
    """The origin of a pair: source files and plane, and the crop as (top, left, height, width)."""

    split: str
    name: str
    plane: int
    crop: Sequence[int]
    motion: MotionRecord | None
    sha256: dict[str, str]


class LeftOut(SourcePair):
    """A source pair that could not be used."""

    reason: str


class Manifest(Origin):
    """The content of ``manifest.json``."""

    format: int
    settings: Mapping[str, Any]
    counts: dict[str, int]
    differences: list[str]
    background_crops: int
    left_out: list[LeftOut]
    pairs: list[PairRecord]


def read_manifest(root: Path) -> Manifest | None:
    """Returns the manifest of a prepared set, or ``None`` if there is none.

    Raises:
        UserError: If the file is not a manifest of this program.
    """
    path = root / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise UserError(
                path,
                f"has format {manifest['format']}",
                allowed=str(FORMAT),
                remedy="delete it and prepare again",
            )
        return manifest
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            path,
            f"is not the manifest of a prepared data set ({error})",
            remedy="delete it and prepare again",
        ) from error


def fields_of(manifest: Manifest, split: str) -> dict[str, str]:
    """Returns the field of view of each pair of a split, by name."""
    return {pair["name"]: pair["field"] for pair in manifest["pairs"] if pair["split"] == split}


def damage(root: Path, manifest: Manifest) -> list[str]:
    """Returns a sentence for each file of a prepared set that is missing or has changed."""
    found = []
    for pair in manifest["pairs"]:
        for role, expected in pair["sha256"].items():
            path = root / pair["split"] / role / f"{pair['name']}.tif"
            if not path.is_file():
                found.append(f"{path}: is missing")
            elif sha256(path) != expected:
                found.append(f"{path}: has changed since it was prepared")
    return found
