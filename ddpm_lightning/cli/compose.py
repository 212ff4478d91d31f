"""Configurations: found, composed and checked before anything is started; wrong keys answered with the nearest ones."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import ddpm_lightning
from ddpm_lightning.cli.limits import check_values
from ddpm_lightning.utils.errors import UserError, nearest
from ddpm_lightning.utils.registry import trusted_packages

__all__ = ["check", "compose", "config_folder", "listed", "plain", "unknown"]


#: Settings that are paths.
PATHS = ("checkpoint", "input", "output", "run_folder", "resume", "finetune", "data.root")
#: Choices of Hydra that further packages bring, and the extra of ours that installs them.
PLUGINS = {
    "optuna": "sweep",
    "tpe": "sweep",
    "joblib": "joblib",
    "submitit_slurm": "slurm",
    "submitit_local": "slurm",
}


def config_folder() -> Path:
    """Returns the folder of the configuration tree: inside of an installed package, beside it in a checkout."""
    package = Path(ddpm_lightning.__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def plain(config: DictConfig) -> dict[str, Any]:
    """Returns a configuration as plain containers, all references resolved.

    Raises:
        UserError: If a value that must be given is missing, cannot be resolved, or is out of its range.
    """
    try:
        if missing := sorted(OmegaConf.missing_keys(config)):
            name = missing[0]
            raise UserError(name, "is not given", allowed=_comment(name) or "a value", remedy=f"add {name}=…")
        for key in PATHS:
            # A folder may be called 5, which Hydra reads as a number.
            value = OmegaConf.select(config, key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                OmegaConf.update(config, key, str(value))
        settings = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(
            error.full_key or "configuration", " ".join(str(error.msg or error).split())
        ) from error
    check_values(settings)
    if "trust" in settings:
        settings["trust"] = list(trusted_packages(settings["trust"]))
    return settings


def compose(verb: str, overrides: list[str]) -> DictConfig:
    """Composes the configuration of a verb.

    Raises:
        UserError: If an override names a key, a choice or a value that cannot be.
    """
    _check_choices(overrides)
    # Hydra allows one instance at a time; inside of a running verb its own is set aside for a moment.
    holder = GlobalHydra.instance()
    running, holder.hydra = holder.hydra, None
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3", job_name=verb):
            config = hydra_compose(config_name=verb, overrides=overrides)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise _explained(verb, overrides, error) from error
    finally:
        holder.hydra = running
    _check_groups(verb, config)
    return config


def _check_groups(verb: str, config: DictConfig) -> None:
    """Refuses a value in place of a group of settings, or nothing, that the file of the verb itself describes."""
    usual = OmegaConf.load(config_folder() / f"{verb}.yaml")
    chosen = [entry for entry in usual.defaults if isinstance(entry, DictConfig)]
    groups = [group for entry in chosen for group, choice in entry.items() if choice is not None]
    for name in (*usual, *groups):
        # Hydra's own are no part of what a verb sees; `in` would not find what must still be given (???).
        if name != "defaults" and not name.startswith("override ") and name not in config.keys():
            raise UserError(name, "is taken away", allowed=_comment(name, verb), remedy=f"leave out ~{name}")
    for key in _keys(OmegaConf.to_container(usual)):
        group = OmegaConf.select(usual, key)
        if not isinstance(group, DictConfig):
            continue
        given = OmegaConf.select(config, key)
        if not isinstance(given, DictConfig):
            below = ", ".join(f"{key}.{name}" for name in group)
            raise UserError(key, f"is {given}, and stands for a group of settings", allowed=below)


def check(verb: str, arguments: list[str]) -> None:
    """Composes once before Hydra does, for the sake of errors that help.

    Of a sweep, the first value of each override is taken.
    """
    parsed, unparsed = get_args_parser().parse_known_args(arguments)
    for stray in unparsed:
        if "=" in stray and not stray.startswith("-"):
            found = "is cut off from the other KEY=VALUE by an option"
            raise UserError(stray, found, remedy="put options such as --multirun first")
        raise UserError(stray, "is not an option", allowed="KEY=VALUE, --multirun, --cfg job, --help")
    if parsed.config_path or parsed.config_name or parsed.config_dir:
        return
    try:
        overrides = OverridesParser.create().parse_overrides(parsed.overrides)
    except HydraException as error:
        subject = getattr(error, "override", "override")
        found = f"cannot be read as an override: {str(error).splitlines()[0]}"
        raise UserError(subject, found, allowed="KEY=VALUE, quoted where it holds , = or ()") from error
    compose(verb, [_first(override) for override in overrides])


def listed(override: str) -> str:
    """Turns ``trust=a,b`` into the list that it stands for; to Hydra a comma means a sweep."""
    key, _, value = override.partition("=")
    return f"trust=[{value}]" if key == "trust" and "," in value and value[0] not in "[\"'" else override


def _first(override: Override) -> str:
    if not override.is_sweep_override():
        return override.input_line
    value = (
        next(iter(override.sweep_string_iterator()))
        if override.is_discrete_sweep()
        else override.value().start
    )
    return f"{override.get_key_element()}={value}"


def _check_choices(overrides: Iterable[str]) -> None:
    """Tells choices among files from settings: a name where a setting is expected would be built as a text."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        group = key.replace(".", "/")
        # A description in full, or none, may be given in this way.
        if (
            "." in key
            and (config_folder() / group).is_dir()
            and value != "null"
            and not value.startswith("{")
        ):
            raise UserError(
                f"{key}={value}",
                "is a choice among files, and not a setting",
                allowed=", ".join(_choices(group)),
                remedy=f"set {group}={value}",
            )


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (config_folder() / group).glob("*.yaml") if path.stem != "default")


def unknown(kind: str, found: str, allowed: Iterable[str]) -> UserError:
    """Returns the error for a name that does not exist, with the nearest ones that do."""
    names = list(allowed)
    near = nearest(found, names)
    remedy = f"did you mean {' or '.join(near)}?" if near else ""
    return UserError(f"{kind} {found!r}", "does not exist", allowed=", ".join(names), remedy=remedy)


def _explained(verb: str, overrides: list[str], error: Exception) -> UserError:
    text = str(error)
    if choice := re.search(r"Could not (?:find|load) '([\w/@.]+)/([^'/]+)'", text):
        group, name = choice.groups()
        if extra := PLUGINS.get(name):
            remedy = f'pip install "ddpm-lightning[{extra}]"'
            return UserError(f"{group}={name}", "is part of a package that is not installed", remedy=remedy)
        return unknown(group, name, _choices(group))
    if group := re.search(r"Could not override '([^']+)'", text):
        key = group.group(1)
    elif group := re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", text):
        key = group.group(2)
    elif group := re.search(r"Error merging override '?\+*([\w.@/]+)=", text):
        key = group.group(1)
        return UserError(key, "cannot be set to that", allowed=_comment(key.split(".")[-1], verb))
    else:
        return UserError("configuration", " ".join(text.split()))
    # What was chosen brings keys of its own: without data=NAME there is nothing under data.
    chosen = [text for text in overrides if (config_folder() / text.partition("=")[0].lstrip("+")).is_dir()]
    names, usual = _names(verb, chosen if len(chosen) < len(overrides) else []), _names(verb, [])
    if key in names:
        below = [name for name in names if name.startswith(f"{key}.")]
        remedy = f"set one of them by KEY=VALUE, or add one by +{key}.NAME=VALUE" if below else ""
        return UserError(key, "cannot be set in this way", allowed=", ".join(below), remedy=remedy)
    if left := [name for name in usual if f".{name}".endswith(f".{key}") and name not in names]:
        group = left[0].partition(".")[0]
        by = " ".join([text for text in chosen if text.startswith(f"{group}=")][-1:] or chosen)
        remedy = f"leave it out, or choose otherwise: {left[0]} is there without {by}"
        return UserError(key, f"is no setting with {by}", remedy=remedy)
    near = nearest(key, names)
    near += [name for name in names if name.split(".")[-1] == key.split(".")[-1] and name not in near][:3]
    value = next((text.partition("=")[2] for text in overrides if text.lstrip("+").startswith(f"{key}=")), "")
    near = [f"{name}={value}" if value in _choices(name) else name for name in near]
    remedy = f"did you mean {' or '.join(near)}? " if near else ""
    remedy += f"`ddpm-lightning {verb} --cfg job` shows all keys"
    if "." in key:
        remedy += f"; +{key}=… adds a new one"
    return UserError(key, "is no key of this configuration", remedy=remedy)


def _names(verb: str, overrides: list[str]) -> list[str]:
    """Returns all keys of a configuration, and the groups that it may choose from."""
    file = (config_folder() / f"{verb}.yaml").read_text(encoding="utf-8")
    groups = re.findall(r"^  - ([\w/]+):", file, re.MULTILINE)
    keys = _keys(OmegaConf.to_container(compose(verb, overrides)))
    return sorted({*keys, *groups})


def _keys(node: Any, prefix: str = "") -> Iterable[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")


def _comment(key: str, verb: str | None = None) -> str:
    """Returns what the configuration files say of a key, first that of the verb."""
    name = re.escape(key.split(".")[-1])
    if verb is None and HydraConfig.initialized():
        verb = HydraConfig.get().job.config_name
    # The same key may mean something else to another verb.
    for path in sorted(config_folder().rglob("*.yaml"), key=lambda path: (path.stem != verb, path)):
        if found := re.search(rf"^{name}:(?:.*#\s*(.+)|.*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            return found.group(1) or ""
    return ""
