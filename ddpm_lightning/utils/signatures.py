"""Which settings a class accepts, and their types: read from the annotations of its constructor.

A file may contain a text instead of a number, or a list instead of a dictionary. Some constructors would accept it, and
fail only much later, in the middle of a job.
"""

import inspect
import types
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["accepted", "stray"]

SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}


def stray(made: type, settings: Iterable[str]) -> str:
    """Returns the first setting that a class does not accept; empty if it accepts all."""
    hints, takes_any = _settings(made)
    return next((name for name in settings if name not in hints and not takes_any), "")


def accepted(made: type, name: str, value: Any) -> str:
    """Returns, in words, what a class accepts as a setting if the value is of another type; else nothing.

    Args:
        made: The class.
        name: Name of the setting.
        value: A plain value, a list, a dictionary, or a description of an object.
    """
    hint = _settings(made)[0].get(name, Any)
    return "" if _fits(value, hint) else _in_words(hint)


@lru_cache(maxsize=256)
def _settings(made: type) -> tuple[dict[str, Any], bool]:
    """Returns the annotations of all settings of a class, and whether it accepts arbitrary others.

    If a constructor of this program passes settings on, those of its base class are included.
    """
    found: dict[str, Any] = {}
    for base in made.__mro__:
        init = base.__dict__.get("__init__")
        if init is None:
            continue
        try:
            hints = get_type_hints(init)
        except (NameError, TypeError, AttributeError):
            hints = {}  # annotations that only a type checker can resolve
        parameters = list(inspect.signature(init).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                found.setdefault(parameter.name, hints.get(parameter.name, Any))
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            return found, False
        if not base.__module__.startswith("ddpm_lightning."):
            break
    return found, True


def _fits(value: Any, hint: Any) -> bool:
    """Says whether a value matches an annotation; true if this cannot be determined."""
    if isinstance(hint, str) or hint is Any:
        return True
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Literal:
        return value in arguments
    if hint is None or hint is type(None):
        return value is None
    described = isinstance(value, Mapping) and "_target_" in value
    if hint in SCALARS:
        return not described and _is_scalar(value, hint)
    kind = origin or hint
    if not isinstance(kind, type):
        return True
    if value is None:
        return kind is object
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) and not described and _all_fit(value.values(), arguments[1:])
    if kind in (list, tuple, set) or (kind.__module__ == "collections.abc" and kind.__name__ in LISTS):
        if not isinstance(value, list | tuple):
            return False
        if kind is tuple and arguments and arguments[-1] is not ...:
            return len(value) == len(arguments) and all(map(_fits, value, arguments))
        return _all_fit(value, arguments[:1])
    # Objects and callables must be given as descriptions, not as plain values.
    return described


LISTS = ("Sequence", "Iterable", "Collection")


def _is_scalar(value: Any, hint: type) -> bool:
    if hint is bool:
        return isinstance(value, bool)
    if hint in (str, Path):
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int if hint is int else int | float):
        return False
    return isfinite(value) if isinstance(value, float) else True


def _all_fit(values: Iterable[Any], hints: tuple[Any, ...]) -> bool:
    return not hints or all(_fits(value, hints[0]) for value in values)


def _in_words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_in_words(one) for one in arguments))
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if hint is None or hint is type(None):
        return "null"
    if hint in SCALARS:
        return SCALARS[hint]
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "named values"
    if isinstance(kind, type) and (kind in (list, tuple, set) or kind.__name__ in LISTS):
        one = SCALARS.get(arguments[0]) if arguments else None
        return f"a list, each {one}" if one else "a list"
    return f"a description of a {getattr(kind, '__name__', 'class')}"
