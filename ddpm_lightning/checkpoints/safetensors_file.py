"""Trained models as small files to share: weights and card, in the safetensors format.

Such a file contains only tensors and text; reading it executes nothing. It lacks what resuming needs (state of the
optimiser, latest weights besides their average), so its model can be used and fine-tuned, but its run not resumed.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ddpm_lightning.utils.atomic import write_bytes
from ddpm_lightning.utils.errors import UserError, is_out_of_memory

__all__ = [
    "SHIPPED",
    "SUFFIX",
    "portable",
    "read_safetensors",
    "replace_card",
    "shipped_models",
    "write_safetensors",
]

SUFFIX = ".safetensors"
#: Maximum length of a card in characters; ours have ten thousand.
LONGEST = 10**7
#: Models that come with the package: their names are checkpoints for every command.
SHIPPED = Path(__file__).parents[1] / "shipped"


def shipped_models() -> dict[str, Path]:
    """Returns the files of the models that come with the package, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob(f"*{SUFFIX}"))}


def write_safetensors(content: dict[str, Any], path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes a safetensors file. Paths on the machine that trained the model are left out.

    Args:
        content: Content of a checkpoint: ``state_dict`` and ``card``.
        path: File to write.
        dtype: Precision of the weights; numbers, lists of numbers and integers keep theirs.
    """
    card = portable(content["card"])
    weights = {
        name: (tensor.to(dtype) if tensor.is_floating_point() and tensor.ndim > 1 else tensor).contiguous()
        for name, tensor in content["state_dict"].items()
    }
    # As bytes: the library's own files can be read by their owner alone.
    write_bytes(path, save(weights, metadata={"card": json.dumps(card)}))


def replace_card(path: Path, card: dict[str, Any]) -> None:
    """Replaces the card of a safetensors file; the weights keep their precision."""
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    write_bytes(path, save(weights, metadata={"card": json.dumps(portable(card))}))


def portable(card: dict[str, Any]) -> dict[str, Any]:
    """Returns a card for other machines: without absolute paths, and without the machine that trained the model."""
    kept = _without_paths(card)
    if origin := kept.get("provenance"):
        kept["provenance"] = {**origin, "machine": None}
    return kept


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(content) for key, content in value.items()}
    if isinstance(value, list):
        return [_without_paths(content) for content in value]
    if not isinstance(value, str):
        return value
    head, _, tail = value.rpartition("=")  # an override of the command: key=/some/where
    if not Path(tail).is_absolute():
        return value
    return f"{head}=null" if head else None


def read_safetensors(path: Path) -> dict[str, Any]:
    """Reads a safetensors file as the content of a checkpoint, with weights in float32.

    Raises:
        UserError: If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("card", "null")
            if len(text) > LONGEST:
                raise ValueError(f"its card is a text of {len(text)} characters")
            card = json.loads(text)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            path, f"cannot be read as a safetensors file: {error}", remedy="copy it again from its source"
        ) from error
    return {
        "card": card,
        "state_dict": {n: t.float() if t.is_floating_point() else t for n, t in weights.items()},
    }
