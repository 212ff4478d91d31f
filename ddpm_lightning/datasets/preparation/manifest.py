"""``manifest.json``: the origin of each pair of a prepared set. It is written last, once the set is complete.

For each pair: split, name, field of view, source files and plane, crop as (top, left, height, width), the motion that
registered it, and the SHA-256 of both files. For the set: source and its hash, settings, sizes, and what was left out
and why.
"""

import json
from pathlib import Path
from typing import Any

from ddpm_lightning.utils.atomic import sha256
from ddpm_lightning.utils.errors import UserError

__all__ = ["FORMAT", "MANIFEST", "damage", "fields_of", "read_manifest"]

MANIFEST = "manifest.json"
FORMAT = 1


def read_manifest(root: Path) -> dict[str, Any] | None:
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
            path, f"is no manifest of a prepared data set ({error})", remedy="delete it and prepare again"
        ) from error


def fields_of(manifest: dict[str, Any], split: str) -> dict[str, str]:
    """Returns the field of view of each pair of a split, by name."""
    return {pair["name"]: pair["field"] for pair in manifest["pairs"] if pair["split"] == split}


def damage(root: Path, manifest: dict[str, Any]) -> list[str]:
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
