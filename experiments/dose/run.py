"""Scores methods at several photon doses, and computes how much light each saves.

python -m experiments.dose.run --size small
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)

from ddpm_lightning.datasets.simulated import SimulatedPairs  # noqa: E402
from ddpm_lightning.evaluation.statistics import ALPHA, bootstrap  # noqa: E402
from ddpm_lightning.models.classical import FILTERS, affine_error  # noqa: E402
from experiments import common  # noqa: E402

#: Photons of the low image, relative to those of the simulated set.
DOSES = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
#: Doses whose quality is to be reached with less light.
REFERENCES = [2.0, 8.0]
BLUR = "blur fitted to the dose"
STRENGTHS = [0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6]
SIZES = {
    "small": {
        "images": 6,
        "side": 192,
        "specimens": ["microtubules", "zebrafish"],
        "methods": ["noise2void", "ddpm", "regression", "residual_flow"],
        "presets": {"ddpm": "fast"},
    },
    "full": {
        "images": 64,
        "side": 256,
        "specimens": list(common.SPECIMENS),
        "methods": [
            *("noise2void", "care", "unet_rcan", "pix2pix"),
            *("ddpm", "regression", "pmrf", "residual_flow"),
        ],
    },
}
Curve = Mapping[float, Mapping[str, float]]


def measure(options: common.Options) -> None:
    """Adds a row for each method, dose and image."""
    images, side = options.size["images"], options.size["side"]
    sets = {f"{name}_doses": all_doses(name) for name in options.size["specimens"]}
    found = common.checkpoints(options, sets, options.size["methods"])
    models = {key: common.loaded(options, path, key[1]) for key, path in found.items()}
    shipped = common.loaded(options, options.model)
    known = {" ".join(key): restorer.trained.sha256 for key, restorer in models.items()}
    settings = {**options.size, "models": known, "shipped": shipped.trained.sha256, "doses": DOSES}
    rows = common.Rows(options.work / "dose.csv", settings, ("specimen", "method", "dose", "image"))
    for specimen in options.size["specimens"]:
        answers = {"raw": None, BLUR: None, "shipped model": shipped}
        answers |= {method: models[f"{specimen}_doses", method] for method in options.size["methods"]}
        for dose in DOSES:
            source = common.simulated(specimen, images, side, dose=dose)
            width = blur_of(specimen, side, dose)
            for pair in common.evenly_spaced(source, images):
                for method, restorer in answers.items():
                    about = {"specimen": specimen, "method": method, "dose": f"{dose:g}", "image": pair.name}
                    if rows.has(**about):
                        continue
                    if restorer is not None:
                        restored = restorer.restore(pair.low, image=pair.name).mean
                    else:
                        restored = blurred(pair.low, width) if method == BLUR else pair.low
                    scores = common.scores_of(restored, pair, options.lpips)
                    rows.add([{**about, "field": pair.field, **scores}])


def all_doses(specimen: str) -> list[str]:
    """Returns overrides of ``train`` for a simulated set at all doses."""
    count = len(DOSES)
    return [
        "data=simulated_mixture",
        f"data.specimens=[{specimen}]",
        f"data.doses=[{','.join(f'{dose:g}' for dose in DOSES)}]",
        f"data.counts={{train:{24 * count},val:{3 * count},test:{count}}}",
        "data.size=192",
        "data.cache=${folder}/simulated",
    ]


def blurred(image: np.ndarray, width: float) -> np.ndarray:
    """Returns an image after a Gaussian blur of a standard deviation in pixels."""
    return FILTERS["gaussian"](image.astype(np.float32), width)


def blur_of(specimen: str, side: int, dose: float) -> float:
    """Returns the blur with the least error after gain and offset are fitted, on images that are not tested."""
    source = SimulatedPairs(specimen, "val", 4, side, seed=common.DATASET_SEED, dose=dose, extras=False)
    pairs = [source[index] for index in range(len(source))]
    high = torch.from_numpy(np.stack([pair.high for pair in pairs]).astype(np.float32))[:, None]
    errors = []
    for width in STRENGTHS:
        images = np.stack([blurred(pair.low, width) for pair in pairs])
        errors.append(
            float((affine_error(torch.from_numpy(images)[:, None], high) / high.var((1, 2, 3))).mean())
        )
    return STRENGTHS[int(np.argmin(errors))]


def report(folder: Path) -> Mapping[str, str]:
    """Plots the figure, and returns the tables by name."""
    rows = common.read(folder / "results" / "dose.csv")
    specimens, methods = (
        list(dict.fromkeys(row[column] for row in rows)) for column in ("specimen", "method")
    )
    chosen: dict[tuple[str, str, float], list[dict[str, str]]] = {}
    for row in rows:
        chosen.setdefault((row["specimen"], row["method"], float(row["dose"])), []).append(row)
    curves = {
        (specimen, method): {
            dose: {row["image"]: float(row["psnr"]) for row in chosen[specimen, method, dose]}
            for dose in DOSES
        }
        for specimen in specimens
        for method in methods
    }
    plot(curves, specimens, methods, folder / "dose.png")
    scores = [
        [specimen, method, *(common.mean(chosen[specimen, method, dose], "psnr") for dose in DOSES)]
        for specimen in specimens
        for method in methods
    ]
    saved = [
        [
            specimen,
            method,
            *(
                saving(curves[specimen, method], curves[specimen, base], dose)
                for base in ("raw", BLUR)
                for dose in REFERENCES
            ),
        ]
        for specimen in specimens
        for method in methods
        if method not in ("raw", BLUR)
    ]
    targets = [f"as good as {base} at dose {dose:g}" for base in ("raw", "the blur") for dose in REFERENCES]
    return {
        "scores": common.table(["set", "method", *(f"dose {dose:g}" for dose in DOSES)], scores),
        "saving": common.table(["set", "method", *targets], saved),
    }


def saving(method: Curve, base: Curve, dose: float) -> str:
    """Says how many times less light a method needs than another takes for its quality, with a 95 % interval.

    Mean PSNR over log dose is interpolated linearly. The interval is a bootstrap over images, the same for both curves.

    Args:
        method: PSNR by dose and image.
        base: The same of what it is compared with.
        dose: Dose of what it is compared with.
    """
    images = list(method[DOSES[0]])
    if len(images) < 2:
        found = times_less([of[images[0]] for of in method.values()], base[dose][images[0]], dose)
        return written(found, dose)
    curve = np.stack([resampled(method[at], images) for at in DOSES], axis=1)
    samples = [
        times_less(resample, target, dose)
        for resample, target in zip(curve, resampled(base[dose], images), strict=True)
    ]
    levels = [np.mean(list(method[at].values())) for at in DOSES]
    found = times_less(levels, np.mean(list(base[dose].values())), dose)
    # Bounds may be infinite, between which nothing can be interpolated.
    low, high = np.quantile(samples, (ALPHA / 2, 1 - ALPHA / 2), method="nearest")
    return "{} ({} to {})".format(*(written(ratio, dose) for ratio in (found, low, high)))


def resampled(values: Mapping[str, float], images: Sequence[str]) -> np.ndarray:
    """Returns means over resampled images, the same images for all values, with shape (resamples,)."""
    return bootstrap([values[image] for image in images], images, "mean")


def times_less(curve: Sequence[float], target: float, dose: float) -> float:
    """Returns the ratio of a dose to the one at which a curve reaches a PSNR.

    Args:
        curve: Mean PSNR at each of ``DOSES``.
        target: PSNR to be reached.
        dose: Dose at which something else reaches it.

    Returns:
        The ratio; infinite where the least dose is more than enough, 0 where the greatest does not suffice.
    """
    # PSNR cannot fall with more light: decreases, which are noise of the estimate, are levelled.
    rising = np.maximum.accumulate(np.asarray(curve, np.float64))
    if target < rising[0]:
        return float("inf")
    if target > rising[-1]:
        return 0.0
    reached = int(np.searchsorted(rising, target))
    if reached == 0:
        return dose / DOSES[0]
    below, above = rising[reached - 1], rising[reached]
    part = (target - below) / (above - below)
    logs = np.log(DOSES)
    return float(dose / np.exp(logs[reached - 1] + part * (logs[reached] - logs[reached - 1])))


def written(ratio: float, dose: float) -> str:
    """Returns a ratio as text; outside of the measured doses it is a bound."""
    if np.isinf(ratio):
        return f"> {dose / DOSES[0]:g}"
    return f"{ratio:.1f}" if ratio else f"< {dose / DOSES[-1]:g}"


def plot(
    curves: Mapping[tuple[str, str], Curve], specimens: list[str], methods: list[str], path: Path
) -> None:
    """Plots the mean PSNR of each method against the dose."""
    figure, axes = pyplot.subplots(
        1, len(specimens), figsize=(4.2 * len(specimens), 3.8), layout="constrained", squeeze=False
    )
    for axis, specimen in zip(axes[0], specimens, strict=True):
        for method in methods:
            curve = curves[specimen, method]
            levels = [np.mean(list(curve[dose].values())) for dose in DOSES]
            style = {"raw": "k:", BLUR: "k--"}.get(method, "-")
            axis.plot(DOSES, levels, style, marker="o", markersize=3, linewidth=1, label=method)
        axis.set_xscale("log", base=2)
        axis.set(xlabel="photon dose, relative", title=specimen)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("PSNR (dB)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    common.run("dose", SIZES, measure, report)
