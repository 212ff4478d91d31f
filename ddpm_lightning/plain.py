"""Trees of plain values that strangers wrote: examined in a moment, however large, deep or odd they are."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

__all__ = ["check_plain"]

#: Most values, deepest nesting, longest text and longest key.
MOST, DEEPEST, LONGEST, LONGEST_KEY = 500_000, 64, 100_000, 1000


def check_plain(tree: Any, name: str) -> None:
    """Checks that a tree holds dictionaries with names as keys, lists, texts, finite numbers, booleans and nulls only.

    Without recursion: neither great depth nor values that hold each other are an obstacle.

    Args:
        tree: The tree.
        name: What it is, for the error.

    Raises:
        ValueError: If it holds anything else, or more than there is a reason for; the text says what.
    """
    waiting: list[tuple[str, int, Any]] = [(name, 0, tree)]
    seen = 0
    while waiting:
        where, depth, value = waiting.pop()
        seen += 1
        if seen > MOST:
            raise ValueError(f"{name} holds more than {MOST} values")
        if depth > DEEPEST:
            raise ValueError(f"{name} is nested more than {DEEPEST} deep")
        if isinstance(value, Mapping):
            for key, content in value.items():
                if not isinstance(key, str) or len(key) > LONGEST_KEY:
                    raise ValueError(f"{where} has a key that is no name")
                waiting.append((f"{key[:80]} of {name}", depth + 1, content))
        elif isinstance(value, list | tuple):
            waiting += [(where, depth + 1, content) for content in value]
        else:
            _check_leaf(value, where)


def _check_leaf(value: Any, where: str) -> None:
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise ValueError(f"{where} is a text of {len(value)} characters")
    elif isinstance(value, float):
        if not isfinite(value):
            raise ValueError(f"{where} is {value}")
    elif isinstance(value, int):
        if abs(value) >= 2**63:
            raise ValueError(f"{where} is a giant number")
    elif value is not None:
        raise ValueError(f"{where} is a {type(value).__name__}")
