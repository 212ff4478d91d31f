"""Files that appear whole or not at all: written under a hidden name beside their place, then renamed."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["read_json", "whole", "write_json", "write_text"]


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Gives the name under which to write a file, which takes its own name when the block ends without an error.

    A process that is killed leaves the hidden file behind, and what was there before stays. The folder is made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        if partial.is_file():
            partial.unlink()
        raise


def write_text(path: str | Path, text: str) -> None:
    """Writes a text in UTF-8."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Writes plain containers; numbers must be finite."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Returns what a JSON file holds; nothing, if it is not there or was not written by us."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
