"""``config.yaml`` of a run: its configuration, with all references resolved."""

from pathlib import Path
from typing import Any

import yaml

from ddpm_lightning.utils.atomic import write_text
from ddpm_lightning.utils.plain import check_plain

__all__ = ["read_config", "write_config"]

#: Maximum size of the file in bytes; ours have a few thousand.
LARGEST = 10**6


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Writes the configuration of a run."""
    write_text(path, yaml.safe_dump(config, allow_unicode=True, sort_keys=False))


def read_config(path: Path) -> dict[str, Any]:
    """Returns the configuration of a run. OmegaConf is not used: it would resolve ``${x}`` in the name of a folder.

    Raises:
        OSError: If there is no such file.
        yaml.YAMLError: If it is damaged.
        TypeError: If it does not contain settings.
        ValueError: If it is not text, is too large, or contains anything but plain values.
        RecursionError: If it is nested too deeply.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} is larger than {LARGEST} bytes")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    # With YAML's references (anchors), a small file can describe more values than fit into memory.
    check_plain(config, "configuration")
    if not isinstance(config, dict):
        raise TypeError(f"{path} holds {type(config).__name__}")
    return config
