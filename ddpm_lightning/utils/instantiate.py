"""Builds objects from plain dictionaries: the part of Hydra's ``instantiate`` that is safe for untrusted files.

A description names a class by ``_target_``: in a file, one that :mod:`ddpm_lightning.utils.allowed_classes` allows; in
the user's own configuration, any. The other keys are its arguments, built first. ``_partial_: true`` makes an optimiser
a factory that still takes the parameters. The whole tree is checked before the first object is created: every name, and
whether each setting has a type and a range that its class accepts. If anything is rejected, nothing is built.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ddpm_lightning.utils.allowed_classes import HOLDS, Trust, check_name, kind_of, registered_class
from ddpm_lightning.utils.errors import UserError, is_out_of_memory
from ddpm_lightning.utils.settings import described
from ddpm_lightning.utils.signatures import invalid, unknown

__all__ = ["build", "check"]

#: Maximum nesting and number of values of a description: those of this program have 6 levels and a few hundred values.
DEEPEST, MOST = 32, 100_000
#: Largest integer setting, except for seeds.
GREATEST = 10**6
SEEDS = ("seed", "dataset_seed", "split_seed")
#: Kinds whose integer settings are counts and cannot be negative.
COUNTED = ("method", "network", "schedule", "objective", "sampler")
#: Errors that constructors raise for invalid settings.
UNBUILDABLE = (
    *(TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError, RuntimeError),
    ImportError,
)


def build(node: Any, kinds: Sequence[str] | None = None, trust: Trust = (), at: str = "") -> Any:
    """Builds the object that a description defines.

    Args:
        node: Nested dictionaries, lists and plain values.
        kinds: Kinds of classes (keys of :data:`ddpm_lightning.utils.allowed_classes.REGISTER`) that the outermost
            descriptions may name; by default all.
        trust: Top-level packages whose classes are also allowed, where the description comes from a file;
            :data:`ddpm_lightning.utils.allowed_classes.OWN` where the user wrote it.
        at: Name of the description in the configuration, for errors: ``data``.

    Raises:
        UserError: If a class is not allowed, does not exist, or does not accept its arguments; nothing is built then.
    """
    check(node, kinds, trust, at)
    return _built(node, at, trust)


def check(node: Any, kinds: Sequence[str] | None = None, trust: Trust = (), at: str = "") -> None:
    """Raises the errors that :func:`build` raises before it builds anything, for the same arguments."""
    try:
        _check(node, kinds, trust)
    except UserError as error:
        if not at:
            raise
        raise UserError(f"{at}.{error.subject}", error.found, error.allowed, error.remedy) from error


def _check(node: Any, kinds: Sequence[str] | None, trust: Trust) -> None:
    seen, nodes = 0, []
    for path, depth, value, allowed, owner in _values(node, kinds, trust):
        seen += 1
        if depth > DEEPEST or seen > MOST:
            found = (
                f"is nested more than {DEEPEST} levels deep"
                if depth > DEEPEST
                else f"contains more than {MOST} values"
            )
            raise UserError(
                path.split(".")[0] or "description",
                found,
                remedy="use a file that was written by this program",
            )
        if isinstance(value, Mapping):
            _check_name(value, path, allowed, trust)
            nodes.append((value, path))
        elif isinstance(value, int) and not isinstance(value, bool):
            _check_number(value, path, owner)
        elif not (value is None or isinstance(value, bool | str | float | list | tuple)):
            raise UserError(path, f"is a {type(value).__name__}", allowed="plain values, lists and settings")
    # Classes are imported and inspected only after all names have been found to be allowed.
    for value, path in nodes:
        if "_target_" in value:
            _check_settings(value, path, trust)


def _values(
    node: Any, kinds: Sequence[str] | None, trust: Trust
) -> Iterator[tuple[str, int, Any, Sequence[str] | None, str | None]]:
    """Yields each value with its path, its depth, the kinds allowed there and the kind of the class that takes it.

    Depth first, and without recursion, because a file could be nested to any depth. A description is yielded before
    its contents, so its keys have been checked by then.
    """
    waiting: list[tuple[str, int, Any, Sequence[str] | None, str | None]] = [("", 0, node, kinds, None)]
    while waiting:
        path, depth, value, allowed, owner = waiting.pop()
        yield path, depth, value, allowed, owner
        if isinstance(value, Mapping):
            below = f"{path}." if path else ""
            if "_target_" in value:
                owner = kind_of(value["_target_"])
                # Trusted classes may contain any allowed class.
                allowed = HOLDS.get(owner, ()) if owner else None
            inner = [
                (f"{below}{key}", content)
                for key, content in value.items()
                if key not in ("_target_", "_partial_")
            ]
        elif isinstance(value, list | tuple):
            inner = [(path, content) for content in value]
        else:
            continue
        waiting += [(name, depth + 1, content, allowed, owner) for name, content in reversed(inner)]


def _check_name(node: Mapping, path: str, kinds: Sequence[str] | None, trust: Trust) -> None:
    if "_target_" in node:
        check_name(node["_target_"], kinds, trust)
    for key in node:
        if not isinstance(key, str) or (key.startswith("_") and key not in ("_target_", "_partial_")):
            raise UserError(f"{path}.{key}".lstrip("."), "is not a valid setting name", remedy="leave it out")
    if "_target_" not in node:
        if "_partial_" in node:
            raise UserError(
                f"{path}._partial_".lstrip("."), "is given without _target_", remedy="leave it out"
            )
        return
    kind, partial = kind_of(node["_target_"]), node.get("_partial_", False)
    if not isinstance(partial, bool) or (partial and kind not in ("optimizer", None)):
        raise UserError(
            f"{path}._partial_".lstrip("."),
            f"is {partial!r}",
            allowed="true, for optimisers only",
        )


def _check_settings(node: Mapping, path: str, trust: Trust) -> None:
    made = registered_class(node["_target_"], None, trust)
    settings = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
    if name := unknown(made, settings):
        raise UserError(
            f"{path}.{name}".lstrip("."),
            f"is not a setting of {made.__name__}",
            remedy="correct its name, or leave it out",
        )
    for name, value in settings.items():
        if wrong := invalid(made, name, value):
            inner, one, allowed = wrong
            raise UserError(f"{path}.{inner}".lstrip("."), described(one), allowed=allowed)


def _check_number(value: int, path: str, owner: str | None) -> None:
    if path.rpartition(".")[2] in SEEDS or owner is None:
        if abs(value) >= 2**63:
            raise UserError(path, "is a number with more than 63 bits")
        return
    least = 0 if owner in COUNTED else -GREATEST
    if not least <= value <= GREATEST:
        shown = str(value) if abs(value) < 10**18 else "a giant number"
        raise UserError(
            path,
            f"cannot be built: the value is {shown}",
            allowed=f"a whole number from {least} to {GREATEST}",
        )


def _built(node: Any, path: str, trust: Trust) -> Any:
    if isinstance(node, Mapping):
        below = f"{path}." if path else ""
        built = {
            key: _built(value, f"{below}{key}", trust)
            for key, value in node.items()
            if key not in ("_target_", "_partial_")
        }
        if "_target_" not in node:
            return built
        name = node["_target_"]
        made = registered_class(name, None, trust)
        if node.get("_partial_", False):
            return functools.partial(made, **built)
        try:
            return made(**built)
        except UNBUILDABLE as error:
            if is_out_of_memory(error):
                raise
            found = " ".join(str(error).split())[:500] or type(error).__name__
            short = name.rpartition(".")[2]
            remedy = f"change its settings; see {name}"
            raise UserError(path or short, f"cannot be built: {found}", remedy=remedy) from error
    if isinstance(node, list | tuple):
        return [_built(value, path, trust) for value in node]
    return node
