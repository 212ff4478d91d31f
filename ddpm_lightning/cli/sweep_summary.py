"""Summarises a sweep when its last job has ended: Hydra calls :class:`WriteSummary` (``conf/common.yaml``)."""

from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ddpm_lightning.reporting.sweep import write_sweep

__all__ = ["WriteSummary"]


class WriteSummary(Callback):
    """Writes the summary at the end of a sweep.

    Attributes:
        failed: Names of the failed jobs of the last sweep of this process.
    """

    failed: ClassVar[list[str]] = []

    def on_multirun_end(self, config: DictConfig, **keywords: Any) -> None:
        """Writes the table and the plot, and prints where they are."""
        folder = Path(config.hydra.sweep.dir)
        jobs = write_sweep(folder)
        self.failed[:] = [f"{job.name} ({job.state})" for job in jobs if job.state != "finished"]
        if jobs:
            finished = len(jobs) - len(self.failed)
            print(f"\n{finished} of {len(jobs)} jobs finished\nsummary  {folder / 'summary.csv'}")
