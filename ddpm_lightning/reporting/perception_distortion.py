r"""The way from the mean to a sample: what each step of it costs in fidelity and brings in realism.

.. math:: y(\lambda) = \mu + \lambda\,(\mathrm{sample} - \mu), \qquad 0 \le \lambda \le 1

The error of y(λ) is that of the mean of 1/λ² samples, at the price of one. :math:`\mu` is the mean that a model knows
of (that of ``pmrf`` and ``residual_flow``, for whom ``sampler.realism=λ`` then gives y(λ) in every command), else the
average of all samples.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot

from ddpm_lightning.evaluation.run import ImageScores
from ddpm_lightning.evaluation.tables import ARROWS
from ddpm_lightning.reporting.panels import save

__all__ = ["plot_realism", "realism", "realism_table"]

METRICS = ("psnr", "ms_ssim", "lpips", "nrmse", "pearson")


def realism(scores: Sequence[ImageScores]) -> dict[str, dict[float, float]] | None:
    """Returns the mean over images by metric and λ, or ``None`` where the way was not walked."""
    having = [found for found in scores if found.against_realism]
    if not having:
        return None
    means: dict[str, dict[float, float]] = {}
    for metric in METRICS:
        for share in having[0].against_realism:
            values = [
                found.against_realism[share][metric]
                for found in having
                if metric in found.against_realism[share]
            ]
            if values:
                means.setdefault(metric, {})[share] = float(np.mean(values))
    return means


def realism_table(means: dict[str, dict[float, float]]) -> list[str]:
    """Returns the table in Markdown."""
    shares = list(next(iter(means.values())))
    lines = [
        "| λ | as the mean of N samples | "
        + " | ".join(f"{metric} {ARROWS[metric]}" for metric in means)
        + " |",
        "| --- | --- |" + " --- |" * len(means),
    ]
    for share in shares:
        number = f"{1 / share**2:.3g}" if share else "∞"
        values = (f"{means[metric].get(share, float('nan')):.4g}" for metric in means)
        lines.append(f"| {share:g} | {number} | {' | '.join(values)} |")
    return lines


def plot_realism(means: dict[str, dict[float, float]], protocol: str, path: Path) -> bool:
    """Plots the way in the plane of fidelity (PSNR) and realism (LPIPS); returns whether both are there."""
    if not {"psnr", "lpips"} <= means.keys():
        return False
    shares = [share for share in means["psnr"] if share in means["lpips"]]
    points: dict[str, Any] = {
        metric: [means[metric][share] for share in shares] for metric in ("psnr", "lpips")
    }
    figure, axis = pyplot.subplots(figsize=(4.4, 3.6), layout="constrained")
    axis.plot(points["psnr"], points["lpips"], marker="o", markersize=4, color="#0072B2", linewidth=1)
    for share, x, y in zip(shares, points["psnr"], points["lpips"], strict=True):
        axis.annotate(f"λ = {share:g}", (x, y), textcoords="offset points", xytext=(6, 3), fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel(f"PSNR (dB), protocol {protocol} → more faithful", fontsize=8)
    axis.set_ylabel("LPIPS (axis reversed) → looks more like targets", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title("from the mean (λ = 0) to one sample (λ = 1)", fontsize=9)
    save(figure, path)
    return True
