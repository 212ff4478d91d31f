"""Errors of Hydra in the user's terms: the key, the allowed values, and the names that were probably meant."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from ddpm_lightning.cli.tree import choices, comment, config_folder
from ddpm_lightning.utils.errors import UserError, nearest, unknown

__all__ = ["check_choices", "explained", "keys_of"]

#: Choices of Hydra that other packages provide, and our extra that installs them.
EXTRAS = {
    "optuna": "sweep",
    "tpe": "sweep",
    "joblib": "joblib",
    "submitit_slurm": "slurm",
    "submitit_local": "slurm",
}


def check_choices(overrides: Iterable[str]) -> None:
    """Checks that a choice among files is not written as a setting, which would then be a text.

    Raises:
        UserError: If an override sets ``group.name=CHOICE`` instead of ``group/name=CHOICE``.
    """
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        group = key.replace(".", "/")
        # null, or all settings in braces, may be given in this way.
        if (
            "." in key
            and (config_folder() / group).is_dir()
            and value != "null"
            and not value.startswith("{")
        ):
            raise UserError(
                f"{key}={value}",
                "is a choice among files, not a setting",
                allowed=", ".join(choices(group)),
                remedy=f"set {group}={value}",
            )


def explained(
    verb: str, overrides: list[str], text: str, keys: Callable[[str, list[str]], list[str]]
) -> UserError:
    """Returns what an error of Hydra means.

    Args:
        verb: The verb.
        overrides: Overrides that cannot be composed.
        text: Message of Hydra.
        keys: Returns the keys of the verb's configuration with some overrides.
    """
    if choice := re.search(r"Could not (?:find|load) '([\w/@.]+)/([^'/]+)'", text):
        return _no_such_choice(*choice.groups())
    named = re.search(r"Could not override '([^']+)'", text)
    if named := named or re.search(r"Key '[^']+' is not in struct\s+full_key: (\S+)", text):
        return _no_such_key(named.group(1), verb, overrides, keys)
    if merged := re.search(r"Error merging override '?\+*([\w.@/]+)=", text):
        key = merged.group(1)
        return UserError(key, "cannot be set to that", allowed=comment(key, verb))
    return UserError("configuration", " ".join(text.split()))


def keys_of(node: Any, prefix: str = "") -> list[str]:
    """Returns the dotted keys of nested settings, including those of the groups."""
    found = []
    for key, value in node.items() if isinstance(node, dict) else ():
        found += [f"{prefix}{key}", *keys_of(value, f"{prefix}{key}.")]
    return found


def _no_such_choice(group: str, name: str) -> UserError:
    if extra := EXTRAS.get(name):
        remedy = f'pip install "ddpm-lightning[{extra}]"'
        return UserError(f"{group}={name}", "belongs to a package that is not installed", remedy=remedy)
    return unknown(group, name, choices(group))


def _no_such_key(
    key: str, verb: str, overrides: list[str], keys: Callable[[str, list[str]], list[str]]
) -> UserError:
    file = (config_folder() / f"{verb}.yaml").read_text(encoding="utf-8")
    groups = re.findall(r"^  - ([\w/]+):", file, re.MULTILINE)
    # Each choice may have its own keys: without data=NAME, there are none below data.
    chosen = [text for text in overrides if (config_folder() / text.partition("=")[0].lstrip("+")).is_dir()]
    names = sorted({*keys(verb, chosen if len(chosen) < len(overrides) else []), *groups})
    if key in names:
        below = [name for name in names if name.startswith(f"{key}.")]
        remedy = f"set one of them by KEY=VALUE, or add one by +{key}.NAME=VALUE" if below else ""
        return UserError(key, "cannot be set in this way", allowed=", ".join(below), remedy=remedy)
    elsewhere = [name for name in keys(verb, []) if f".{name}".endswith(f".{key}") and name not in names]
    if elsewhere:
        group = elsewhere[0].partition(".")[0]
        by = " ".join([text for text in chosen if text.startswith(f"{group}=")][-1:] or chosen)
        remedy = f"leave it out, or choose otherwise: {elsewhere[0]} exists without {by}"
        return UserError(key, f"is not a setting with {by}", remedy=remedy)
    near = nearest(key, names)
    near += [name for name in names if name.split(".")[-1] == key.split(".")[-1] and name not in near][:3]
    value = next((text.partition("=")[2] for text in overrides if text.lstrip("+").startswith(f"{key}=")), "")
    near = [f"{name}={value}" if value in choices(name) else name for name in near]
    remedy = f"did you mean {' or '.join(near)}? " if near else ""
    remedy += f"`ddpm-lightning {verb} --cfg job` shows all keys"
    if "." in key:
        remedy += f"; +{key}=… adds a new one"
    return UserError(key, "is not a key of this configuration", remedy=remedy)
