"""Tables of the README from the files of results; without results they say that nothing was measured."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ddpm_lightning.utils.atomic import read_json
from experiments.common import table

__all__ = ["tables"]

NOTHING = "No GPU has been measured yet."
Rows = Mapping[str, Mapping[str, Any]]

#: Columns of each table: heading and key. The first column is the name of the row.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "roofline": {"GFLOP": "gflop", "MB": "mb", "ms": "ms", "TFLOP/s": "tflops", "GB/s": "gb_per_second"},
    "training": {
        "crops/s": "images_per_second",
        "ms/step": "ms_per_step",
        "TFLOP/s": "tflops",
        "utilisation": "utilisation",
        "memory (GiB)": "memory_gib",
        "first step (s)": "first_step_seconds",
    },
    "inference": {
        "samples": "samples",
        "evaluations": "evaluations",
        "tile": "tile",
        "seconds": "seconds",
        "estimated": "estimated",
        "memory (GiB)": "memory_gib",
    },
    "loader": {"pairs/s": "pairs_per_second", "crops/s": "crops_per_second"},
    "trainings": {"steps": "steps", "validation loss": "val_loss", "PSNR (dB)": "psnr", "MB": "megabytes"},
}


def tables(folder: Path) -> dict[str, str]:
    """Returns the tables by name.

    Args:
        folder: Folder of the files of results.
    """
    made: dict[str, Callable[[Rows], str]] = {
        "tests": _tests,
        **{name: lambda rows, columns=columns: _table(rows, columns) for name, columns in COLUMNS.items()},
    }
    contents = {name: read_json(folder / f"{name}.json") for name in made}
    found = {
        name: make(contents[name]["rows"]) if contents[name].get("rows") else NOTHING
        for name, make in made.items()
    }
    return {"device": _device(contents), **found}


def _device(contents: Mapping[str, Mapping[str, Any]]) -> str:
    """Names device, versions and date of all parts, without repeating them."""
    lines = {
        f"{one['device']}, "
        + ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        + f"; measured on {one['date']}"
        + (" in the shrunken form, whose figures mean nothing" if one.get("tiny") else "")
        for one in contents.values()
        if one.get("rows")
    }
    return "\n".join(f"- {line}" for line in sorted(lines)) or NOTHING


def _tests(rows: Rows) -> str:
    lines = [
        [
            name,
            row["outcome"],
            "; ".join(f"{key}: {value}" for key, value in row.get("differences", {}).items()),
        ]
        for name, row in rows.items()
    ]
    return table(["test", "outcome", "largest differences from the CPU"], lines)


def _table(rows: Rows, columns: Mapping[str, str]) -> str:
    used = {heading: key for heading, key in columns.items() if any(key in row for row in rows.values())}
    lines = [[name, *(_text(row, key) for key in used.values())] for name, row in rows.items()]
    return table(["", *used], lines)


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key, "failed" if "error" in row else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
