"""All plots of an evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddpm_lightning.evaluation.diagnostics import common_pixel_size
from ddpm_lightning.evaluation.distribution_shift import InputReference
from ddpm_lightning.evaluation.image_scores import ImageScores
from ddpm_lightning.reporting import plots
from ddpm_lightning.reporting.perception_distortion import plot_realism
from ddpm_lightning.reporting.zoom import Zoom, plot_zoom

__all__ = ["plot_all"]


def plot_all(
    scores: Sequence[ImageScores],
    summary: dict[str, Any],
    zoom: Zoom | None,
    reference: InputReference | None,
    folder: Path,
) -> list[str]:
    """Writes all plots and the panel of the samples that disagree most, and returns the names of the files.

    Args:
        scores: Scores of each image, by index.
        summary: Content of ``summary.json``.
        zoom: Where the samples disagree most, or ``None``.
        reference: Features of training images, or ``None``.
        folder: Folder of the figures.
    """
    files, pixel_size = ["scores.png"], common_pixel_size(scores)
    plots.plot_scores([row for found in scores for row in found.rows], folder / "scores.png")
    if any(found.spectra is not None for found in scores):
        plots.plot_spectrum(scores, pixel_size, folder / "spectrum.png")
        files.append("spectrum.png")
        if plots.plot_frc(scores, pixel_size, folder / "frc.png"):
            files.append("frc.png")
    if summary["averaging"]:
        plots.plot_averaging(summary["averaging"], summary["protocol"], folder / "averaging.png")
        plots.plot_calibration(summary["calibration"], folder / "calibration.png")
        files += ["averaging.png", "calibration.png"]
    if summary["realism"] and plot_realism(summary["realism"], summary["protocol"], folder / "realism.png"):
        files.append("realism.png")
    if zoom is not None:
        plot_zoom(zoom, folder / "samples.png")
        files.append("samples.png")
    if reference is not None:
        plots.plot_inputs(scores, reference, folder / "inputs.png")
        files.append("inputs.png")
    return files
