"""Builds objects from plain dictionaries: the part of Hydra's ``instantiate`` that a checkpoint may be trusted with.

A node with ``_target_`` names a class or function by its dotted path; the other keys are its arguments, built first.
``_partial_: true`` gives a factory that still takes arguments. A checkpoint carries such nodes, and files come from
strangers: only names of this package and of PyTorch's optimisers are ever looked up.
"""

import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from ddpm_lightning.errors import UserError

__all__ = ["build"]

ALLOWED = ("ddpm_lightning.", "torch.optim.", "lightning.pytorch.callbacks.", "lightning.pytorch.loggers.")


def build(node: Any, **arguments: Any) -> Any:
    """Builds what a node describes.

    Args:
        node: Nested dictionaries, lists and plain values.
        arguments: Further arguments of the outermost object; they replace those of the node.

    Raises:
        UserError: If a target is not allowed or does not exist, or does not take the arguments.
    """
    if isinstance(node, Mapping):
        built = {key: build(value) for key, value in node.items() if key not in ("_target_", "_partial_")}
        if "_target_" not in node:
            return built | arguments
        target = _find(node["_target_"])
        if node.get("_partial_", False):
            return functools.partial(target, **built | arguments)
        try:
            return target(**built | arguments)
        except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
            raise UserError(node["_target_"], f"cannot be built: {error}") from error
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [build(value) for value in node]
    return node


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
