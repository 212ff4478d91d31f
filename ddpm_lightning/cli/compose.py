"""Configurations, composed and checked before anything is started."""

from pathlib import Path
from typing import Any, TypeVar

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

from ddpm_lightning.cli import unknown_keys
from ddpm_lightning.cli.arguments import quoted
from ddpm_lightning.cli.tree import comment, config_folder
from ddpm_lightning.utils.allowed_classes import trusted_packages
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Settings

__all__ = ["check", "compose", "listed", "plain", "settings", "some_settings"]

S = TypeVar("S", bound=Settings)


def settings(config: DictConfig, kind: type[S]) -> S:
    """Returns the settings of a verb.

    Args:
        config: Its configuration.
        kind: Class of its settings.

    Raises:
        UserError: For the first value that is missing, unknown, of another type, or out of range.
    """
    values = plain(config)
    if "trust" not in kind.model_fields:
        del values["trust"]  # common to all verbs, but this one reads no files that name classes
    return kind.of(values)


def some_settings(config: DictConfig, kind: type[S]) -> S:
    """Returns settings that are a part of a configuration; see :func:`settings`."""
    values = plain(config)
    return kind.of({name: values[name] for name in kind.model_fields})


def plain(config: DictConfig) -> dict[str, Any]:
    """Returns a configuration as plain containers, all references resolved.

    Raises:
        UserError: If a value that must be given is missing, or cannot be resolved.
    """
    try:
        if missing := sorted(OmegaConf.missing_keys(config)):
            name = missing[0]
            verb = HydraConfig.get().job.config_name if HydraConfig.initialized() else None
            raise UserError(name, "is not given", comment(name, verb) or "a value", remedy=f"add {name}=…")
        values: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        subject = error.full_key or "configuration"
        raise UserError(subject, " ".join(str(error.msg or error).split())) from error
    if "trust" in values:
        values["trust"] = list(trusted_packages(values["trust"]))
    return values


def compose(verb: str, overrides: list[str]) -> DictConfig:
    """Composes the configuration of a verb.

    Raises:
        UserError: If an override names a key, a choice or a value that does not exist.
    """
    unknown_keys.check_choices(overrides)
    # Hydra allows one instance at a time; inside a running verb, that of the verb is set aside for a moment.
    holder = GlobalHydra.instance()
    running, holder.hydra = holder.hydra, None
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3", job_name=verb):
            config = hydra_compose(config_name=verb, overrides=overrides)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise unknown_keys.explained(verb, overrides, str(error), _keys_with) from error
    finally:
        holder.hydra = running
    _check_groups(verb, config)
    return config


def check(verb: str, arguments: list[str]) -> None:
    """Composes once before Hydra does, to report errors in the user's terms.

    Of a sweep, the first value of each override is taken.

    Raises:
        UserError: If an argument is neither an option nor an override that can be composed.
    """
    parsed, unparsed = get_args_parser().parse_known_args(arguments)
    for stray in unparsed:
        if "=" in stray and not stray.startswith("-"):
            found = "is separated from the other KEY=VALUE by an option"
            raise UserError(stray, found, remedy="put options such as --multirun first")
        raise UserError(stray, "is not an option", allowed="KEY=VALUE, --multirun, --cfg job, --help")
    if parsed.config_path or parsed.config_name:
        return  # the user's own tree: Hydra composes it
    try:
        overrides = OverridesParser.create().parse_overrides(parsed.overrides)
    except HydraException as error:
        subject = getattr(error, "override", "override")
        found = f"cannot be read as an override: {str(error).splitlines()[0]}"
        raise UserError(subject, found, allowed="KEY=VALUE, quoted where it holds , = or ()") from error
    own = parsed.config_dir and quoted(f"file://{Path(parsed.config_dir).absolute()}")
    compose(verb, [*map(_first, overrides), *([f"hydra.searchpath=[{own}]"] if own else [])])


def listed(override: str) -> str:
    """Returns ``trust=a,b`` as the list that it means; to Hydra a comma means a sweep."""
    key, _, value = override.partition("=")
    return f"trust=[{value}]" if key == "trust" and "," in value and value[0] not in "[\"'" else override


def _first(override: Override) -> str:
    """Returns an override with the first of its values."""
    if not override.is_sweep_override():
        return str(override.input_line)
    if override.is_discrete_sweep():
        value = next(iter(override.sweep_string_iterator()))
    else:
        value = getattr(override.value(), "start", None)  # an interval
    return f"{override.get_key_element()}={value}"


def _check_groups(verb: str, config: DictConfig) -> None:
    """Refuses a value, or nothing, in place of a group of settings that the file of the verb describes."""
    usual = OmegaConf.load(config_folder() / f"{verb}.yaml")
    chosen = [entry for entry in usual.defaults if isinstance(entry, DictConfig)]
    groups = [group for entry in chosen for group, choice in entry.items() if choice is not None]
    for name in map(str, (*usual, *groups)):
        # Hydra's own settings are hidden from verbs; `in` would not find what must still be given (???).
        if name != "defaults" and not name.startswith("override ") and name not in config.keys():  # noqa: SIM118
            raise UserError(name, "was removed", allowed=comment(name, verb), remedy=f"leave out ~{name}")
    for key in unknown_keys.keys_of(OmegaConf.to_container(usual)):
        group = OmegaConf.select(usual, key)
        if not isinstance(group, DictConfig):
            continue  # a value, which may refer to something that is not there yet
        given = OmegaConf.select(config, key)
        if not isinstance(given, DictConfig):
            below = ", ".join(f"{key}.{name}" for name in group)
            raise UserError(key, f"is {given}, but it is a group of settings", allowed=below)


def _keys_with(verb: str, overrides: list[str]) -> list[str]:
    """Returns all keys of a configuration."""
    return unknown_keys.keys_of(OmegaConf.to_container(compose(verb, overrides)))
