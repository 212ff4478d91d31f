"""The configuration tree ``conf/``: where it is, which choices its groups offer, and what a file contains.

:func:`read` follows the rules of Hydra's defaults lists as far as ``conf/`` uses them, so that Python can name a method
or a data set without Hydra: files are merged in order, ``_self_`` (by default the last) is the file itself, ``GROUP:
NAME`` fills the key of that group, ``/GROUP@KEY: NAME`` another key, and ``override`` changes the choice of a file
further down.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpm_lightning.utils.errors import unknown

__all__ = ["choices", "config_folder", "merged", "read"]


def config_folder() -> Path:
    """Returns the folder of the configuration tree: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def choices(group: str) -> list[str]:
    """Returns the choices of a group: its files, without those that only hold shared settings (default, _PART)."""
    names = sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))
    return [name for name in names if name != "default" and not name.startswith("_")]


def read(
    group: str, name: str, references: Mapping[str, Any], chosen: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Returns the content of a file of the tree, with all files that it builds on.

    Args:
        group: Group of the file, such as ``model``.
        name: Name of the file, without its ending.
        references: Values of the references ``${NAME}`` by name.
        chosen: Choices that override those of the file, by the entry of its defaults list.

    Raises:
        UserError: If the group has no file of that name.
        KeyError: If a reference has no value.
    """
    import yaml  # not needed by --help, which imports this module

    path = config_folder() / group / f"{name}.yaml"
    if not path.is_file():
        raise unknown(group, name, choices(group))
    own = _resolved(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, references)
    entries = own.pop("defaults", [])
    named = [item for entry in entries if isinstance(entry, dict) for item in entry.items()]
    overrides = {
        key.removeprefix("override "): choice for key, choice in named if key.startswith("override ")
    }
    chosen, content = {**overrides, **(chosen or {})}, {}
    for entry in entries if "_self_" in entries else [*entries, "_self_"]:
        if entry == "_self_":
            found = own
        elif isinstance(entry, str):
            found = read(group, entry, references, chosen)
        else:
            ((place, choice),) = entry.items()
            source, _, key = place.partition("@")
            choice = None if place.startswith("override ") else chosen.get(place, choice)
            source = source[1:] if source.startswith("/") else f"{group}/{source}"
            found = {key or place: read(source, choice, references)} if choice else {}
        content = merged(content, found, whole=False)
    return content


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any], *, whole: bool = True) -> dict[str, Any]:
    """Returns nested settings with changes, as plain values: paths become texts.

    Args:
        settings: Settings by name.
        changes: New values by name, nested like the settings; lists are replaced.
        whole: Whether nested changes that name a class (``_target_``) replace the settings of the former class, rather
            than only its name.
    """
    result = dict(settings)
    for key, value in changes.items():
        former = result.get(key)
        if isinstance(value, Mapping) and isinstance(former, Mapping) and not (whole and "_target_" in value):
            result[key] = merged(former, value, whole=whole)
        else:
            result[key] = merged({}, value) if isinstance(value, Mapping) else _plain(value)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [merged({}, one) if isinstance(one, Mapping) else _plain(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _resolved(node: Any, references: Mapping[str, Any]) -> Any:
    if isinstance(node, Mapping):
        return {key: _resolved(value, references) for key, value in node.items()}
    if isinstance(node, list):
        return [_resolved(value, references) for value in node]
    if not isinstance(node, str):
        return node
    if whole := re.fullmatch(r"\$\{([\w.]+)\}", node):
        return references[whole[1]]
    return re.sub(r"\$\{([\w.]+)\}", lambda found: str(references[found[1]]), node)
