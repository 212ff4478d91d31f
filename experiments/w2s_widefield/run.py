"""Scores the wide-field model on the test pairs of W2S, beside blurs of the noisy images.

python -m experiments.w2s_widefield.run --pairs W2S --lpips FILE
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import matplotlib
from scipy import ndimage

from ddpm_lightning.utils.errors import UserError
from experiments import common

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)

HERE = Path(__file__).parent
SET = "w2s-widefield"
SIGMAS = (1.0, 1.5, 2.0, 2.5, 3.0)
SIZES = {"small": {}, "full": {}}
#: Rows of the table: title, file of rows, estimator.
SHOWN = {
    "raw": ("evaluation", "raw"),
    "ddpm_small, one sample": ("ddpm_small", "single"),
    "ddpm_small, average of 5": ("ddpm_small", "average"),
    "this model, one sample": ("evaluation", "single"),
    "this model, average of 2": ("evaluation", "average"),
}


def measure(options: common.Options) -> None:
    """Evaluates the model, and adds a row for each image and blur."""
    if SET not in options.pairs:
        raise UserError("--pairs", f"names no folder {SET}", remedy=f"pass the folder of pairs, …/{SET}")
    folder = options.pairs[SET]
    options.work.mkdir(parents=True, exist_ok=True)
    evaluated = options.work / "evaluation.csv"
    if not evaluated.is_file():
        common.command(
            "evaluate",
            f"checkpoint='{HERE / 'w2s_widefield.safetensors'}'",
            "data=folder",
            f"data.root='{folder}'",
            "protocol=affine",
            "bfloat16=auto",
            "figures=0",
            f"output='{options.work / 'evaluation'}'",
        )
        shutil.copy(options.work / "evaluation" / "metrics.csv", evaluated)
    rows = common.Rows(options.work / "blur.csv", {"sigmas": SIGMAS}, ("image",))
    source = common.real(folder)
    for pair in (source[index] for index in range(len(source))):
        if not rows.has(image=pair.name):
            found = []
            for sigma in SIGMAS:
                blurred = ndimage.gaussian_filter(pair.low.astype("float32"), sigma)
                about = {"image": pair.name, "field": pair.field, "sigma": sigma}
                found.append(about | common.scores_of(blurred, pair, options.lpips))
            rows.add(found)


def report(folder: Path) -> Mapping[str, str]:
    """Plots the learning curves, and returns the table of scores."""
    results = folder / "results"
    blurs = common.read(results / "blur.csv")
    sigma = max(SIGMAS, key=lambda s: sum(float(r["psnr"]) for r in blurs if float(r["sigma"]) == s))
    of_blur = [row for row in blurs if float(row["sigma"]) == sigma]
    lines = []
    for title, (file, estimator) in SHOWN.items():
        rows = [row for row in common.read(results / f"{file}.csv") if row["estimator"] == estimator]
        lines.append((title, rows))
    lines.insert(1, (f"Gaussian blur, sigma {sigma:g}", of_blur))
    others = common.read(results / "networks.csv") if (results / "networks.csv").is_file() else []
    for network in dict.fromkeys(row["network"] for row in others):
        lines.append((network, [row for row in others if row["network"] == network]))
    _draw(results, folder / "curve.png")
    metrics = (("psnr", 2), ("ms_ssim", 3), ("lpips", 3))
    return {
        "scores": common.table(
            ["", "PSNR (dB) ↑", "MS-SSIM ↑", "LPIPS ↓"],
            [
                [title, *(common.mean(rows, metric, digits) for metric, digits in metrics)]
                for title, rows in lines
            ],
        )
    }


def _draw(results: Path, path: Path) -> None:
    """Plots the validation losses of both stages against optimiser steps."""
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for axis, name in zip(axes, ("regressor", "flow"), strict=True):
        rows = common.read(results / f"training_{name}.csv")
        for column in ("train/loss", "val/loss"):
            chosen = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
            if column == "train/loss":  # single steps are noisy: means of 25 rows
                chosen = [
                    (chosen[k][0], sum(value for _, value in chosen[k : k + 25]) / len(chosen[k : k + 25]))
                    for k in range(0, len(chosen), 25)
                ]
            axis.plot(*zip(*chosen, strict=True), marker="o", markersize=3, label=column)
        axis.set(title=name, xlabel="optimiser steps", yscale="log")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    common.run("w2s_widefield", SIZES, measure, report)
