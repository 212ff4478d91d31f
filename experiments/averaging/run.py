"""Restores test images with 1 to 20 samples and scores their averages.

python -m experiments.averaging.run --size small --pairs DIR…
"""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)

from ddpm_lightning.evaluation.restored_pair import full_scale, restore_pair  # noqa: E402
from ddpm_lightning.inference.restorer import Restorer  # noqa: E402
from ddpm_lightning.metrics.averaging_law import AveragingLaw, fit_averaging_law  # noqa: E402
from ddpm_lightning.metrics.collection import score  # noqa: E402
from experiments import common  # noqa: E402

NUMBERS = [1, 2, 5, 10, 15, 20]
METRICS = {"psnr": 2, "ms_ssim": 4, "lpips": 3, "resolution": 2}
SIZES = {"small": {"images": 6, "side": 192}, "full": {"images": 100, "side": 256}}


def measure(options: common.Options) -> None:
    """Adds a row for each image and number of samples."""
    restorer = Restorer.load(options.model, preset="uncertainty", bfloat16="auto")
    sets = common.test_sets(options)
    settings = {**options.size, "model": restorer.trained.sha256, "sets": list(sets), "numbers": NUMBERS}
    rows = common.Rows(options.work / "averaging.csv", settings, ("set", "image"))
    for name, source in sets.items():
        for pair in common.evenly_spaced(source, options.size["images"]):
            if rows.has(set=name, image=pair.name):
                continue
            restored = restore_pair(restorer, pair, NUMBERS)
            target = torch.from_numpy(pair.high.astype(np.float32))[None, None]
            new = []
            for number in NUMBERS:
                scored = score(
                    torch.from_numpy(restored.means[number])[None, None],
                    target,
                    "affine",
                    full_scale=full_scale(restorer.normalisation, pair),
                    lpips=options.lpips,
                    resolution=True,
                )
                values = {metric: scored.values.get(metric, "") for metric in METRICS}
                cost = {"evaluations": number * restorer.method.evaluations}
                about = {"set": name, "image": pair.name, "field": pair.field, "number": number}
                new.append({**about, **values, **cost})
            rows.add(new)


def report(folder: Path) -> Mapping[str, str]:
    """Plots the figure, and returns the tables by name."""
    rows = common.read(folder / "results" / "averaging.csv")
    sets = list(dict.fromkeys(row["set"] for row in rows))
    chosen = {
        (name, number): [r for r in rows if r["set"] == name and int(r["number"]) == number]
        for name in sets
        for number in NUMBERS
    }
    laws = {name: law(chosen, name) for name in sets}
    plot(chosen, laws, folder / "averaging.png")
    body = [
        [name, number, *(common.mean(chosen[name, number], m, digits) for m, digits in METRICS.items())]
        + [chosen[name, number][0]["evaluations"]]
        for name in sets
        for number in NUMBERS
    ]
    header = ["set", "samples", "PSNR (dB) ↑", "MS-SSIM ↑", "LPIPS ↓", "resolution (pixels) ↓"]
    header += ["network evaluations"]
    of_laws = [
        [
            name,
            f"{found.ratio:.2f}",
            f"{found.gain(15):.2f}",
            f"{found.remaining(15):.2f}",
            f"{found.needed(0.1):.0f}",
        ]
        for name, found in laws.items()
    ]
    return {
        "averages": common.table(header, body),
        "law": common.table(
            ["set", "b / a", "gain of 15 samples (dB)", "left beyond 15 (dB)", "samples to within 0.1 dB"],
            of_laws,
        ),
    }


def law(chosen: Mapping[tuple[str, int], list[dict[str, str]]], name: str) -> AveragingLaw:
    """Fits MSE(N) = a + b / N to the mean squared errors of a set, in squared units of the targets' ranges."""
    errors = [np.mean([10 ** (-float(row["psnr"]) / 10) for row in chosen[name, n]]) for n in NUMBERS]
    return fit_averaging_law(NUMBERS, errors)


def plot(
    chosen: Mapping[tuple[str, int], list[dict[str, str]]], laws: Mapping[str, AveragingLaw], path: Path
) -> None:
    """Plots what averaging gains in PSNR, with the fit, and what it costs in LPIPS."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    fine = np.linspace(1, NUMBERS[-1], 100)
    for colour, (name, found) in enumerate(laws.items()):
        style = {"color": f"C{colour}"}
        psnr, lpips = (
            [np.mean([float(row[metric] or "nan") for row in chosen[name, n]]) for n in NUMBERS]
            for metric in ("psnr", "lpips")
        )
        left.plot(NUMBERS, np.subtract(psnr, psnr[0]), "o", markersize=4, label=name, **style)
        left.plot(fine, [found.gain(n) for n in fine], linewidth=1, **style)
        right.plot(NUMBERS, lpips, marker="o", markersize=4, linewidth=1, **style)
    left.set(
        xlabel="samples averaged", ylabel="PSNR above that of one sample (dB)", title="lines: MSE = a + b / N"
    )
    right.set(
        xlabel="samples averaged", ylabel="LPIPS (lower: closer to the target)", title="perceptual distance"
    )
    left.legend(fontsize=7)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    common.run("averaging", SIZES, measure, report)
