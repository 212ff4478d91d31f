"""From what was found out about each image to the files of an evaluation: tables, pictures, and a page to read."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.evaluation.diagnostics import (
    Diagnosis,
    inconsistent_samples,
    over_smoothing,
    poor_generalisation,
)
from ddpm_lightning.evaluation.distribution_shift import InputReference
from ddpm_lightning.evaluation.run import ImageScores, Row
from ddpm_lightning.evaluation.statistics import Difference, difference, fields_of
from ddpm_lightning.evaluation.summary import averaging, calibration, conformal_coverage, summarise
from ddpm_lightning.evaluation.tables import write_rows, write_uncertainty
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.reporting import plots
from ddpm_lightning.reporting.panels import Zoom, plot_zoom
from ddpm_lightning.reporting.perception_distortion import plot_realism, realism
from ddpm_lightning.reporting.summary_page import (
    against_raw_in_words,
    averaging_in_words,
    calibration_in_words,
    gain_in_words,
    range_in_words,
)

__all__ = ["diagnose", "plot_all", "summary_of", "write_tables"]


def summary_of(
    scores: Sequence[ImageScores],
    about: dict[str, Any],
    diagnoses: Sequence[Diagnosis],
    conformal: Conformal | None = None,
    conformal_split: str = "",
) -> dict[str, Any]:
    """Returns the content of ``summary.json``.

    Args:
        scores: What was found out about each image, by index.
        about: What was evaluated, and how.
        diagnoses: The three signatures of failure.
        conformal: Calibrated intervals, or ``None``.
        conformal_split: The split that they were calibrated on.
    """
    rows = [row for found in scores for row in found.rows]
    spread = calibration(scores)
    stored = None
    if conformal is not None and spread is not None:
        covered = conformal_coverage(scores, conformal)
        stored = {**conformal.to_dict(), "split": conformal_split, "coverage": float(np.mean(covered))}
    summary = {
        **about,
        "images": len(scores),
        "data_range": _range(rows),
        "resolution_unit": next(
            (row.facts["resolution_unit"] for row in rows if "resolution_unit" in row.facts), ""
        ),
        "lpips_backbone": next(
            (row.facts["lpips_backbone"] for row in rows if "lpips_backbone" in row.facts), None
        ),
        "estimators": summarise(rows),
        "also": {
            name: summarise([row for found in scores for row in found.also[name]]) for name in scores[0].also
        },
        "gain": _gains(rows, "single"),
        "gain_over_raw": _gains(rows, "raw"),
        "averaging": averaging(scores),
        "realism": realism(scores),
        "calibration": spread,
        "no_calibration": next((found.no_uncertainty for found in scores if found.no_uncertainty), ""),
        "conformal": stored,
        "diagnostics": [asdict(diagnosis) for diagnosis in diagnoses],
        "failed": {found.rows[0].image: found.failed for found in scores if found.failed},
    }
    gain, over_raw = (
        Difference(**found) if (found := summary[name].get("psnr")) else None
        for name in ("gain", "gain_over_raw")
    )
    useless = over_raw is not None and over_raw.mean <= 0
    sentences = [
        against_raw_in_words(over_raw, about["samples"]),
        gain_in_words(gain, about["samples"]),
        # Samples of a model that restores nothing obey the law of averaging all the same: it would sound like praise.
        "" if useless else averaging_in_words(summary["averaging"]),
        calibration_in_words(spread, stored),
        range_in_words({found.rows[0].image: found.beyond for found in scores if not found.failed}),
        *(f"{found.title}: {found.sentence}" for found in diagnoses if found.verdict == "suspect"),
    ]
    return {**summary, "in_words": [sentence for sentence in sentences if sentence]}


def _range(rows: Sequence[Row]) -> dict[str, float] | None:
    widths = [
        row.facts["data_range"] for row in rows if row.estimator == "average" and "data_range" in row.facts
    ]
    if not widths:
        return None
    return {"median": float(np.median(widths)), "smallest": min(widths), "largest": max(widths)}


def _gains(rows: Sequence[Row], estimator: str) -> dict[str, Any]:
    """Returns the paired differences of the average and another estimator, by metric."""
    single, average = ({r.image: r for r in rows if r.estimator == name} for name in (estimator, "average"))
    gains = {}
    for metric in sorted({name for row in rows for name in row.values}):
        images = [
            image for image in average if metric in average[image].values and metric in single[image].values
        ]
        if images:
            fields = fields_of(images, [average[image].field for image in images])
            values = ([table[image].values[metric] for image in images] for table in (average, single))
            gains[metric] = asdict(difference(*values, fields))
    return gains


def write_tables(scores: Sequence[ImageScores], folder: Path) -> None:
    """Writes ``metrics.csv``, ``metrics_PROTOCOL.csv`` for each further protocol, and ``uncertainty.csv``."""
    write_rows([row for found in scores for row in found.rows], folder / "metrics.csv")
    for protocol in scores[0].also:
        write_rows(
            [row for found in scores for row in found.also[protocol]], folder / f"metrics_{protocol}.csv"
        )
    if any(found.uncertainty is not None for found in scores):
        write_uncertainty(scores, folder / "uncertainty.csv")


def diagnose(
    scores: Sequence[ImageScores], reference: InputReference | None, no_reference: str = ""
) -> list[Diagnosis]:
    """Looks for the three signatures of failure.

    Args:
        scores: What was found out about each image.
        reference: Features of training images, or ``None``.
        no_reference: Why there is no reference.
    """
    return [
        over_smoothing(scores, _pixel_size(scores)),
        inconsistent_samples(scores),
        poor_generalisation(scores, reference, no_reference),
    ]


def _pixel_size(scores: Sequence[ImageScores]) -> float | None:
    """Returns the size of a pixel in µm, if it is the same in all images."""
    sizes = {image.pixel_size for image in scores if not image.failed}
    return sizes.pop() if len(sizes) == 1 else None


def plot_all(
    scores: Sequence[ImageScores],
    summary: dict[str, Any],
    zoom: Zoom | None,
    reference: InputReference | None,
    folder: Path,
) -> list[str]:
    """Plots all plots, and returns the names of the files that were written.

    Args:
        scores: What was found out about each image, by index.
        summary: Content of ``summary.json``.
        zoom: Where the samples disagree most, or ``None``.
        reference: Features of training images, or ``None``.
        folder: Folder of the figures.
    """
    drawn, pixel_size = ["scores.png"], _pixel_size(scores)
    plots.plot_scores([row for found in scores for row in found.rows], folder / "scores.png")
    if any(found.spectra is not None for found in scores):
        plots.plot_spectrum(scores, pixel_size, folder / "spectrum.png")
        drawn.append("spectrum.png")
        if plots.plot_frc(scores, pixel_size, folder / "frc.png"):
            drawn.append("frc.png")
    if summary["averaging"]:
        plots.plot_averaging(summary["averaging"], summary["protocol"], folder / "averaging.png")
        plots.plot_calibration(summary["calibration"], folder / "calibration.png")
        drawn += ["averaging.png", "calibration.png"]
    if summary["realism"] and plot_realism(summary["realism"], summary["protocol"], folder / "realism.png"):
        drawn.append("realism.png")
    if zoom is not None:
        plot_zoom(zoom, folder / "samples.png")
        drawn.append("samples.png")
    if reference is not None:
        plots.plot_inputs(scores, reference, folder / "inputs.png")
        drawn.append("inputs.png")
    return drawn
