"""Results of one part of the measurements: a file that is written after every row, so that a limit costs no rows."""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ddpm_lightning.utils.atomic import read_json, write_json
from ddpm_lightning.utils.version import __version__

__all__ = ["Results", "about", "opened"]

PACKAGES = ("torch", "lightning", "triton", "numpy")


def about(device: torch.device) -> dict[str, Any]:
    """Returns what the figures depend on: the device and the versions."""
    versions = {"ddpm_lightning": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        versions["cuda"] = str(torch.version.cuda)
        memory = round(found.total_memory / 2**30)
        return {"device": found.name, "memory_gib": memory, "kind": "cuda", "versions": versions}
    return {"device": platform.processor() or platform.machine(), "kind": device.type, "versions": versions}


class Results:
    """Rows by name, of this device and these versions; those of others are replaced.

    Args:
        path: The file.
        device: The device.
        tiny: Whether everything is shrunken, to try the script itself.
        seconds: Time for this part: no measurement begins after nine tenths of it.
    """

    def __init__(self, path: Path, device: torch.device, tiny: bool = False, seconds: float = 60.0) -> None:
        self.path, self.device, self.tiny = path, device, tiny
        self._ends = time.monotonic() + 0.9 * seconds
        self.about = {**about(device), "tiny": tiny}
        before = read_json(path)
        same = all(before.get(key) == value for key, value in self.about.items())
        self.rows: dict[str, dict[str, Any]] = before.get("rows", {}) if same else {}
        self._left_out: list[str] = []

    @property
    def seconds_left(self) -> float:
        """Time until no measurement may begin."""
        return self._ends - time.monotonic()

    def measure(self, name: str, work: Callable[[], dict[str, Any]], needs: float = 0.0) -> dict[str, Any]:
        """Adds a row, unless an earlier run has; one that fails is a row with its error.

        Args:
            name: Name of the row.
            work: Returns the row.
            needs: Seconds that it takes about; without that much time, it is left out.
        """
        if name in self.rows and "error" not in self.rows[name]:
            return self.rows[name]
        if self.seconds_left < needs:
            self._left_out.append(name)
            return {}
        print(name, end=": ", flush=True)
        began = time.monotonic()
        try:
            row = work()
        except Exception as error:  # one failure must not cost the other measurements
            row = {"error": f"{type(error).__name__}: {error}"[:500]}
        self.rows[name] = {**row, "took": round(time.monotonic() - began, 2)}
        print(", ".join(f"{key} {value}" for key, value in self.rows[name].items()), flush=True)
        self.write()
        return self.rows[name]

    def write(self, complete: bool = False) -> None:
        """Writes the file.

        Args:
            complete: Whether this part has ended.
        """
        failed = [name for name, row in self.rows.items() if "error" in row]
        content = {
            **self.about,
            "date": time.strftime("%Y-%m-%d"),
            "complete": complete and not failed and not self._left_out,
            "left_out": self._left_out,
            "rows": self.rows,
        }
        write_json(self.path, content)


def opened(arguments: list[str] | None = None) -> Results:
    """Returns the results of a part, from its command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True, help="file of the results")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--tiny", action="store_true")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: there is no GPU: --device cpu --tiny tries the script on a CPU")
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    return Results(chosen.output, torch.device(chosen.device), chosen.tiny, chosen.seconds)
