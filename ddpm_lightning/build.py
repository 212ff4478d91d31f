"""Builds objects from plain dictionaries: the part of Hydra's ``instantiate`` that a checkpoint may be trusted with.

A node with ``_target_`` names a class or function by its dotted path; the other keys are its arguments, built first.
``_partial_: true`` gives a factory that still takes arguments. A checkpoint carries such nodes, and files come from
strangers: only names of this package and of PyTorch's optimisers are ever looked up.
"""

import functools
import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ddpm_lightning.errors import UserError

__all__ = ["build"]

LIGHTNING = ("callbacks", "loggers", "profilers", "strategies")
ALLOWED = ("ddpm_lightning.", "torch.optim.", *(f"lightning.pytorch.{name}." for name in LIGHTNING))


def build(node: Any, **arguments: Any) -> Any:
    """Builds what a node describes.

    Args:
        node: Nested dictionaries, lists and plain values.
        arguments: Further arguments of the outermost object; they replace those of the node.

    Raises:
        UserError: If a target is not allowed or does not exist, or does not take the arguments.
    """
    return _built(node, "", arguments)


def _built(node: Any, path: str, arguments: Mapping[str, Any]) -> Any:
    if isinstance(node, Mapping):
        below = f"{path}." if path else ""
        built = {
            key: _built(value, f"{below}{key}", {})
            for key, value in node.items()
            if key not in ("_target_", "_partial_")
        }
        if "_target_" not in node:
            return built | arguments
        target = _find(node["_target_"])
        if node.get("_partial_", False):
            return functools.partial(target, **built | arguments)
        try:
            return target(**built | arguments)
        except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
            raise _explained(error, node["_target_"], path) from error
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [_built(value, path, {}) for value in node]
    return node


def _explained(error: Exception, target: str, path: str) -> UserError:
    """Names the setting rather than the class, where the error tells which it is."""
    name = target.rpartition(".")[2]
    if stray := re.search(r"unexpected keyword argument '(\w+)'", str(error)):
        key = f"{path}.{stray.group(1)}" if path else stray.group(1)
        return UserError(
            key, f"cannot be built: {name} has no such setting", remedy="mend its name, or leave it out"
        )
    return UserError(path or name, f"cannot be built: {error}", remedy=f"change its settings; see {target}")


def _find(path: str) -> Any:
    if not isinstance(path, str) or not path.startswith(ALLOWED) or "._" in path:
        raise UserError(
            f"_target_: {path}", "is not allowed here", allowed=", ".join(f"{name}…" for name in ALLOWED)
        )
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"_target_: {path}", f"cannot be found: {error}") from error
