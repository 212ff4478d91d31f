"""Prints the card of a run or a checkpoint: what it was trained on, with which normalisation, how good it is.

Examples:
  ddpm-lightning show runs/demo                              a run: its state and its best checkpoint
  ddpm-lightning show runs/demo/checkpoints/last.ckpt        a checkpoint, wherever it is
  ddpm-lightning show default                                a model that comes with the package
"""

import re
from pathlib import Path

from omegaconf import DictConfig

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.arguments import quoted
from ddpm_lightning.training.model_card import ShowSettings, model_card
from ddpm_lightning.utils.errors import printable

__all__ = ["run", "spelled_out"]


def spelled_out(arguments: list[str]) -> list[str]:
    """Replaces a bare path, or the keys that other verbs use for it, by ``subject=``."""
    arguments = [re.sub(r"^(checkpoint|run_folder|resume)=", "subject=", text) for text in arguments]
    given = any(text.startswith("subject=") for text in arguments)
    plain = [
        text for text in arguments if not text.startswith("-") and ("=" not in text or Path(text).exists())
    ]
    if given or len(plain) != 1:
        return arguments
    return [f"subject={quoted(text)}" if text == plain[0] else text for text in arguments]


def run(config: DictConfig) -> int:
    """Prints the card."""
    lines = model_card(compose.settings(config, ShowSettings))
    # The contents of a file may be arbitrary, so each line is made safe to print.
    print("\n".join(printable(line, lines=False) for line in lines))
    return 0
