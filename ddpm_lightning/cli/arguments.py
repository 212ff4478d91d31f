r"""Paths on the command line, taken literally.

In Hydra's grammar, spaces, commas, brackets, quotes and ``${…}`` have a meaning, but file names may contain all of
these. The values of the keys that are paths are therefore quoted before Hydra parses them. Values that are written in
this grammar keep their meaning, unless a file of exactly the typed name exists:

- quotes around the whole value, ``'day 1'``, in which ``${…}`` is a reference to another setting;
- a list ``[a.tif,b.tif]``, for keys that take several paths; each entry is a path as typed, or quoted;
- in a sweep (``--multirun``, ``sweep=NAME``), values between commas, ``a,b``, and functions, ``choice(a,b)``;
- a backslash before each special character, ``exp\ 1``;
- ``null``, for an optional key.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from ddpm_lightning.cli.path_keys import OPTIONAL, PATHS, SEVERAL
from ddpm_lightning.utils.paths import expanded

__all__ = ["PATHS", "as_typed", "escaped", "quoted"]

#: Hydra's own folders: a reference such as ``${now:…}`` keeps its meaning in them.
OF_HYDRA = ("hydra.sweep.dir", "hydra.run.dir")
_FUNCTION = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag|extend_list|str)\(.*\)", re.DOTALL)


def as_typed(verb: str, arguments: Sequence[str]) -> list[str]:
    """Returns arguments in which all paths are quoted such that Hydra reads them as they were typed.

    Args:
        verb: The verb.
        arguments: Its arguments on the command line.
    """
    keys = (*PATHS.get(verb, ()), *OF_HYDRA)
    pattern = re.compile(rf"(\+{{0,2}}(?:{'|'.join(map(re.escape, keys))}))=(.*)", re.DOTALL)
    sweeps = _sweeps(arguments)
    found = ((argument, pattern.fullmatch(argument)) for argument in arguments)
    return [
        f"{match[1]}={_spelled(match[1], match[2], verb, sweeps)}" if match else text for text, match in found
    ]


def quoted(path: str | Path) -> str:
    """Returns a text quoted such that Hydra and OmegaConf read exactly this text."""
    text = str(path)
    plain = "${" not in text and _parsed(text) == text
    return text if plain else QuotedString(escaped(text), Quote.single).with_quotes()


def escaped(text: str) -> str:
    """Returns a text with ``${`` escaped, so that OmegaConf finds no reference to another setting."""
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)


def _spelled(key: str, text: str, verb: str, sweeps: bool) -> str:
    """Returns a value in Hydra's grammar."""
    key = key.lstrip("+")
    if key in OF_HYDRA:
        return text if "${" in text or _is_quoted(text) else quoted(text)
    if text == "" or _exists(text):
        return quoted(text)
    if _is_quoted(text) or (text == "null" and _may_be_null(key, verb)):
        return text
    if key in SEVERAL and text.startswith("[") and text.endswith("]"):
        return f"[{','.join(map(_entry, _split(text[1:-1])))}]"
    if sweeps and _FUNCTION.fullmatch(text):
        return text
    if sweeps and len(several := list(_split(text))) > 1:
        return ",".join(map(_entry, several))
    if isinstance(read := _parsed(text), str) and _is_escaped(text):
        return quoted(read)
    return quoted(text)


def _may_be_null(key: str, verb: str) -> bool:
    return key in OPTIONAL or (key == "output" and verb in ("evaluate", "compare", "prepare"))


def _entry(text: str) -> str:
    """Returns an entry of a list or a sweep; spaces around it belong to the list."""
    text = text.strip()
    return text if _is_quoted(text) and not _exists(text) else quoted(text)


def _exists(text: str) -> bool:
    return os.path.exists(expanded(text))  # noqa: PTH110  (Path.exists raises where a name is too long)


def _is_quoted(text: str) -> bool:
    return text[:1] in ("'", '"') and isinstance(_parsed(text), str)


def _is_escaped(text: str) -> bool:
    """Returns whether backslashes are exactly where Hydra's grammar requires them: before each special character."""
    return "\\" in text and re.fullmatch(r"(?:[^\\()\[\]{}:=, \t]|\\[\\()\[\]{}:=, \t])*", text) is not None


def _split(text: str) -> Iterator[str]:
    """Yields the entries between commas; an entry that begins with a quote may contain commas."""
    entry = r"""\s*(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")\s*(?=,|$)|[^,]*"""
    position, pattern = 0, re.compile(entry, re.DOTALL)
    while position <= len(text) and text and (found := pattern.match(text, position)):
        yield found[0]
        position = found.end() + 1


def _parsed(text: str) -> Any:
    """Returns the value that Hydra reads; ``None`` if it reads none, or several."""
    try:
        override: Override = OverridesParser.create().parse_override(f"key={text}")
        value = None if override.is_sweep_override() else override.value()
    except HydraException:
        return None
    return str(value) if isinstance(value, QuotedString | str) else value


def _sweeps(arguments: Sequence[str]) -> bool:
    """Returns whether the arguments start a sweep."""
    parsed = get_args_parser().parse_known_args(list(arguments))[0]
    last = [text.partition("=")[2] for text in parsed.overrides if text.lstrip("+").startswith("hydra.mode=")]
    named = any(text.startswith(("sweep=", "+sweep=")) and text != "sweep=null" for text in parsed.overrides)
    return last[-1] == "MULTIRUN" if last else bool(parsed.multirun or named)
