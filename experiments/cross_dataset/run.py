"""Scores methods trained on each simulated set on every other one, and on real pairs that none was trained on.

python -m experiments.cross_dataset.run --size small --pairs DIR…
"""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)

from ddpm_lightning.data.pairs import Pair  # noqa: E402
from ddpm_lightning.inference.restorer import Restorer  # noqa: E402
from experiments import common  # noqa: E402

SIZES = {
    "small": {
        "images": 6,
        "side": 192,
        "methods": ["gaussian", "care", "ddpm", "regression", "residual_flow"],
        "presets": {"ddpm": "fast"},
    },
    "full": {
        "images": 64,
        "side": 256,
        "methods": [
            *("gaussian", "noise2void", "care", "unet_rcan", "pix2pix"),
            *("ddpm", "regression", "pmrf", "residual_flow"),
        ],
    },
}
#: What the shipped model was trained on.
ALL = "all four"
SHIPPED = "shipped model"
Row = Mapping[str, str]


def measure(options: common.Options) -> None:
    """Adds a row for each model and image."""
    sets = {f"{name}_image": common.set_of(name) for name in common.SPECIMENS}
    found = common.checkpoints(options, sets, options.size["methods"])
    models = {
        (name.removesuffix("_image"), method): common.loaded(options, path, method)
        for (name, method), path in found.items()
    }
    models[ALL, SHIPPED] = common.loaded(options, options.model)
    tests = common.test_sets(options)
    known = {" ".join(key): restorer.trained.sha256 for key, restorer in models.items()}
    settings = {**options.size, "models": known, "sets": list(tests)}
    rows = common.Rows(options.work / "cross_dataset.csv", settings, ("trained", "method", "set", "image"))
    for name, source in tests.items():
        for pair in common.evenly_spaced(source, options.size["images"]):
            for (trained, method), restorer in [(("", "raw"), None), *models.items()]:
                about = {"trained": trained, "method": method, "set": name, "image": pair.name}
                if rows.has(**about):
                    continue
                restored = pair.low if restorer is None else restorer.restore(pair.low, image=pair.name).mean
                scores = common.scores_of(restored, pair, options.lpips)
                said = "" if restorer is None else warned(restorer, pair)
                rows.add([{**about, "field": pair.field, **scores, "warnings": said}])


def warned(restorer: Restorer, pair: Pair) -> str:
    """Returns the kinds of warnings that a user would see at an image."""
    size = (pair.pixel_size, pair.pixel_size) if pair.pixel_size else None
    lines = restorer.shift_check.warnings([restorer.shift_check.describe(pair.low)], size)
    return ";".join(line.partition(":")[0] for line in lines)


def report(folder: Path) -> Mapping[str, str]:
    """Plots the figure, and returns the tables by name."""
    cells: dict[tuple[str, str, str], list[Row]] = {}
    for row in common.read(folder / "results" / "cross_dataset.csv"):
        cells.setdefault((row["trained"], row["method"], row["set"]), []).append(row)
    tests, methods = (list(dict.fromkeys(key[place] for key in cells)) for place in (2, 1))
    trained_methods = [method for method in methods if method != "raw"]
    models = [(method, trained) for method in trained_methods for trained in trainings(cells, method)]
    plot(cells, tests, trained_methods, folder / "cross_dataset.png")
    scores = [
        [method, trained, *(shown(cells, trained, method, name) for name in tests)]
        for method, trained in [("raw", ""), *models]
    ]
    return {
        "scores": common.table(["method", "trained on", *(f"{name} (dB)" for name in tests)], scores),
        "transfer": common.table(
            [
                "method",
                "above raw, own set (dB)",
                "above raw, other simulated sets (dB)",
                "other sets, against the same method trained there (dB)",
                "other sets below the blur fitted there",
                "above raw, real sets (dB)",
            ],
            [transfer(cells, method) for method in trained_methods],
        ),
        "warnings": common.table(
            [
                "trained on",
                "files with a warning: own set",
                "other simulated sets",
                "the same, including pixel size",
                "real sets",
                "reasons on other and real sets",
                "with a warning, against the same method trained there (dB)",
                "without a warning (dB)",
            ],
            [warnings(cells, trained, trained_methods) for trained in trainings(cells)],
        ),
    }


def trainings(cells: Mapping[tuple[str, str, str], list[Row]], method: str | None = None) -> list[str]:
    """Returns what was trained on, in order, by any method or one."""
    return list(dict.fromkeys(t for t, m, _ in cells if t and method in (None, m)))


def own(trained: str, name: str) -> bool:
    """Returns whether a model has seen a set of that kind."""
    return name in common.SPECIMENS and trained in (name, ALL)


def shown(cells: Mapping[tuple[str, str, str], list[Row]], trained: str, method: str, name: str) -> str:
    """Returns the mean PSNR for the table, bold if the model was trained on the set."""
    text = common.mean(cells[trained, method, name], "psnr")
    return f"**{text}**" if own(trained, name) else text


def split(
    cells: Mapping[tuple[str, str, str], list[Row]], method: str, trained: str | None = None
) -> tuple[list[Row], list[Row], list[Row]]:
    """Returns the rows of a method on its own sets, on other simulated ones, and on real ones."""
    parts: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    for (origin, other, name), rows in cells.items():
        if other == method and trained in (None, origin):
            parts[2 if name not in common.SPECIMENS else 0 if own(origin, name) else 1].extend(rows)
    return parts


def transfer(cells: Mapping[tuple[str, str, str], list[Row]], method: str) -> list[str]:
    """Returns the row of a method: its gain on sets that it was trained on and on others."""
    raw = list(chain.from_iterable(split(cells, "raw")))
    parts = split(cells, method)
    gains = [common.mean(common.differences(part, raw), "difference") for part in parts]
    change = common.mean(common.differences(parts[1], like(cells, method, parts[1])), "difference")
    others = [
        key for key in cells if key[1] == method and key[2] in common.SPECIMENS and not own(key[0], key[2])
    ]
    below = sum(level(cells[key]) < level(cells[key[2], "gaussian", key[2]]) for key in others)
    return [method, *gains[:2], change, f"{below} of {len(others)}" if others else "", gains[2]]


def like(cells: Mapping[tuple[str, str, str], list[Row]], method: str, rows: list[Row]) -> list[Row]:
    """Returns the rows of the same method trained on the sets of these rows."""
    return [row for name in dict.fromkeys(row["set"] for row in rows) for row in cells[name, method, name]]


def level(rows: list[Row]) -> float:
    """Returns the mean PSNR."""
    return float(np.mean([float(row["psnr"]) for row in rows]))


def warnings(cells: Mapping[tuple[str, str, str], list[Row]], trained: str, methods: list[str]) -> list[str]:
    """Returns the row of a training: how many files cause a warning, and whether these are the ones that suffer.

    What is known of the training images is the same for all methods: files are counted for the last one.
    """
    method = [method for method in methods if (trained, method, common.SPECIMENS[0]) in cells][-1]
    mine, others, real = split(cells, method, trained)
    reasons = [kind for row in others + real for kind in by_content(row)]
    most = sorted(set(reasons), key=lambda kind: (-reasons.count(kind), kind))
    changes = []
    for expected in (True, False):
        chosen = [row for row in others if bool(by_content(row)) is expected]
        changes.append(common.mean(common.differences(chosen, like(cells, method, chosen)), "difference"))
    every = count_of([bool(row["warnings"]) for row in others])
    return [
        trained,
        *(count_of([bool(by_content(row)) for row in part]) for part in (mine, others)),
        every,
        count_of([bool(by_content(row)) for row in real]),
        ", ".join(f"{kind} {reasons.count(kind)}" for kind in most),
        *changes,
    ]


def by_content(row: Row) -> list[str]:
    """Returns the warnings about the image itself: the pixel size alone distinguishes the simulated sets."""
    return [kind for kind in row["warnings"].split(";") if kind and kind != "pixel size"]


def count_of(those: list[bool]) -> str:
    """Returns ``N of M``, or nothing for an empty list."""
    return f"{sum(those)} of {len(those)}" if those else ""


def plot(
    cells: Mapping[tuple[str, str, str], list[Row]], tests: list[str], methods: list[str], path: Path
) -> None:
    """Plots for each method what it gains over the raw image, by training set and test set."""
    lines = -(-len(methods) // 3)
    figure, axes = pyplot.subplots(
        lines, 3, figsize=(9.5, 2.4 * lines), layout="constrained", squeeze=False, sharex=True
    )
    gains = {
        method: np.array(
            [
                [level(cells[trained, method, name]) - level(cells["", "raw", name]) for name in tests]
                for trained in trainings(cells, method)
            ]
        )
        for method in methods
    }
    most = max(float(np.abs(gain).max()) for gain in gains.values())
    for axis in axes.flat[len(methods) :]:
        axis.set_axis_off()
    for axis, (method, gain) in zip(axes.flat, gains.items(), strict=False):
        image = axis.imshow(gain, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
        axis.set_xticks(range(len(tests)), tests, rotation=60, ha="right", fontsize=7)
        axis.set_yticks(range(len(gain)), trainings(cells, method), fontsize=7)
        axis.set_title(method, fontsize=9)
        for (row, column), value in np.ndenumerate(gain):
            colour = "white" if abs(value) > 0.6 * most else "black"
            axis.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=6, color=colour)
    for axis in axes[:, 0]:
        axis.set_ylabel("trained on")
    figure.colorbar(image, ax=axes, label="PSNR above raw (dB)", shrink=0.8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    common.run("cross_dataset", SIZES, measure, report)
