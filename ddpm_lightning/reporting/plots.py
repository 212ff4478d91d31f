"""Plots of an evaluation: calibration, effect of averaging, power and agreement by frequency, inputs, scores.

The colours are those of Okabe and Ito, which colour-blind people can tell apart; lines differ in their dashes as well.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddpm_lightning.evaluation.diagnostics import feature_name
from ddpm_lightning.evaluation.distribution_shift import BANDS, InputReference
from ddpm_lightning.evaluation.image_scores import ESTIMATORS, ImageScores, Row
from ddpm_lightning.evaluation.spectra import FREQUENCIES
from ddpm_lightning.evaluation.tables import ARROWS
from ddpm_lightning.inference.panels import save
from ddpm_lightning.metrics.collection import METRICS

__all__ = ["plot_averaging", "plot_calibration", "plot_frc", "plot_inputs", "plot_scores", "plot_spectrum"]

STYLES: dict[str, dict[str, Any]] = {
    "raw": {"color": "#999999", "linestyle": ":"},
    "single": {"color": "#D55E00", "linestyle": "--"},
    "average": {"color": "#0072B2", "linestyle": "-"},
    "target": {"color": "black", "linestyle": "-"},
}
NAMES = {"raw": "low image", "single": "one sample", "average": "average", "target": "target"}
IDEAL = {"color": "black", "linewidth": 0.8, "linestyle": (0, (5, 4))}
UNITS = {"psnr": " (dB)"}
SIZE = 3.3


def _axes(columns: int, rows: int = 1, width: float = SIZE) -> tuple[Figure, np.ndarray]:
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(width * columns, 3.0 * rows + 0.2), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, axes


def _label(axis: Axes, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, frameon=False)


def plot_calibration(calibration: dict[str, Any], path: Path) -> None:
    """Plots coverage, error against standard deviation, rank histogram and sparsification.

    Args:
        calibration: Result of :func:`ddpm_lightning.evaluation.summary.calibration`.
        path: File to write.
    """
    curves, blue = calibration["curves"], STYLES["average"]["color"]
    figure, axes = _axes(2, 2, 3.8)
    coverage, bins, ranks, removal = axes.flat
    coverage.plot([0, 1], [0, 1], label="ideal", **IDEAL)
    coverage.plot(
        curves["levels"], curves["coverage"], marker="o", markersize=3, color=blue, label="measured"
    )
    ece = calibration["numbers"]["ece"]["mean"]
    _label(coverage, f"coverage of intervals (ECE {ece:.3f})", "stated", "found")
    std, error = (100 * np.array(curves[name]) for name in ("bin_spread", "bin_error"))
    top = 1.05 * max(std.max(), error.max())
    bins.plot([0, top], [0, top], label="ideal", **IDEAL)
    bins.plot(std, error, marker="o", markersize=3, color=blue, label="pixels, by std")
    _label(bins, "is the std as large as the error?", "std (% of the range)", "rms error (% of the range)")
    share = np.array(curves["ranks"]) * len(curves["ranks"])
    ranks.bar(range(len(share)), share, width=0.9, color=blue)
    ranks.axhline(1, **IDEAL)
    _label(
        ranks,
        "rank of the truth among the samples",
        "rank (valley: std too small; slope: bias)",
        "share / ideal share",
    )
    removal.plot(curves["removed"], curves["error_by_uncertainty"], color=blue, label="most uncertain first")
    removal.plot(
        curves["removed"], curves["error_by_error"], label="worst first (oracle)", **STYLES["single"]
    )
    removal.axhline(1, label="at random", **IDEAL)
    removal.set_ylim(0, None)
    ause = calibration["numbers"]["ause"]["mean"]
    _label(removal, f"error when pixels are removed (AUSE {ause:.3f})", "removed share", "error of the rest")
    save(figure, path)


def plot_averaging(averaging: dict[str, Any], protocol: str, path: Path) -> None:
    """Plots the error of the mean of N samples with the law and its limit, and the metrics against N.

    Args:
        averaging: Result of :func:`ddpm_lightning.evaluation.summary.averaging`.
        protocol: Protocol of the metrics.
        path: File to write.
    """
    metrics = [name for name in ("psnr", "ms_ssim", "lpips", "pearson") if averaging["metrics"].get(name)]
    figure, axes = _axes(1 + len(metrics), width=2.9)
    law, *others = axes[0]
    numbers = np.array(list(averaging["mse"]), dtype=float)
    errors = np.array(list(averaging["mse"].values()))
    blue = STYLES["average"]["color"]
    together = averaging["together"]
    shown = numbers[numbers % together == 0]
    fine = np.geomspace(together, 4 * numbers[-1], 100)
    dots = {"linestyle": "", "marker": "o", "markersize": 3.5, "color": blue}
    law.plot(shown, -10 * np.log10(errors[numbers % together == 0]), label="measured", **dots)
    fitted = averaging["a"] + averaging["b"] * together / fine
    if (fitted > 0).all():
        label = f"a + b/N, b/a = {averaging['ratio']:.2f}"
        law.plot(fine, -10 * np.log10(fitted), color=blue, linewidth=1, label=label)
    if averaging["psnr_limit"] is not None:
        law.axhline(averaging["psnr_limit"], label=f"limit {averaging['psnr_limit']:.2f} dB", **IDEAL)
    law.set_xscale("log")
    _ticks(law, [*averaging["metrics"].get("psnr", {}), 4 * int(numbers[-1])])
    _label(law, "error of the mean of N samples", "samples N", "1 / MSE, range of the target (dB)")
    for name, axis in zip(metrics, others, strict=True):
        found = averaging["metrics"][name]
        axis.plot(list(found), list(found.values()), marker="o", markersize=3.5, color=blue)
        axis.set_xscale("log")
        _ticks(axis, list(found))
        _label(axis, f"{name}{UNITS.get(name, '')} {ARROWS[name]}, protocol {protocol}", "samples N", "")
    save(figure, path)


def _ticks(axis: Axes, numbers: Sequence[int]) -> None:
    axis.set_xticks(numbers, [str(number) for number in numbers])
    axis.minorticks_off()


def plot_spectrum(scores: Sequence[ImageScores], pixel_size: float | None, path: Path) -> None:
    """Plots the radial power of all versions, and what part of the target's power they hold.

    Args:
        scores: Scores of each image.
        pixel_size: Size of a pixel in µm, or ``None``.
        path: File to write.
    """
    spectra = [found.spectra for found in scores if found.spectra is not None]
    figure, axes = _axes(2, width=4.2)
    power, ratio = axes[0]
    target = np.stack([curves.power["target"] for curves in spectra])
    for name in (*ESTIMATORS, "target"):
        values = np.stack([curves.power[name] for curves in spectra])
        power.plot(FREQUENCIES, _middle(values), label=NAMES[name], **STYLES[name])
        if name != "target":
            low, middle, high = np.quantile(values / target, (0.25, 0.5, 0.75), axis=0)
            ratio.plot(FREQUENCIES, middle, label=NAMES[name], **STYLES[name])
            if name == "average":
                ratio.fill_between(
                    FREQUENCIES, low, high, color=STYLES[name]["color"], alpha=0.2, linewidth=0
                )
    octaves = [curves.octave for curves in spectra if curves.octave]
    if octaves:
        low, high = np.median(octaves, axis=0)
        for axis in (power, ratio):
            axis.axvspan(
                low, high, color="#F0E442", alpha=0.25, linewidth=0, label="finest octave of the target"
            )
    power.set_yscale("log")
    ratio.set_yscale("log")
    ratio.set_ylim(0.01, 100)
    ratio.axhline(1, **IDEAL)
    _label(power, "radial power", _frequency(pixel_size), "power / mean power of the target")
    _label(
        ratio,
        "power relative to the target",
        _frequency(pixel_size),
        "ratio (median, quartiles of the average)",
    )
    for axis in (power, ratio):
        _periods(axis, pixel_size)
    save(figure, path)


def plot_frc(scores: Sequence[ImageScores], pixel_size: float | None, path: Path) -> bool:
    """Plots the Fourier ring correlation of all versions with the target; says whether any image was large enough.

    Args:
        scores: Scores of each image.
        pixel_size: Size of a pixel in µm, or ``None``.
        path: File to write.
    """
    spectra = [found.spectra for found in scores if found.spectra is not None and found.spectra.correlation]
    if not spectra:
        return False
    figure, axes = _axes(1, width=4.6)
    (axis,) = axes[0]
    for name in ESTIMATORS:
        values = np.stack([curves.correlation[name] for curves in spectra])
        cutoffs = [curves.cutoff[name] for curves in spectra if np.isfinite(curves.cutoff[name])]
        cutoff = _length(1 / np.median(cutoffs), pixel_size) if cutoffs else "none"
        # Below this there is no ring in small images.
        shown = FREQUENCIES > 0.02
        axis.plot(
            FREQUENCIES[shown],
            _middle(values)[shown],
            label=f"{NAMES[name]}: down to {cutoff}",
            **STYLES[name],
        )
        if name == "average":
            low, high = np.quantile(values, (0.25, 0.75), axis=0)
            axis.fill_between(
                FREQUENCIES[shown],
                low[shown],
                high[shown],
                color=STYLES[name]["color"],
                alpha=0.2,
                linewidth=0,
            )
    axis.axhline(1 / 7, **IDEAL)
    axis.text(0.495, 1 / 7 + 0.015, "1/7", fontsize=7, ha="right")
    axis.set_ylim(-0.1, 1.02)
    _label(
        axis,
        "Fourier ring correlation with the target",
        _frequency(pixel_size),
        "correlation (median, quartiles)",
    )
    _periods(axis, pixel_size)
    save(figure, path)
    return True


def _middle(values: np.ndarray) -> np.ndarray:
    return np.median(values, axis=0)


def _frequency(pixel_size: float | None) -> str:
    return "period (px)" if pixel_size is None else "period (nm)"


def _length(pixels: float, pixel_size: float | None) -> str:
    return f"{pixels:.1f} px" if pixel_size is None else f"{1000 * pixel_size * pixels:.0f} nm"


def _periods(axis: Axes, pixel_size: float | None) -> None:
    """Labels an axis of frequencies by their periods."""
    periods = (16, 8, 5, 4, 3, 2.5, 2)
    axis.set_xticks([1 / p for p in periods], [_length(p, pixel_size).split()[0] for p in periods])
    axis.set_xlim(0, 0.5)


def plot_inputs(scores: Sequence[ImageScores], reference: InputReference, path: Path) -> None:
    """Plots the features of the inputs over those of the training images.

    Args:
        scores: Scores of each image.
        reference: Features of training images.
        path: File to write.
    """
    inputs = [found.input for found in scores if found.input]
    figure, axes = _axes(3, width=3.6)
    intensities, noise, power = axes[0]
    intensities.set_title("intensities")
    noise.set_title("noise level")
    for axis, names in ((intensities, ("dark", "mean", "bright")), (noise, ("noise",))):
        for place, name in enumerate(names):
            _strip(
                axis, place - 0.15, reference.features[name], "#999999", "o", "training" if place == 0 else ""
            )
            _strip(
                axis, place + 0.15, [f[name] for f in inputs], "#0072B2", "^", "scored" if place == 0 else ""
            )
            axis.hlines(reference.bounds(name), place - 0.35, place + 0.35, color="black", linewidth=0.8)
        axis.set_xticks(
            range(len(names)), [feature_name(name).split(" of ")[0] for name in names], fontsize=8
        )
        axis.set_xlim(-0.6, len(names) - 0.4)
    for axis in (intensities, noise):
        axis.margins(y=0.2)  # room for the legend
        _label(axis, axis.get_title(), "", "normalised scale")
    centres = np.sqrt(BANDS[1:] * BANDS[:-1])
    names = [f"power_{number}" for number in range(len(centres))]
    bounds = np.array([reference.bounds(name) for name in names])
    power.fill_between(
        centres, *bounds.T, color="#999999", alpha=0.35, linewidth=0, label="range of the training"
    )
    for number, features in enumerate(inputs):
        label = "scored" if number == 0 else None
        power.plot(
            centres,
            [features[name] for name in names],
            color="#0072B2",
            linewidth=0.7,
            alpha=0.7,
            label=label,
        )
    power.set_xscale("log")
    power.set_xticks(centres, [f"{1 / centre:.0f}" for centre in centres])
    power.minorticks_off()
    _label(power, "power spectrum", "period (px)", "log10 power")
    save(figure, path)


def _strip(axis: Axes, place: float, values: Sequence[float], color: str, marker: str, label: str) -> None:
    offsets = np.linspace(-0.1, 0.1, len(values)) if len(values) > 1 else np.zeros(1)
    axis.plot(place + offsets, values, marker, color=color, markersize=3, alpha=0.7, label=label or None)


def plot_scores(rows: Sequence[Row], path: Path) -> None:
    """Plots the numbers of every image for each estimator, those of one image joined by a line.

    Args:
        rows: A row for each image and estimator.
        path: File to write.
    """
    metrics = [name for name in METRICS if any(name in row.values for row in rows)]
    figure, axes = _axes(len(metrics), width=1.9)
    images = list(dict.fromkeys(row.image for row in rows))
    for name, axis in zip(metrics, axes[0], strict=True):
        table = {(row.image, row.estimator): row.values.get(name, np.nan) for row in rows}
        values = np.array([[table[image, estimator] for estimator in ESTIMATORS] for image in images])
        axis.plot(values.T, color="#bbbbbb", linewidth=0.6)
        for place, estimator in enumerate(ESTIMATORS):
            color = STYLES[estimator]["color"]
            axis.plot([place] * len(images), values[:, place], "o", markersize=3, color=color)
            if np.isfinite(values[:, place]).any():
                axis.hlines(
                    np.nanmedian(values[:, place]), place - 0.3, place + 0.3, color=color, linewidth=2
                )
        axis.set_xticks(range(len(ESTIMATORS)), ["raw", "sample", "mean"], fontsize=8)
        axis.set_xlim(-0.5, len(ESTIMATORS) - 0.5)
        _label(axis, f"{name}{UNITS.get(name, '')} {ARROWS[name]}".strip(), "", "")
    figure.suptitle(
        f"protocol {rows[0].facts['protocol']}; a line joins the versions of an image", fontsize=9
    )
    save(figure, path)
