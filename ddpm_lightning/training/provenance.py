"""Where a run comes from: what is needed to repeat it later, or to find out why that gives another result."""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ddpm_lightning.training.settings import TrainSettings
from ddpm_lightning.utils.atomic import read_json
from ddpm_lightning.utils.paths import expanded
from ddpm_lightning.utils.version import __version__

__all__ = ["data_hash", "provenance"]

PACKAGES = (
    "torch",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "numpy",
    "scipy",
    "scikit-image",
    "tifffile",
    "wandb",
)


def provenance(settings: TrainSettings) -> dict[str, Any]:
    """Returns commit, versions, data, command line, seed and machine of a run, in plain containers.

    A resumed run keeps its provenance; when and how it was resumed is added under ``resumed``.
    """
    start = {
        "began": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "folder": os.getcwd(),
    }
    if settings.resume and (origin := read_json(Path(settings.resume) / "provenance.json")):
        earlier = origin.get("resumed")
        earlier = earlier if isinstance(earlier, list) else []
        return {**origin, "resumed": [*earlier, {**start, "commit": _commit()}]}
    return {
        **start,
        "seed": settings.seed,
        "commit": _commit(),
        "versions": {"ddpm_lightning": __version__, "python": platform.python_version()} | _versions(),
        "data": data_hash(settings.data),
        "machine": {
            "name": platform.node(),
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        },
    }


def data_hash(data: Mapping[str, Any]) -> dict[str, str]:
    """Returns a hash that identifies the data of a run, and what was hashed.

    That is ``manifest.json``, which contains a hash of each file; without one, names and sizes of all files; for
    simulated sets, their settings.

    Args:
        data: Description of the data.
    """
    root = expanded(str(data.get("root") or ""))
    if not data.get("root") or not root.is_dir():
        return {"of": "settings", "sha256": _sha256(repr(sorted(data.items(), key=str)).encode())}
    manifest = root / "manifest.json"
    if manifest.is_file():
        return {"of": "manifest.json", "sha256": _sha256(manifest.read_bytes())}
    files = sorted(path for path in root.rglob("*") if path.is_file())
    listing = "\n".join(f"{path.relative_to(root).as_posix()} {path.stat().st_size}" for path in files)
    return {"of": "names and sizes of files", "sha256": _sha256(listing.encode())}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """Returns the commit of the checkout that this program runs from, if it does; ``+`` marks uncommitted changes."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit, changed = (
            subprocess.run(
                ["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=True
            ).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.strip() + ("+" if changed.strip() else "")
