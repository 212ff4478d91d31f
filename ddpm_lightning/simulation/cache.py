"""A folder that keeps what was drawn, keyed by a hash of everything that decides its content.

The key covers the parameters, the source of the simulation and the version of NumPy, so an entry can be
missing but never stale. Entries are written under a temporary name and then renamed; one that cannot be read
is drawn again.
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
    """Keeps dictionaries of arrays on disk.

    Args:
        folder: Where to keep them; each recipe gets a folder of its own.
        recipe: Everything that decides the content; its ``repr`` must tell all, and the same in every
            process.
    """

    def __init__(self, folder: Path, recipe: object) -> None:
        text = f"{recipe!r}\n{source_hash()}\nnumpy {np.__version__}"
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:20]

    def path(self, index: int) -> Path:
        """File of one entry."""
        return self.folder / f"{index:05d}.npz"

    def get(self, index: int, make: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
        """Reads an entry, or samples and keeps it."""
        path = self.path(index)
        try:
            return read(path)
        except Exception:  # absent, or damaged in one of many ways, each with an error of its own
            content = make(index)
        try:
            write(path, content)
        except OSError as error:
            remedy = "free space there, or choose another folder, or none, for data.cache"
            raise UserError(path, f"the pair cannot be kept: {error}", remedy=remedy) from error
        return content


def without_new_cache(node: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the data that a file names: they may fill a cache of pairs that is there, and start none.

    Args:
        node: Description of a data set; it may come from a stranger, and name any folder as its cache.
    """
    with suppress(OSError, RuntimeError, ValueError):  # what cannot be looked at is no cache
        cache = Path(str(node.get("cache"))).expanduser()
        if "cache" not in node or any(is_kept(path) for path in cache.iterdir()):
            return dict(node)
    return {**node, "cache": None}


def is_kept(folder: Path) -> bool:
    """Says whether a folder is that of a recipe, by its name."""
    return folder.is_dir() and re.fullmatch(r"[0-9a-f]{20}", folder.name) is not None


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes a nest of dictionaries and lists of arrays; other values must suit JSON."""
    arrays: dict[str, np.ndarray] = {}
    outline = json.dumps(_flatten(content, "", arrays))
    with atomic_write(path, durable=False) as partial, partial.open("wb") as file:
        np.savez(file, outline=np.array(outline), **arrays)


def read(path: Path) -> dict[str, Any]:
    """Reads what :func:`write` wrote; the checksums of the zip file are verified on the way."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return _restore(json.loads(str(arrays.pop("outline"))), arrays)


@lru_cache(maxsize=1)
def source_hash() -> str:
    """Hash of the source files of the simulation."""
    here = Path(__file__).parent
    files = [*sorted(here.glob("*.py")), *sorted(here.with_name("datasets").glob("simulated*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _flatten(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Moves arrays out of a nest into ``arrays`` and leaves an outline that names them."""
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
