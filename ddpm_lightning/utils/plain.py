"""Checks trees of plain values from untrusted files; fast even if they are very large, deeply nested or malformed."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

__all__ = ["check_plain"]

#: Maximum number of values, nesting depth, text length and key length.
MOST, DEEPEST, LONGEST, LONGEST_KEY = 500_000, 64, 100_000, 1000


def check_plain(tree: Any, name: str) -> None:
    """Checks that a tree contains only dictionaries with text keys, lists, texts, finite numbers, booleans and nulls.

    It works without recursion, so deep nesting and cyclic references do no harm.

    Args:
        tree: The tree.
        name: Its name, for the error message.

    Raises:
        ValueError: If it contains anything else, or is too large; the message says what.
    """
    waiting: list[tuple[str, int, Any]] = [(name, 0, tree)]
    seen = 0
    while waiting:
        where, depth, value = waiting.pop()
        seen += 1
        if seen > MOST:
            raise ValueError(f"{name} contains more than {MOST} values")
        if depth > DEEPEST:
            raise ValueError(f"{name} is nested more than {DEEPEST} levels deep")
        if isinstance(value, Mapping):
            for key, content in value.items():
                if not isinstance(key, str) or len(key) > LONGEST_KEY:
                    raise ValueError(f"{where} has an invalid key")
                waiting.append((f"{key[:80]} of {name}", depth + 1, content))
        elif isinstance(value, list | tuple):
            waiting += [(where, depth + 1, content) for content in value]
        else:
            _check_leaf(value, where)


def _check_leaf(value: Any, where: str) -> None:
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise ValueError(f"{where} is a text of {len(value)} characters, which is too long")
    elif isinstance(value, float):
        if not isfinite(value):
            raise ValueError(f"{where} is {value}")
    elif isinstance(value, int):
        if abs(value) >= 2**63:
            raise ValueError(f"{where} is a number with too many digits")
    elif value is not None:
        raise ValueError(f"{where} is a {type(value).__name__}")
