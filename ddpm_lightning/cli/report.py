"""Writes one self-contained page about evaluations: numbers with intervals, an image viewer, plots and panels.

Examples:
  ddpm-lightning report runs/demo
  ddpm-lightning report evaluations/ddpm evaluations/care names=[ddpm,care] output=report.html

Leaves report.html, a file of a few MB that needs no network. Evaluations of the same images under the same protocol are
shown in one table, with the significant differences; in the viewer, all methods move together.
"""

from omegaconf import DictConfig

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.compare import spelled_out
from ddpm_lightning.reporting.report_file import ReportSettings, write_report

__all__ = ["run", "spelled_out"]


def run(config: DictConfig) -> int:
    """Writes the page."""
    output = write_report(compose.settings(config, ReportSettings))
    print(f"{output} ({output.stat().st_size / 2**20:.1f} MB): open it in a browser")
    return 0
