"""``metrics.csv`` of a run: one row for each logged step, continued by a resumed run."""

import csv
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger

from ddpm_lightning.utils.atomic import atomic_write
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Count

__all__ = ["RunLog"]


class RunLog(Logger):
    """Writes metrics to a table; rows of an earlier part of the run are kept, repeated steps are replaced.

    Args:
        folder: Folder of the run.
        every: Rows after which the file is written again.
    """

    def __init__(self, folder: str, every: Count = 50) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.every = every
        self.rows: dict[int, dict[str, Any]] = {}
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                self.rows = {
                    int(row["step"]): {k: v for k, v in row.items() if v} for row in csv.DictReader(file)
                }
        self._unsaved = 0

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Runs have no versions: each has a folder."""
        return ""

    def log_hyperparams(self, *arguments: Any, **keywords: Any) -> None:
        """Writes nothing: ``config.yaml`` of the run holds the configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Adds metrics to the row of a step."""
        row = self.rows.setdefault(step or 0, {})
        row.update({key: float(value) for key, value in metrics.items()})
        self._unsaved += 1
        # A validation is followed by a checkpoint, and a run resumed from it needs all rows before it.
        if self._unsaved >= self.every or any(key.startswith("val/") for key in metrics):
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Writes the table."""
        if not self.rows:
            return
        names = sorted({name for row in self.rows.values() for name in row} - {"step", "epoch"})
        with atomic_write(self.path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["step", "epoch", *names])
            writer.writeheader()
            writer.writerows({**row, "step": step} for step, row in sorted(self.rows.items()))
        self._unsaved = 0

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes the last rows; after a failed run, errors of writing are ignored."""
        with suppress(*((UserError, OSError) if status == "failed" else ())):
            self.save()
