"""A cache of simulated pairs, keyed by a hash of everything that determines them.

The key covers the parameters, the source code of the simulation and the version of NumPy, so an entry may be missing
but is never outdated. Entries are written atomically; an entry that cannot be read is simulated again.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.utils.atomic import atomic_write
from ddpm_lightning.utils.errors import UserError


class PairCache:
    """Caches dictionaries of arrays on disk.

    Args:
        folder: Folder of the cache; each recipe has its own subfolder.
        recipe: Everything that determines the content; its ``repr`` must be complete, and equal in all processes.
    """

    def __init__(self, folder: Path, recipe: object) -> None:
        text = f"{recipe!r}\n{source_hash()}\nnumpy {np.__version__}"
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:20]

    def path(self, index: int) -> Path:
        """Returns the file of an entry."""
        return self.folder / f"{index:05d}.npz"

    def get(self, index: int, make: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
        """Reads an entry, or generates and caches it."""
        path = self.path(index)
        try:
            return read(path)
        except Exception:  # missing, or damaged, which raises many kinds of errors
            content = make(index)
        try:
            write(path, content)
        except OSError as error:
            remedy = "free some space, choose another folder for data.cache, or set data.cache=null"
            raise UserError(path, f"the pair cannot be cached: {error}", remedy=remedy) from error
        return content


def without_new_cache(node: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the description of a data set without its cache, unless that cache exists already.

    Args:
        node: Description from an untrusted file, which may name any folder as the cache.
    """
    with suppress(OSError, RuntimeError, ValueError):  # a folder that cannot be listed is not a cache
        cache = Path(str(node.get("cache"))).expanduser()
        if "cache" not in node or any(is_kept(path) for path in cache.iterdir()):
            return dict(node)
    return {**node, "cache": None}


def is_kept(folder: Path) -> bool:
    """Says whether a folder is named like the cache of a recipe."""
    return folder.is_dir() and re.fullmatch(r"[0-9a-f]{20}", folder.name) is not None


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes nested dictionaries and lists of arrays; other values must be valid in JSON."""
    arrays: dict[str, np.ndarray] = {}
    outline = json.dumps(_flatten(content, "", arrays))
    contents: dict[str, Any] = {"outline": np.array(outline), **arrays}
    with atomic_write(path, durable=False) as partial, partial.open("wb") as file:
        np.savez(file, **contents)


def read(path: Path) -> dict[str, Any]:
    """Reads what :func:`write` wrote; the checksums of the ZIP file are verified."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return _restore(json.loads(str(arrays.pop("outline"))), arrays)


@lru_cache(maxsize=1)
def source_hash() -> str:
    """Returns a hash of the source files of the simulation."""
    here = Path(__file__).parent
    files = [*sorted(here.rglob("*.py")), *sorted(here.with_name("datasets").glob("simulated*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _flatten(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Moves nested arrays into ``arrays``, and returns an outline that refers to them by name."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"array": name}
    if isinstance(value, dict):
        return {"dict": {k: _flatten(v, f"{name}.{k}".lstrip("."), arrays) for k, v in value.items()}}
    if isinstance(value, list):
        return {"list": [_flatten(v, f"{name}.{i}", arrays) for i, v in enumerate(value)]}
    return {"value": value}


def _restore(outline: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    kind, value = next(iter(outline.items()))
    if kind == "array":
        return arrays[value]
    if kind == "dict":
        return {k: _restore(v, arrays) for k, v in value.items()}
    if kind == "list":
        return [_restore(v, arrays) for v in value]
    return value
