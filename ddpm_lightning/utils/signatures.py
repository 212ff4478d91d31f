"""Which settings a class accepts: read from the annotations of its constructor, ranges included.

A file may contain text instead of a number, or a list instead of a dictionary. Some constructors would accept it, and
fail only much later, in the middle of a job. A constructor states a range as in ``steps: Annotated[int, Field(ge=1)]``;
:mod:`ddpm_lightning.utils.settings` has names for the common ones.
"""

import inspect
import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ddpm_lightning.utils.settings import NonNegative, Positive, in_words

__all__ = ["invalid", "invalid_value", "unknown"]

#: Ranges of constructors of others, whose annotations state none: those of torch's optimisers.
RANGES = {"torch.optim": {"lr": Positive, "weight_decay": NonNegative}}
STRICT = ConfigDict(strict=True, allow_inf_nan=False)
SCALARS = (bool, int, float, str)
LISTS = (list, tuple, set, Sequence, Iterable, Collection)


def unknown(made: type, settings: Iterable[str]) -> str:
    """Returns the first setting that a class does not have; empty if it has all."""
    hints, takes_any = _settings(made)
    return next((name for name in settings if name not in hints and not takes_any), "")


def invalid(made: type, name: str, value: Any) -> tuple[str, Any, str] | None:
    """Returns the first value of a setting that a class does not accept: its path, the value, what is allowed.

    Args:
        made: The class.
        name: Name of the setting.
        value: A plain value, a list, a dictionary, or a description of an object.
    """
    return invalid_value(name, value, _settings(made)[0].get(name, Any))


def invalid_value(name: str, value: Any, annotation: Any) -> tuple[str, Any, str] | None:
    """Returns the first value that does not match an annotation: its path, the value, what is allowed.

    Args:
        name: Name of the setting.
        value: A plain value, a list, a dictionary, or a description of an object.
        annotation: Type and range that are allowed.
    """
    return next(_invalid(name, value, annotation), None)


@lru_cache(maxsize=256)
def _settings(made: type) -> tuple[dict[str, Any], bool]:
    """Returns the annotations of all settings of a class, and whether it accepts arbitrary others.

    If a constructor passes settings on, those of its base class are included.
    """
    found: dict[str, Any] = {}
    ranges = next((RANGES[prefix] for prefix in RANGES if made.__module__.startswith(prefix)), {})
    for base in made.__mro__:
        init = base.__dict__.get("__init__")
        if init is None:
            continue
        try:
            hints = get_type_hints(init, include_extras=True)
        except (NameError, TypeError, AttributeError):
            hints = {}  # annotations that only a type checker can resolve
        try:
            parameters = list(inspect.signature(init).parameters.values())[1:]
        except ValueError:
            return found, True  # written in C
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                hint = ranges.get(parameter.name) or hints.get(parameter.name, Any)
                found.setdefault(parameter.name, hint)
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            return found, False
        if not _passes_on(base):
            break
    return found, True


def _passes_on(base: type) -> bool:
    """Says whether a constructor passes the settings that it does not name to its base class, one of this program."""
    return any(parent.__module__.startswith("ddpm_lightning.") for parent in base.__mro__[1:])


def _invalid(path: str, value: Any, hint: Any) -> Iterator[tuple[str, Any, str]]:
    """Yields the values that do not match an annotation; none if this cannot be determined."""
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, str) or hint is Any or hint is object:
        return
    if origin in (Union, types.UnionType):
        found = [list(_invalid(path, value, one)) for one in arguments]
        if all(found):
            # Below a value of the right kind, the value inside that is wrong; else all that is allowed.
            yield next((one[0] for one in found if one[0][0] != path), (path, value, in_words(hint)))
        return
    described = isinstance(value, Mapping) and "_target_" in value
    if _is_plain(hint):
        if described or not _matches(value, str if hint is Path else hint):
            yield path, value, in_words(hint)
        return
    kind = origin or hint
    if not isinstance(kind, type):
        return
    if issubclass(kind, Mapping):
        if not isinstance(value, Mapping) or described:
            yield path, value, in_words(hint)
        elif arguments:
            for key, one in value.items():
                yield from _invalid(f"{path}.{key}", one, arguments[1])
    elif kind in LISTS:
        fixed = kind is tuple and bool(arguments) and arguments[-1] is not ...
        if not isinstance(value, list | tuple) or (fixed and len(value) != len(arguments)):
            yield path, value, in_words(hint)
        elif arguments:
            for position, one in enumerate(value):
                yield from _invalid(path, one, arguments[position if fixed else 0])
    elif not described:
        # Objects must be given as descriptions, not as plain values.
        yield path, value, in_words(hint)


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return _is_plain(get_args(hint)[0])
    return hint in (*SCALARS, Path, None, type(None)) or get_origin(hint) is Literal


def _matches(value: Any, hint: Any) -> bool:
    try:
        _adapter(hint).validate_python(value)
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=256)
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=STRICT)
