"""Typed settings: one class per command, with the type and range of each field.

Error messages say what to change:

>>> class Restore(Settings):
...     samples: Count | None = None
>>> Restore.of({"samples": 0})
Traceback (most recent call last):
    ...
ddpm_lightning.utils.errors.UserError: samples: is 0
  allowed: a whole number of at least 1, or null
"""

import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from ddpm_lightning.utils.errors import UserError, nearest
from ddpm_lightning.utils.paths import expanded

__all__ = [
    "BelowOne",
    "Count",
    "Fraction",
    "FromZero",
    "NonNegative",
    "PathText",
    "Percent",
    "Positive",
    "Seed",
    "Settings",
    "Side",
    "SimulatedSide",
    "Switch",
    "Text",
    "UnitInterval",
    "UpToOne",
    "UserPath",
    "described",
    "in_words",
]

Count = Annotated[int, Field(ge=1)]
FromZero = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
#: Side of an image or tile in pixels.
Side = Annotated[int, Field(ge=16)]
#: Side of a simulated image in pixels; bounded, because a model file may describe a simulated set.
SimulatedSide = Annotated[int, Field(ge=16, le=8192)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]
#: Numbers between 0 and 1: both excluded, both included, 1 excluded, 0 excluded.
Fraction = Annotated[float, Field(gt=0, lt=1)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
UpToOne = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
#: A path as text; from Python also a :class:`pathlib.Path`.
PathText = Annotated[Text, BeforeValidator(lambda path: str(path) if isinstance(path, Path) else path)]
#: A path whose leading ``~`` is replaced by the home folder; a text or a :class:`pathlib.Path`.
UserPath = Annotated[
    Path, BeforeValidator(lambda path: expanded(path) if path and isinstance(path, str | Path) else path)
]
#: True, false, or ``auto``: whatever suits the machine.
Switch = bool | Literal["auto"]

KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    type(None): "null",
    None: "null",
}


class Settings(BaseModel):
    """Settings of a verb: typed, checked, and unchangeable.

    Values have the type that is declared: a text is no number, and ``true`` is not 1. Unknown names are rejected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Returns checked settings.

        Args:
            values: Values by name; nested settings as dictionaries.

        Raises:
            UserError: For the first value that is missing, unknown, of another type, or out of range.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _explained(cls, error) from None


def in_words(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """Returns what values a type allows, in words: ``a whole number of at least 1, or null``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return in_words(arguments[0], (*metadata, *_bounds(arguments[1:])))
    if origin in (Union, types.UnionType):
        kinds = [in_words(one, metadata) for one in arguments if one is not type(None)]
        return ", or ".join([*dict.fromkeys(kinds), *["null"] * (type(None) in arguments)])
    if origin is Literal:
        return ", ".join(map(str, arguments))
    kind = origin or annotation
    if kind in (list, tuple, set, Sequence, Iterable, Collection):
        filled = " that is not empty" if any(isinstance(bound, MinLen) for bound in metadata) else ""
        if arguments and str in (arguments[0], *get_args(arguments[0])[:1]):
            return f"a list of texts such as [a,b]{filled}"
        return f"a list{filled}, each {in_words(arguments[0])}" if arguments else f"a list{filled}"
    if _is_settings(kind) or (isinstance(kind, type) and issubclass(kind, Mapping)):
        return "named values"
    if kind not in KINDS:
        return f"the settings of a {getattr(kind, '__name__', kind)}, with its class as _target_"
    text = KINDS[kind]
    for bound in metadata:
        text += _bound_in_words(bound, " and" if " of at least" in text or " above" in text else "")
    return text


def _bound_in_words(bound: Any, joint: str) -> str:
    if isinstance(bound, Ge):
        return f"{joint} of at least {bound.ge:g}"  # type: ignore[str-format]
    if isinstance(bound, Gt):
        return f"{joint} above {bound.gt:g}"  # type: ignore[str-format]
    if isinstance(bound, Le):
        return f"{joint} at most {bound.le:g}"  # type: ignore[str-format]
    if isinstance(bound, Lt):
        return f"{joint} below {bound.lt:g}"  # type: ignore[str-format]
    return " that is not empty" if isinstance(bound, MinLen) else ""


def _bounds(metadata: tuple[Any, ...]) -> Iterator[Any]:
    for one in metadata:
        yield from one.metadata if isinstance(one, FieldInfo) else (one,)


def _is_settings(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _explained(made: type[BaseModel], error: ValidationError) -> UserError:
    first = error.errors(include_url=False)[0]
    annotation, metadata = made, ()
    fields: dict[str, FieldInfo] = {}
    path: list[str] = []
    for part in first["loc"]:
        fields = _fields_of(annotation)
        if not isinstance(part, str):
            break  # an entry of a list
        if part in fields:
            annotation, metadata = fields[part].annotation, tuple(fields[part].metadata)
        elif (value := _value_of(annotation)) is not None:
            annotation, metadata = value, ()
        elif first["type"] != "extra_forbidden":
            break  # a member of a union
        path.append(part)
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        near = nearest(path[-1], fields)
        remedy = f"did you mean {' or '.join(near)}?" if near else "leave it out"
        return UserError(name, "is not a setting", allowed=", ".join(fields), remedy=remedy)
    allowed = in_words(annotation, metadata) if path else ""
    if first["type"] == "missing":
        return UserError(name, "is not given", allowed=allowed, remedy=f"add {name}=…")
    if first["type"] == "value_error":
        return UserError(
            name or made.__name__, str(first.get("ctx", {}).get("error")), allowed=allowed if name else ""
        )
    value = first["input"]
    near = nearest(value, _choices_of(annotation)) if isinstance(value, str) else []
    return UserError(name, described(value), allowed, f"did you mean {' or '.join(near)}?" if near else "")


def _choices_of(annotation: Any) -> list[str]:
    """Returns the texts that a type with a fixed choice allows, also as entries of a list."""
    if get_origin(annotation) is Literal:
        return [str(one) for one in get_args(annotation)]
    return [choice for one in get_args(annotation) for choice in _choices_of(one)]


def described(value: Any) -> str:
    """Returns what an error says of a value that is not allowed: ``is 'x'``, ``is null``, ``is empty``."""
    return "is empty" if value == "" else "is null" if value is None else f"is {value!r:.80}"


def _fields_of(annotation: Any) -> dict[str, FieldInfo]:
    """Returns the fields of settings; nothing for other types."""
    settings = next((one for one in (annotation, *_members(annotation)) if _is_settings(one)), None)
    return settings.model_fields if settings else {}


def _value_of(annotation: Any) -> Any:
    """Returns the type of the values of a dictionary; ``None`` for other types."""
    found = next((one for one in (annotation, *_members(annotation)) if get_origin(one) is dict), None)
    return get_args(found)[1] if found else None


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) or (annotation,)
