r"""The perception-distortion trade-off between the posterior mean and a sample.

.. math:: y(\lambda) = \mu + \lambda\,(\mathrm{sample} - \mu), \qquad 0 \le \lambda \le 1

The error of y(λ) is that of the mean of 1/λ² samples, at the cost of one. :math:`\mu` is the output of the
posterior-mean network where the method has one (``pmrf`` and ``residual_flow``, for which ``sampler.realism=λ`` gives
y(λ) in every command), else the average of all samples.
"""

from pathlib import Path
from typing import Any

from matplotlib import pyplot

from ddpm_lightning.evaluation.tables import ARROWS
from ddpm_lightning.inference.panels import save

__all__ = ["plot_realism", "realism_table"]


def realism_table(means: dict[str, dict[float, float]]) -> list[str]:
    """Returns the table in Markdown."""
    weights = list(next(iter(means.values())))
    lines = [
        "| λ | as the mean of N samples | "
        + " | ".join(f"{metric} {ARROWS[metric]}" for metric in means)
        + " |",
        "| --- | --- |" + " --- |" * len(means),
    ]
    for weight in weights:
        number = f"{1 / weight**2:.3g}" if weight else "∞"
        values = (f"{means[metric].get(weight, float('nan')):.4g}" for metric in means)
        lines.append(f"| {weight:g} | {number} | {' | '.join(values)} |")
    return lines


def plot_realism(means: dict[str, dict[float, float]], protocol: str, path: Path) -> bool:
    """Plots LPIPS against PSNR for all λ; returns whether both metrics are available."""
    if not {"psnr", "lpips"} <= means.keys():
        return False
    weights = [weight for weight in means["psnr"] if weight in means["lpips"]]
    points: dict[str, Any] = {
        metric: [means[metric][weight] for weight in weights] for metric in ("psnr", "lpips")
    }
    figure, axis = pyplot.subplots(figsize=(4.4, 3.6), layout="constrained")
    axis.plot(points["psnr"], points["lpips"], marker="o", markersize=4, color="#0072B2", linewidth=1)
    for weight, x, y in zip(weights, points["psnr"], points["lpips"], strict=True):
        axis.annotate(f"λ = {weight:g}", (x, y), textcoords="offset points", xytext=(6, 3), fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel(f"PSNR (dB), protocol {protocol} → more faithful", fontsize=8)
    axis.set_ylabel("LPIPS (axis reversed) → looks more like targets", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title("from the mean (λ = 0) to one sample (λ = 1)", fontsize=9)
    save(figure, path)
    return True
