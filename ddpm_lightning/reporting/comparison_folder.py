"""Compares evaluations and writes the tables into a folder."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ddpm_lightning.evaluation.comparison import Estimator, compare, read_methods
from ddpm_lightning.evaluation.settings import FileName, Texts
from ddpm_lightning.reporting.comparison_tables import (
    comparison_csv,
    comparison_latex,
    comparison_markdown,
    differences_csv,
)
from ddpm_lightning.utils.atomic import write_text
from ddpm_lightning.utils.lock import hold
from ddpm_lightning.utils.paths import expanded
from ddpm_lightning.utils.settings import Settings, Text

__all__ = ["CompareSettings", "compare_evaluations"]


class CompareSettings(Settings):
    """Which evaluations are compared.

    Attributes:
        files: Files ``metrics.csv`` of two or more evaluations, or their folders; ``FILE:single`` takes another
            estimator of a file.
        estimator: ``raw``, ``single`` or ``average``, for files that name none.
        names: Names of the methods; by default those of the folders.
        metrics: Metrics to compare; by default all of the main table.
        reference: Name of a method that the others are compared with; by default all pairs are compared.
        output: Folder of the tables; by default ``comparisons/DATE_TIME``.
        force: Whether to take over a locked folder whose owner cannot be checked, such as a job on another machine.
    """

    files: Annotated[Texts, Field(min_length=1)]
    estimator: Estimator = "average"
    names: list[Text] | None = None
    metrics: list[Text] | None = None
    reference: Text | None = None
    output: FileName | None = None
    force: bool = False


def compare_evaluations(settings: CompareSettings) -> tuple[str, Path]:
    """Compares evaluations of the same images, and writes comparison.md, .csv and .tex, and differences.csv.

    Args:
        settings: Which evaluations.

    Returns:
        The page in Markdown, and the folder.

    Raises:
        UserError: If a file cannot be used, or the evaluations cannot be compared.
    """
    methods = read_methods(settings.files, settings.estimator, settings.names)
    comparison = compare(methods, settings.metrics, settings.reference)
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = expanded(settings.output or f"comparisons/{stamp}")
    page = comparison_markdown(comparison)
    texts = {
        "comparison.md": page,
        "comparison.csv": comparison_csv(comparison),
        "comparison.tex": comparison_latex(comparison),
        "differences.csv": differences_csv(comparison),
    }
    with hold(folder, settings.force):
        for name, text in texts.items():
            write_text(folder / name, text)
    return page, folder
