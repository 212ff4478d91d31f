"""``config.yaml`` of a run: its configuration with all references resolved, each text as it is."""

from pathlib import Path
from typing import Any

import yaml

from ddpm_lightning.utils.atomic import write_text
from ddpm_lightning.utils.plain import check_plain

__all__ = ["read_config", "write_config"]

#: Largest file in bytes; ours have a few thousand.
LARGEST = 10**6


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Writes the configuration of a run."""
    write_text(path, yaml.safe_dump(config, allow_unicode=True, sort_keys=False))


def read_config(path: Path) -> dict[str, Any]:
    """Returns the configuration of a run; not by OmegaConf, for which a folder ``${x}`` would be a reference.

    Raises:
        OSError: If there is no such file.
        yaml.YAMLError: If it is damaged.
        TypeError: If it holds anything but settings.
        ValueError: If it is no text, or not of plain values.
        RecursionError: If it is nested without end.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} is larger than {LARGEST} bytes")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    # A value that is referred to many times (YAML's anchors) can stand for more than the memory holds.
    check_plain(config, "configuration")
    if not isinstance(config, dict):
        raise TypeError(f"{path} holds {type(config).__name__}")
    return config
