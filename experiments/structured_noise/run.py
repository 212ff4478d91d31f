"""Scores methods on structured noise: trained without that noise, and with it.

python -m experiments.structured_noise.run --size small
"""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)

from experiments import common  # noqa: E402

#: Noise of a photomultiplier alone: Poisson, excess and read noise.
PLAIN = "Poisson-Gaussian"
_CAMERA = "data.degradations.camera_pattern.camera"
#: Degradations of low images on top of it; a photon makes 12 grey values, the offset is 20.
NOISES = {
    PLAIN: [],
    "line noise": [
        "data/degradations=[line_noise]",
        "data.degradations.line_noise.sigma=6",
        "data.degradations.line_noise.drift=3",
    ],
    "correlated noise": ["data/degradations=[crosstalk]", "data.degradations.crosstalk.sigma=1"],
    "scan jitter": [
        "data/degradations=[scan_jitter]",
        "data.degradations.scan_jitter.sigma=1",
        "data.degradations.scan_jitter.bidirectional=1",
    ],
    "sCMOS": [
        "data/degradations=[camera_pattern]",
        f"+{_CAMERA}._target_=ddpm_lightning.simulation.detector.Scmos",
        *(f"+{_CAMERA}.{key}" for key in ("gain=12", "gain_sd=0.05", "offset_sd=6", "read_noise=0.5")),
    ],
}
#: Side of all images: it determines the fixed pattern of the simulated sCMOS camera.
SIDE = 192
_STRUCT = (
    '+methods.struct_n2v={train:["model=struct_n2v","model.network.depth=4","model.percent=1.5",'
    '"model/lr_schedule=cosine","model.optimizer.lr=1e-3"],budget:1}'
)
SIZES = {
    "small": {
        "images": 6,
        "specimens": ["zebrafish"],
        "methods": ["gaussian", "noise2void", "ddpm", "regression", "residual_flow"],
        "presets": {"ddpm": "fast"},
    },
    "full": {
        "images": 64,
        "specimens": ["zebrafish", "synapses"],
        "methods": [
            *("gaussian", "noise2void", "struct_n2v", "care", "unet_rcan", "pix2pix"),
            *("ddpm", "regression", "pmrf", "residual_flow"),
        ],
        "benchmark": [_STRUCT],
    },
}
RIGHT, WRONG = "the noise of the test", PLAIN


def measure(options: common.Options) -> None:
    """Adds a row for each model and image."""
    kinds = {
        (specimen, noise): common.set_of(specimen, *overrides)
        for specimen in options.size["specimens"]
        for noise, overrides in NOISES.items()
    }
    names = {kind: _name(*kind) for kind in kinds}
    sets = {names[kind]: overrides for kind, overrides in kinds.items()}
    found = common.checkpoints(options, sets, options.size["methods"])
    models = {key: common.loaded(options, path, key[1]) for key, path in found.items()}
    shipped = common.loaded(options, options.model)
    known = {" ".join(key): restorer.trained.sha256 for key, restorer in models.items()}
    settings = {**options.size, "models": known, "shipped": shipped.trained.sha256, "sets": sets}
    rows = common.Rows(options.work / "structured_noise.csv", settings, ("trained", "method", "set", "image"))
    for (specimen, noise), overrides in kinds.items():
        answers = {("", "raw"): None, ("", "shipped model"): shipped}
        for method in options.size["methods"]:
            answers[WRONG, method] = models[names[specimen, PLAIN], method]
            if noise != PLAIN:
                answers[RIGHT, method] = models[names[specimen, noise], method]
        for pair in common.evenly_spaced(
            common.pairs_of(overrides, options.size["images"], SIDE), options.size["images"]
        ):
            for (trained, method), restorer in answers.items():
                image = f"{specimen} {pair.name}"
                about = {"trained": trained, "method": method, "set": noise, "image": image}
                if rows.has(**about):
                    continue
                restored = pair.low if restorer is None else restorer.restore(pair.low, image=image).mean
                rows.add([{**about, "field": image, **common.scores_of(restored, pair, options.lpips)}])


def _name(specimen: str, noise: str) -> str:
    return f"{specimen}_image" + ("" if noise == PLAIN else f"_{noise.replace(' ', '_')}")


def report(folder: Path) -> Mapping[str, str]:
    """Plots the figure, and returns the tables by name."""
    cells: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in common.read(folder / "results" / "structured_noise.csv"):
        cells.setdefault((row["trained"], row["method"], row["set"]), []).append(row)
    methods = list(dict.fromkeys(method for trained, method, _ in cells if trained))
    noises = [noise for noise in dict.fromkeys(noise for *_, noise in cells) if noise != PLAIN]
    plot(cells, noises, methods, folder / "structured_noise.png")
    scores = [
        [method, *(common.mean(cells[trained, method, noise], "psnr") for noise in [PLAIN, *noises])]
        for trained, method in [("", "raw"), ("", "shipped model"), *((WRONG, method) for method in methods)]
    ]
    scores += [
        [
            f"{method}, trained on that noise",
            "",
            *(common.mean(cells[RIGHT, method, n], "psnr") for n in noises),
        ]
        for method in methods
    ]
    return {
        "scores": common.table(["method", PLAIN, *noises], scores),
        "mismatch": common.table(
            [
                "method",
                "noise",
                "lost to the noise (dB)",
                "lost to the wrong training (dB)",
                "the same in MS-SSIM",
            ],
            [[method, noise, *lost(cells, method, noise)] for noise in noises for method in methods],
        ),
    }


def lost(
    cells: Mapping[tuple[str, str, str], list[dict[str, str]]], method: str, noise: str
) -> tuple[str, str, str]:
    """Returns what no training brings back, and what training on plain noise costs beyond, in PSNR and in MS-SSIM."""
    right, wrong = cells[RIGHT, method, noise], cells[WRONG, method, noise]
    # The specimens of all noises are the same ones, so that images are compared with themselves.
    plain = [row | {"set": noise} for row in cells[WRONG, method, PLAIN]]
    return (
        common.mean(common.differences(plain, right), "difference"),
        common.mean(common.differences(right, wrong), "difference"),
        common.mean(common.differences(right, wrong, "ms_ssim"), "difference", 4),
    )


def plot(
    cells: Mapping[tuple[str, str, str], list[dict[str, str]]],
    noises: list[str],
    methods: list[str],
    path: Path,
) -> None:
    """Plots the PSNR of both trainings of each method, noise by noise."""

    def level(trained: str, method: str, noise: str) -> float:
        return float(np.mean([float(row["psnr"]) for row in cells[trained, method, noise]]))

    figure, axes = pyplot.subplots(
        1, len(noises), figsize=(2.4 * len(noises), 3.5), layout="constrained", sharey=True, squeeze=False
    )
    places = np.arange(len(methods))
    for axis, noise in zip(axes[0], noises, strict=True):
        for shift, trained, colour in ((-0.2, WRONG, "C1"), (0.2, RIGHT, "C0")):
            levels = [level(trained, method, noise) for method in methods]
            axis.bar(places + shift, levels, 0.4, color=colour, label=f"trained on {trained}")
        axis.plot(
            places, [level(WRONG, m, PLAIN) for m in methods], "k_", markersize=12, label=f"{PLAIN} alone"
        )
        axis.axhline(level("", "raw", noise), color="0.5", linewidth=1, linestyle=":", label="raw")
        axis.set_xticks(places, methods, rotation=60, ha="right", fontsize=7)
        axis.set_title(noise, fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    lowest = min(level(*cell) for cell in cells)
    axes[0, 0].set(ylabel="PSNR (dB)", ylim=(lowest - 1, None))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    common.run("structured_noise", SIZES, measure, report)
