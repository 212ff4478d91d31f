"""Compares evaluations of the same images: a table with intervals, and which differences are significant.

Examples:
  ddpm-lightning compare A/metrics.csv B/metrics.csv
  ddpm-lightning compare evaluations/* reference=care
  ddpm-lightning compare A/metrics.csv B/metrics.csv estimator=single names=[ddpm,care] output=tables
  ddpm-lightning compare A/metrics.csv:single A/metrics.csv:average

Leaves in the output folder: comparison.md (to read), comparison.csv, comparison.tex, differences.csv.
"""

from pathlib import Path

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.arguments import quoted
from ddpm_lightning.reporting.comparison_folder import CompareSettings, compare_evaluations
from ddpm_lightning.utils.errors import printable

__all__ = ["run", "spelled_out"]


def spelled_out(arguments: list[str]) -> list[str]:
    """Returns the arguments as overrides: files are collected in ``files=[…]``."""
    given = get_args_parser().parse_known_args(arguments)[0].overrides
    # A folder of a sweep may be called `seed=1`: whatever exists is a file.
    files = [
        name for name in given if Path(name).exists() or ("=" not in name and not name.startswith(("-", "~")))
    ]
    if not files:
        return arguments
    listed = ",".join(map(quoted, files))
    return [argument for argument in arguments if argument not in files] + [f"files=[{listed}]"]


def run(config: DictConfig) -> int:
    """Compares as the configuration says, prints and writes the table."""
    page, folder = compare_evaluations(compose.settings(config, CompareSettings))
    print(printable(f"{page}\nresults in {folder}"))
    return 0
