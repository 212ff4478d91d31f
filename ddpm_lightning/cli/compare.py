"""Compares evaluations of the same images: a table with intervals, and which differences are resolved.

Examples:
  ddpm-lightning compare A/metrics.csv B/metrics.csv
  ddpm-lightning compare evaluations/* reference=care
  ddpm-lightning compare A/metrics.csv B/metrics.csv estimator=single names=[ddpm,care] output=tables
  ddpm-lightning compare A/metrics.csv:single A/metrics.csv:average

Leaves in the output folder: comparison.md (to read), comparison.csv, comparison.tex, differences.csv.
"""

from datetime import datetime
from pathlib import Path

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.arguments import quoted
from ddpm_lightning.evaluation.comparison import compare, read_methods
from ddpm_lightning.evaluation.image_scores import ESTIMATORS
from ddpm_lightning.reporting.comparison_tables import (
    comparison_csv,
    comparison_latex,
    comparison_markdown,
    differences_csv,
)
from ddpm_lightning.utils.atomic import write_text
from ddpm_lightning.utils.errors import printable
from ddpm_lightning.utils.lock import hold
from ddpm_lightning.utils.paths import expanded

__all__ = ["run", "spelled_out"]


def spelled_out(arguments: list[str]) -> list[str]:
    """Returns the overrides that arguments stand for: files are gathered in ``files=[…]``."""
    given = get_args_parser().parse_known_args(arguments)[0].overrides
    # A folder of a sweep may be called `seed=1`: what exists is a file.
    files = [
        name for name in given if Path(name).exists() or ("=" not in name and not name.startswith(("-", "~")))
    ]
    if not files:
        return arguments
    listed = ",".join(map(quoted, files))
    return [argument for argument in arguments if argument not in files] + [f"files=[{listed}]"]


def run(config: DictConfig) -> int:
    """Compares as the configuration says, prints and writes the table."""
    settings = compose.plain(config)
    if settings["estimator"] not in ESTIMATORS:
        raise compose.unknown("estimator", str(settings["estimator"]), ESTIMATORS)
    files = settings["files"]
    files = [files] if isinstance(files, str) else files
    methods = read_methods(files, settings["estimator"], settings["names"])
    comparison = compare(methods, settings["metrics"], settings["reference"])
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = expanded(settings["output"] or f"comparisons/{stamp}")
    page = comparison_markdown(comparison)
    texts = {
        "comparison.md": page,
        "comparison.csv": comparison_csv(comparison),
        "comparison.tex": comparison_latex(comparison),
        "differences.csv": differences_csv(comparison),
    }
    with hold(folder, settings["force"]):
        for name, text in texts.items():
            write_text(folder / name, text)
    print(printable(f"{page}\nresults in {folder}"))
    return 0
