"""Compares the paper's tables with the benchmark's, and measures what each quirk of the released code costs.

python -m experiments.paper_table.run --size small
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from scipy.stats import spearmanr

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)

from experiments import common  # noqa: E402

#: The paper's tables as data: number of the table, set, method, metric, median over the test patches.
PAPER = Path(__file__).parent / "paper.csv"
METRICS = {
    "mae": "MAE ↓",
    "psnr": "PSNR (dB) ↑",
    "ms_ssim": "MS-SSIM ↑",
    "lpips": "LPIPS ↓",
    "nrmse": "NRMSE ↓",
    "pearson": "Pearson ↑",
    "resolution_nm": "resolution (nm)",
    "resolution_ratio": "ratio to the target's",
}
#: Rows of the benchmark that correspond to the paper's methods.
ROWS = {
    "raw": "raw",
    "noise2void": "noise2void",
    "pix2pix": "pix2pix, one sample",
    "unet_rcan": "unet_rcan",
    "care": "care",
    "ddpm": "ddpm, one sample",
    "ddpm_average": "ddpm, average of 15",
}
#: Why the benchmark has other images. A set of the paper's own images is called PUBLISHED + name.
PUBLISHED = "published_"
WHY = {
    "microtubules": "the published images have to be downloaded, and their test patches are not the 265 of the paper",
    "mitochondria": "the published images have to be downloaded",
    "synapses": "no public address of the training volumes is known",
    "zebrafish": "the published images have to be downloaded, and which field the paper tests is not said",
}
#: How the released code and the paper differ from this project's default, one by one.
RELEASE = {
    "learning rate as a saw tooth": ["model/lr_schedule=saw_tooth"],
    "no augmentation": ["data.augment=false"],
    "no shuffling": ["data.shuffle=false"],
    "no average of the weights": ["callbacks.ema=null"],
    "no clipping of gradients": ["trainer.gradient_clip_val=null"],
}
DESIGN = {
    "predicts the noise, not v": ["model.objective.name=epsilon"],
    "conditioned on ᾱ, not log SNR": ["model.label=alpha_bar"],
    "learning rate 2e-4, not 5e-3": ["model.optimizer.lr=2e-4"],
    "one range for low and high images": [
        "data/normalisation=fixed",
        "data.normalisation.input.high=64",
        "data.normalisation.target.high=64",
    ],
}
DEFAULT, RELEASED, PAPERS, BOTH = (
    "our default",
    "all five of the release",
    "all four of the paper",
    "all nine",
)
SPECIMEN = "microtubules"
SIZES = {
    "small": {
        "images": 6,
        "side": 192,
        "steps": 640,
        # Forty epochs: one period of the saw tooth, which the release steps once an epoch.
        "data": ["data.counts={train:32,val:16,test:2}", "data.size=192", "data.crops_per_image=4"],
        "network": [],
    },
    "full": {
        "images": 64,
        "side": 256,
        "steps": 25440,
        "data": ["data.counts={train:1272,val:89,test:2}", "data.size=256", "data.crop=128"],
        "network": [
            "model.network.base=64",
            "model.network.multipliers=[1,2,4,8]",
            "model.network.blocks=2",
            "model.network.attention_levels=[3]",
            "model.network.bottleneck_attention=true",
            "model.network.dropout=0.2",
            "model.network.patch=1",
        ],
    },
}


def variants() -> dict[str, list[str]]:
    """Returns overrides of ``train`` by the name of the variant: each quirk alone, and all of a kind together."""
    release, design = ([one for chosen in kind.values() for one in chosen] for kind in (RELEASE, DESIGN))
    together = {RELEASED: release, PAPERS: design, BOTH: [*release, *design]}
    return {DEFAULT: [], **RELEASE, **DESIGN, **together}


def measure(options: common.Options) -> None:
    """Copies the benchmark's numbers under the paper's protocol, and adds a row for each variant and image."""
    options.work.mkdir(parents=True, exist_ok=True)
    copy_benchmark(options.benchmark, options.work / "benchmark.csv")
    size, names = options.size, {name: f"variant_{number}" for number, name in enumerate(variants())}
    training = [f"budget.steps={size['steps']}"]
    for name, overrides in variants().items():
        listed = ",".join(f'"{one}"' for one in ["model=ddpm_small", *size["network"], *overrides])
        training.append(f"+methods.{names[name]}={{train:[{listed}],budget:1}}")
    sets = {
        f"{SPECIMEN}_quirks": [
            f"data=simulated_{SPECIMEN}",
            *size["data"],
            "data.cache=${folder}/simulated",
        ]
    }
    asked = replace(options, training=[*options.training, *training])
    found = common.checkpoints(asked, sets, list(names.values()))
    source = common.simulated(SPECIMEN, size["images"], size["side"])
    models = {name: common.loaded(options, found[f"{SPECIMEN}_quirks", key]) for name, key in names.items()}
    known = {name: restorer.trained.sha256 for name, restorer in models.items()}
    rows = common.Rows(options.work / "quirks.csv", {**size, "models": known}, ("variant", "set", "image"))
    for pair in common.evenly_spaced(source, size["images"]):
        for name, restorer in models.items():
            about = {"variant": name, "set": SPECIMEN, "image": pair.name}
            if rows.has(**about):
                continue
            restored = restorer.restore(pair.low, image=pair.name).mean
            rows.add([{**about, "field": pair.field, **common.scores_of(restored, pair, options.lpips)}])


def copy_benchmark(table: Path, path: Path) -> None:
    """Copies the rows of the benchmark that have a counterpart in the paper, if the benchmark is there."""
    rows = common.read(table) if table.is_file() else []
    columns = ["set", "row", "metric", "median", "low", "high", "images"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row for row in rows if row["protocol"] == "paper" and row["row"] in ROWS.values())


def report(folder: Path) -> Mapping[str, str]:
    """Plots the figure, and returns the tables by name."""
    paper = common.read(PAPER)
    ours = {(r["set"], r["row"], r["metric"]): r for r in common.read(folder / "results" / "benchmark.csv")}
    quirks = common.read(folder / "results" / "quirks.csv")
    plot(quirks, folder / "quirks.png")
    sets = list(dict.fromkeys(row["set"] for row in paper))
    return {
        "paper": beside(paper, ours),
        "sets": common.table(
            ["set", "numbers of ours beside the paper's"],
            [[name, "yes" if has(ours, PUBLISHED + name) else f"no: {WHY[name]}"] for name in sets],
        ),
        "order": common.table(
            ["set", "metric", "rank correlation of the methods", "best in the paper", "best in ours"],
            [line for name in sets for line in order(paper, ours, name)],
        ),
        "quirks": common.table(
            ["trained with", "PSNR (dB)", "against our default (dB)", "in MS-SSIM", "in LPIPS"],
            [cost(quirks, name) for name in dict.fromkeys(row["variant"] for row in quirks)],
        ),
    }


def has(ours: Mapping[tuple[str, str, str], Mapping[str, str]], name: str) -> bool:
    """Returns whether the benchmark has a set."""
    return any(place == name for place, *_ in ours)


def beside(paper: Sequence[Mapping[str, str]], ours: Mapping[tuple[str, str, str], Mapping[str, str]]) -> str:
    """Returns the paper's numbers, each with ours after a slash where the images are the same."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in paper:
        key = PUBLISHED + row["set"], ROWS.get(row["method"], ""), row["metric"]
        text = row["median"]
        if key in ours:
            text += " / {median} ({low} to {high})".format(**ours[key])
        line = lines.setdefault((row["set"], row["method"]), {"tables": ""})
        line[row["metric"]] = text
        if row["table"] not in line["tables"].split(", "):
            line["tables"] = ", ".join(filter(None, [line["tables"], row["table"]]))
    # All tables of a set follow each other.
    sets = list(dict.fromkeys(row["set"] for row in paper))
    body = [
        [name, method, line["tables"], *(line.get(metric, "") for metric in METRICS)]
        for name in sets
        for (place, method), line in lines.items()
        if place == name
    ]
    return common.table(["set", "method", "the paper's tables", *METRICS.values()], body)


def order(
    paper: Sequence[Mapping[str, str]],
    ours: Mapping[tuple[str, str, str], Mapping[str, str]],
    name: str,
) -> list[list[str]]:
    """Returns for each metric whether the methods come in the paper's order on the benchmark's set of that name.

    Where the images are not the same, this is what can be compared.
    """
    of = PUBLISHED + name if has(ours, PUBLISHED + name) else name
    found = []
    for metric in ("psnr", "ms_ssim", "lpips", "pearson"):
        theirs = {r["method"]: float(r["median"]) for r in paper if (r["set"], r["metric"]) == (name, metric)}
        both = [m for m in theirs if m in ROWS and (of, ROWS[m], metric) in ours]
        if len(both) < 3:
            continue
        mine = {method: float(ours[of, ROWS[method], metric]["median"]) for method in both}
        agreement = spearmanr(
            [theirs[method] for method in both], [mine[method] for method in both]
        ).statistic
        best = min if metric == "lpips" else max
        tops = [best(both, key=numbers.__getitem__) for numbers in (theirs, mine)]
        found.append([name, METRICS[metric], f"{agreement:.2f}", *tops])
    return found


def cost(rows: Sequence[Mapping[str, str]], name: str) -> list[str]:
    """Returns the row of a variant: its PSNR, and its differences from the default on the same images."""
    chosen, default = ([row for row in rows if row["variant"] == of] for of in (name, DEFAULT))
    if name == DEFAULT:
        return [name, common.mean(chosen, "psnr"), "", "", ""]
    changes = [
        common.mean(common.differences(chosen, default, metric), "difference", digits)
        for metric, digits in (("psnr", 2), ("ms_ssim", 4), ("lpips", 3))
    ]
    return [name, common.mean(chosen, "psnr"), *changes]


def plot(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Plots what each quirk does to the PSNR, image by image."""
    default = [row for row in rows if row["variant"] == DEFAULT]
    names = [name for name in dict.fromkeys(row["variant"] for row in rows) if name != DEFAULT]
    figure, axis = pyplot.subplots(figsize=(7, 0.6 + 0.32 * len(names)), layout="constrained")
    for place, name in enumerate(names):
        found = common.differences([row for row in rows if row["variant"] == name], default)
        values = [float(row["difference"]) for row in found]
        axis.barh(place, np.mean(values), color="0.8")
        axis.plot(values, [place] * len(values), "k.", markersize=3)
    axis.axvline(0, color="k", linewidth=0.8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel(f"PSNR against {DEFAULT} (dB); a dot for each image")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    common.run("paper_table", SIZES, measure, report)
