"""Compares the standard deviation of the samples with perceptual metrics by regions, and writes images for observers.

python -m experiments.visual_assessment.run --size small --pairs DIR…
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import tifffile
import torch

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)
from matplotlib.ticker import NullFormatter  # noqa: E402

from ddpm_lightning.data.pairs import Pair  # noqa: E402
from ddpm_lightning.evaluation.restored_pair import raw_on_target_scale  # noqa: E402
from ddpm_lightning.inference.restorer import Restorer  # noqa: E402
from ddpm_lightning.metrics.frc import frc_against_target  # noqa: E402
from ddpm_lightning.metrics.protocol import PROTOCOLS  # noqa: E402
from ddpm_lightning.metrics.ssim import BETAS, ms_ssim, ssim  # noqa: E402
from experiments import common  # noqa: E402
from experiments.ranks import over_images, partial_spearman, spearman  # noqa: E402
from experiments.regions import means, tiles  # noqa: E402

SAMPLES = 15
#: Side of the regions in pixels: the smallest that LPIPS accepts.
SIDE = 64
#: Exponents of MS-SSIM, for the three scales that a region is large enough for.
SCALES = tuple(beta / sum(BETAS[:3]) for beta in BETAS[:3])
#: Metrics of a region, and 1 if higher is worse, else -1.
METRICS = {"lpips": 1, "ssim": -1, "ms_ssim": -1, "resolution": 1, "rmse": 1}
NAMES = {"lpips": "LPIPS", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "resolution": "resolution", "rmse": "RMSE"}
SIZES = {"small": {"images": 8, "side": 192}, "full": {"images": 100, "side": 256}}


def measure(options: common.Options) -> None:
    """Adds rows for the regions of each image, and writes its versions."""
    restorer = Restorer.load(options.model, preset="uncertainty", bfloat16="auto")
    sets = common.test_sets(options)
    settings = {**options.size, "model": restorer.trained.sha256, "sets": list(sets)}
    rows = common.Rows(options.work / "regions.csv", settings, ("set", "image"))
    for name, source in sets.items():
        for pair in common.evenly_spaced(source, options.size["images"]):
            if rows.has(set=name, image=pair.name):
                continue
            restored = restorer.restore_plane(pair.low, SAMPLES, pair.name, keep_samples=True)
            scale = restorer.normalisation.output_scale(restorer.input_scale(pair.low))
            versions = {"average": restored.mean, "one sample": restored.samples[0]}
            keep(options.work / "versions", f"{name}_{pair.name}", restorer, pair, versions)
            found = {version: regions(image, pair.high, options.lpips) for version, image in versions.items()}
            known = {
                "std": means((restored.std / restored.gain) ** 2, SIDE) ** 0.5,
                "brightness": means(scale.normalise(restored.mean), SIDE),
            }
            about = {"set": name, "image": pair.name, "field": pair.field}
            rows.add(
                [
                    {
                        **about,
                        "region": number,
                        "version": version,
                        **of(known, number),
                        **of(columns, number),
                    }
                    for version, columns in found.items()
                    for number in range(len(known["std"]))
                ]
            )


def keep(folder: Path, name: str, restorer: Restorer, pair: Pair, versions: Mapping[str, np.ndarray]) -> None:
    """Writes each version of an image into a folder of its own, for the page on which people compare them."""
    shown = {**versions, "raw": raw_on_target_scale(restorer, pair), "target": pair.high}
    for version, image in shown.items():
        path = folder / version.replace(" ", "_") / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, image.astype(np.float32))


def regions(image: np.ndarray, target: np.ndarray, lpips: Any) -> dict[str, np.ndarray]:
    """Returns the metrics of all regions, each with shape (N,), NaN if one cannot be computed.

    The scale is that of the whole image under the protocol ``affine``: one gain and offset, the range of the target.

    Args:
        image: Restored image with shape (H, W).
        target: Clean image with shape (H, W).
        lpips: The loaded distance, or why there is none.
    """
    pair = (torch.from_numpy(np.asarray(plane, np.float32))[None, None] for plane in (image, target))
    scored = PROTOCOLS["affine"].apply(*pair)
    prediction, wanted = (
        torch.from_numpy(tiles(plane[0, 0].numpy(), SIDE))[:, None] for plane in scored.unit()
    )
    both = {"prediction": prediction, "target": wanted}
    none = torch.full((len(wanted),), torch.nan)
    found = {
        "lpips": none
        if isinstance(lpips, str)
        else lpips(prediction=2 * prediction - 1, target=2 * wanted - 1),
        "ssim": ssim(**both, data_range=1.0),
        "ms_ssim": ms_ssim(**both, data_range=1.0, betas=SCALES),
        "resolution": torch.tensor([agreed(*region) for region in zip(prediction, wanted, strict=True)]),
        "rmse": (prediction - wanted).square().mean(dim=(1, 2, 3)).sqrt(),
    }
    return {name: values.double().numpy() for name, values in found.items()}


def agreed(prediction: torch.Tensor, target: torch.Tensor) -> float:
    """Returns the period in pixels down to which a region agrees with its target; NaN if there is none."""
    try:
        return frc_against_target(prediction[0].numpy(), target[0].numpy(), pixel_size=1.0).resolution
    except ValueError:
        return float("nan")


def of(columns: Mapping[str, np.ndarray], number: int) -> dict[str, float | str]:
    """Returns the numbers of one region, empty if there is none."""
    return {
        name: float(values[number]) if np.isfinite(values[number]) else "" for name, values in columns.items()
    }


def report(folder: Path) -> Mapping[str, str]:
    """Plots the figure, and returns the tables by name."""
    rows = common.read(folder / "results" / "regions.csv")
    names = list(dict.fromkeys(row["set"] for row in rows))
    plot(rows, names, folder / "visual_assessment.png")
    cases = [(name, version) for name in names for version in dict.fromkeys(row["version"] for row in rows)]
    found = {}
    for table, beyond in (("regions", False), ("beyond", True)):
        body = []
        for case in cases:
            chosen = [row for row in rows if (row["set"], row["version"]) == case]
            numbers = [str(association(chosen, metric, beyond)) for metric in METRICS]
            body.append([*case, *numbers, len(chosen)])
        found[table] = common.table(["set", "version", *NAMES.values(), "regions"], body)
    return found


def association(rows: Sequence[Mapping[str, str]], metric: str, beyond: bool = False) -> Any:
    """Returns the rank correlation of standard deviation and badness over regions, with its interval.

    Args:
        rows: Rows of the regions.
        metric: Name of the metric; its sign is reversed if higher is better.
        beyond: Whether the effect of the brightness of a region is removed.
    """
    having = [row for row in rows if row[metric]]
    if len(having) < 4:
        return ""
    std, bad, bright = (
        np.array([float(row[column]) for row in having]) for column in ("std", metric, "brightness")
    )
    columns = (std, METRICS[metric] * bad, *([bright] if beyond else []))
    fields = [row["field"] or row["image"] for row in having]
    return over_images(partial_spearman if beyond else spearman, columns, fields)


def plot(rows: Sequence[Mapping[str, str]], names: Sequence[str], path: Path) -> None:
    """Plots metrics of the average against the standard deviation of the samples, region by region."""
    figure, axes = pyplot.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
    for axis, metric in zip(axes, ("lpips", "ms_ssim", "resolution", "rmse"), strict=True):
        for colour, name in enumerate(names):
            chosen = [r for r in rows if (r["set"], r["version"]) == (name, "average") and r[metric]]
            points = [[float(row[column]) for row in chosen] for column in ("std", metric)]
            axis.plot(*points, "o", markersize=3, alpha=0.6, color=f"C{colour}", label=name)
        axis.set(xscale="log", xlabel="standard deviation of the samples", title=NAMES[metric])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].legend(fontsize=7, bbox_to_anchor=(1.02, 1), loc="upper left")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    common.run("visual_assessment", SIZES, measure, report)
