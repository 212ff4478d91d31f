"""``config.yaml`` of a run: its configuration with all references resolved, each text as it is."""

from pathlib import Path
from typing import Any

import yaml

from ddpm_lightning.storage import write_text

__all__ = ["read_config", "write_config"]


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Writes the configuration of a run."""
    write_text(path, yaml.safe_dump(config, allow_unicode=True, sort_keys=False))


def read_config(path: Path) -> dict[str, Any]:
    """Returns the configuration of a run; not by OmegaConf, for which a folder ``${x}`` would be a reference.

    Raises:
        OSError: If there is no such file.
        yaml.YAMLError: If it is damaged.
        TypeError: If it holds anything but settings.
        UnicodeDecodeError: If it is no text.
    """
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise TypeError(f"{path} holds {type(config).__name__}")
    return config
