"""Restores real images that the shipped model has never seen, beside classical filters fitted to the same sets.

python -m experiments.default_model.run --size small --pairs DIR…
"""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)

from ddpm_lightning.data.pairs import Pair  # noqa: E402
from ddpm_lightning.inference.restorer import Restorer  # noqa: E402
from experiments import common  # noqa: E402

CLASSICAL = ("gaussian", "median", "non_local_means", "total_variation", "wavelet")
METHODS = ("raw", *CLASSICAL, "best blur", "default", "default, one sample")
METRICS = {"psnr": 2, "ms_ssim": 3, "lpips": 3}
SIZES = {"small": {"images": 5, "seconds": 1}, "full": {"images": 1000, "seconds": 1}}


def measure(options: common.Options) -> None:
    """Adds a row for each image and method."""
    model = Restorer.load(options.model, bfloat16="auto")
    sharp = Restorer.load(options.model, preset="realistic", bfloat16="auto")
    settings = {**options.size, "model": model.trained.sha256, "sets": list(options.pairs)}
    rows = common.Rows(options.work / "default_model.csv", settings, ("set", "split", "image"))
    for name, folder in options.pairs.items():
        # Only sets that have validation images can have filters fitted to them.
        overrides = {name: ["data=folder", f"data.root={folder}"]} if (folder / "val").is_dir() else {}
        filters = common.checkpoints(options, overrides, CLASSICAL) if overrides else {}
        restorers = {
            method: Restorer.load(path, tile=None, margin=0) for (_, method), path in filters.items()
        }
        for split in ("test", "val", "train"):
            if not (folder / split).is_dir():
                continue
            for pair in common.evenly_spaced(common.real(folder, split), options.size["images"]):
                if rows.has(set=name, split=split, image=pair.name):
                    continue
                about = {"set": name, "split": split, "image": pair.name, "field": pair.field}
                restored = model.restore_plane(pair.low, image=pair.name)
                found = {
                    "raw": common.scores_of(pair.low, pair, options.lpips),
                    "best blur": best_blur(pair),
                    "default": common.scores_of(restored.mean, pair, options.lpips),
                    "default, one sample": common.scores_of(
                        sharp.restore_plane(pair.low, image=pair.name).mean, pair, options.lpips
                    ),
                }
                for method, restorer in restorers.items():
                    image = restorer.restore_plane(pair.low, image=pair.name).mean
                    found[method] = common.scores_of(image, pair, options.lpips)
                warned = "; ".join(restored.warnings)
                rows.add(
                    [
                        {**about, "method": method, **values, "warned": warned}
                        for method, values in found.items()
                    ]
                )


def best_blur(pair: Pair) -> dict:
    """Returns the scores of the blur with the highest PSNR, without LPIPS."""
    found = (common.scores_of(image, pair, None) for image in common.blurred(pair.low))
    return max(found, key=lambda values: values["psnr"])


def report(folder: Path) -> Mapping[str, str]:
    """Plots the figure, and returns the tables by name."""
    rows = common.read(folder / "results" / "default_model.csv")
    sets = list(dict.fromkeys(row["set"] for row in rows))
    body = []
    for name in sets:
        for method in METHODS:
            mine = [
                row for row in rows if (row["set"], row["split"], row["method"]) == (name, "test", method)
            ]
            if mine:
                body.append([name, method, *(common.mean(mine, m, digits) for m, digits in METRICS.items())])
    plot(rows, sets, folder / "default_model.png")
    worst = []
    for name in sets:
        gains = list(gain(rows, name).values())
        warned = {(r["split"], r["image"]) for r in rows if r["set"] == name and r["warned"]}
        better = sum(value >= 0 for value in gains)
        worst.append([name, len(gains), better, f"{min(gains):+.2f}", f"{np.mean(gains):+.2f}", len(warned)])
    header = ["set", "method", "PSNR (dB) ↑", "MS-SSIM ↑", "LPIPS ↓"]
    of_files = [
        "set",
        "images",
        "not below the best blur",
        "least gain (dB)",
        "mean gain (dB)",
        "with a warning",
    ]
    return {"scores": common.table(header, body), "files": common.table(of_files, worst)}


def gain(rows: list[dict[str, str]], name: str) -> dict[tuple[str, str], float]:
    """Returns what the model gains over the blur that is best for that image, in dB, by split and image."""
    psnr = {
        (row["split"], row["image"], row["method"]): float(row["psnr"]) for row in rows if row["set"] == name
    }
    images = dict.fromkeys((split, image) for split, image, _ in psnr)
    return {key: psnr[*key, "default"] - psnr[*key, "best blur"] for key in images}


def plot(rows: list[dict[str, str]], sets: list[str], path: Path) -> None:
    """Plots the gain of each image over its best blur."""
    figure, axis = pyplot.subplots(figsize=(7, 1 + 0.6 * len(sets)), layout="constrained")
    for height, name in enumerate(sets):
        values = np.array(list(gain(rows, name).values()))
        jitter = np.random.default_rng(0).uniform(-0.2, 0.2, len(values))
        axis.plot(values, height + jitter, "o", markersize=4, alpha=0.6)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(sets)), sets)
    axis.set_xlabel("PSNR above that of the best blur for that image (dB)")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    common.run("default_model", SIZES, measure, report)
