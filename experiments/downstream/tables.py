"""From measurements to tables: which method agrees best, which invents, and what the standard deviation means."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from scipy.stats import t as student

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first: there may be no screen)

from experiments import common  # noqa: E402
from experiments.downstream.readout import Readout  # noqa: E402
from experiments.ranks import spearman  # noqa: E402

Rows = Sequence[Mapping[str, str]]
LEVEL = 0.9


def tables(
    found: Mapping[str, Rows],
    samples: Mapping[str, Rows],
    parameters: Mapping[str, str],
    readouts: Mapping[str, Readout],
    figure: Path,
) -> Mapping[str, str]:
    """Returns the tables by name, and draws the figure.

    Args:
        found: What was read from the images of each set.
        samples: What was read from each sample, by set.
        parameters: Parameters of the analysis, by set.
        readouts: The analyses, by set.
        figure: File of the figure.
    """
    result = {}
    for name, rows in found.items():
        measures = [
            m
            for m in dict.fromkeys(row["measure"] for row in rows)
            if m not in ("agreement", "recall", "invented")
        ]
        body = []
        for label, of_label in by_label(rows).items():
            numbers = [
                common.mean(picked(of_label, measure), "value")
                for measure in ("agreement", "recall", "invented")
            ]
            body.append([label, *numbers, *(error(picked(of_label, measure)) for measure in measures)])
        header = [
            "method",
            f"{readouts[name].what} ↑",
            "found ↑",
            "invented ↓",
            *(f"{m}: error" for m in measures),
        ]
        result[name] = f"Parameters: {parameters[name]}.\n\n{common.table(header, body)}"
    result["std"] = common.table(
        [
            "set",
            "measure",
            "method",
            "std",
            "error",
            "std / error",
            f"truth in the {LEVEL:.0%} interval",
        ]
        + ["target's in the interval", "rank correlation of std and error", "images"],
        [[name, readouts[name].sampled, *row] for name, rows in samples.items() for row in deviations(rows)],
    )
    plot(found, samples, readouts, figure)
    return result


def by_label(rows: Rows) -> dict[str, Rows]:
    """Returns the rows by method and version, in the order in which they came."""
    labels = dict.fromkeys((row["method"], row["version"]) for row in rows)
    return {
        f"{method}, {version}" if version else method: [
            r for r in rows if (r["method"], r["version"]) == (method, version)
        ]
        for method, version in labels
    }


def picked(rows: Rows, measure: str) -> Rows:
    """Returns the rows of a measure."""
    return [row for row in rows if row["measure"] == measure]


def error(rows: Rows) -> str:
    """Returns mean absolute error and bias of a measure over images, in percent of its mean truth unless that is 0."""
    known = [row for row in rows if row["value"] and row["truth"]]
    if not known:
        return ""
    value, truth = (np.array([float(row[column]) for row in known]) for column in ("value", "truth"))
    unit, sign = (truth.mean() / 100, " %") if truth.mean() > 0 else (1.0, "")
    bias, size = (value - truth).mean() / unit, np.abs(value - truth).mean() / unit
    return f"{size:.1f}{sign} (bias {bias:+.1f})" if truth.any() else f"{size:.1f}"


def of_images(rows: Rows) -> Iterator[tuple[np.ndarray, float, float]]:
    """Yields the readouts of the samples of each image, the truth, and what is read from the recorded target."""
    for image in dict.fromkeys(row["image"] for row in rows):
        having = [row for row in rows if row["image"] == image and row["value"]]
        if len(having) > 1 and having[0]["truth"]:
            truth, target = (float(having[0][column] or "nan") for column in ("truth", "target"))
            yield np.array([float(row["value"]) for row in having]), truth, target


def deviations(rows: Rows) -> Iterator[list[str]]:
    """Yields, for each method that samples, how the standard deviation of a readout compares with its true error.

    The interval is that of a further sample, m ± t s √(1 + 1/n) with Student's t: if truth and samples have the same
    distribution, it contains the truth as often as stated.
    """
    for method in dict.fromkeys(row["method"] for row in rows):
        images = list(of_images([row for row in rows if row["method"] == method]))
        if not images:
            continue
        mean = np.array([values.mean() for values, _, _ in images])
        factor = np.array([(1 + 1 / len(values)) ** 0.5 for values, _, _ in images])
        std = np.array([values.std(ddof=1) for values, _, _ in images]) * factor
        half = std * [student.ppf((1 + LEVEL) / 2, len(values) - 1) for values, _, _ in images]
        truth, target = (np.array([image[place] for image in images]) for place in (1, 2))
        wrong = np.abs(mean - truth)
        root = np.sqrt(np.mean(wrong**2))
        ratio = np.sqrt(np.mean(std**2)) / root if root > 0 else float("nan")
        yield [
            method,
            f"{np.sqrt(np.mean(std**2)):.3g}",
            f"{root:.3g}",
            f"{ratio:.2f}",
            f"{np.mean(wrong <= half):.2f}",
            f"{np.mean(np.abs(mean - target) <= half):.2f}",
            f"{spearman(std, wrong)[0]:.2f}",
            str(len(images)),
        ]


def plot(
    found: Mapping[str, Rows], samples: Mapping[str, Rows], readouts: Mapping[str, Readout], path: Path
) -> None:
    """Plots agreement and inventions of all methods, and readouts with their standard deviation against the truth."""
    figure, axes = pyplot.subplots(
        2, len(found), figsize=(3.6 * len(found), 6.4), squeeze=False, layout="constrained"
    )
    for (upper, lower), (name, rows) in zip(axes.T, found.items(), strict=True):
        labels = by_label(rows)
        for offset, (measure, colour) in enumerate((("agreement", "C0"), ("invented", "C3"))):
            values = [
                [float(r["value"]) for r in picked(of, measure) if r["value"]] for of in labels.values()
            ]
            heights = [np.mean(v) if v else np.nan for v in values]
            upper.barh(np.arange(len(labels)) + 0.38 * offset, heights, 0.36, color=colour)
        upper.set_yticks(np.arange(len(labels)) + 0.19, list(labels), fontsize=7)
        upper.invert_yaxis()
        upper.set(title=name, xlim=(0, 1), xlabel=f"{readouts[name].what}; red: invented")
        upper.xaxis.label.set_fontsize(7)
        images = list(of_images([row for row in samples[name] if row["method"] == "default"]))
        if images:
            truth = [image[1] for image in images]
            mean, std = ([f(values) for values, _, _ in images] for f in (np.mean, lambda v: v.std(ddof=1)))
            lower.errorbar(
                truth,
                mean,
                std,
                fmt="o",
                markersize=3,
                linewidth=0.8,
                label="samples of the default model",
            )
            lower.plot(truth, [image[2] for image in images], "_", color="0.3", label="recorded target")
            lower.axline((np.mean(truth),) * 2, slope=1, color="0.7", linewidth=0.8, zorder=0)
            lower.legend(fontsize=6)
        lower.set(xlabel=f"{readouts[name].sampled}, truth", ylabel="found")
        for axis in (upper, lower):
            axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
