"""The benchmark as tables: all methods on all sets, with intervals, ranks, costs and significant differences.

Every row is one estimator of a method: the output of a regressor, the average of samples, or one sample. All rows are
compared with a *reference*, the average of ``pmrf`` if it was benchmarked: ▲ marks a row that is significantly
better, ▼ one that is significantly worse, by the tests of ``comparison.py``. The rank of a row is its place among all
rows, averaged over the images and four criteria: PSNR, MS-SSIM, LPIPS and CRPS. NRMSE and Pearson's correlation are
shown, but do not count, because under the protocol ``affine`` they are functions of the PSNR of an image.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ddpm_lightning.benchmark.plots import plot_bars, plot_perception_distortion, write_panel
from ddpm_lightning.benchmark.seeds import HEAD, SeedRow, lines_of, over_seeds, section
from ddpm_lightning.evaluation.comparison import Comparison, Method, compare, read_methods
from ddpm_lightning.evaluation.tables import ARROWS
from ddpm_lightning.utils.atomic import atomic_write, write_text

__all__ = ["Entry", "entries_of", "ranks", "write_benchmark"]

#: Criteria of the rank. In CRPS, rows of samples are scored as a distribution, all others as a prediction of one value.
RANKED = ("psnr", "ms_ssim", "lpips", "crps")
#: Metrics of the tables, and of the plots of bars.
SHOWN = ("psnr", "ms_ssim", "nrmse", "pearson", "lpips", "crps", "energy_score")
METRICS = SHOWN[:5]
REFERENCE = "pmrf"
#: The method that single samples are compared with in LPIPS.
PERCEPTUAL_REFERENCE = "pmrf_realistic"
#: Measures of the standard deviation of the samples: title, and the value of perfect samples.
UNCERTAINTY = {
    "ratio": ("sqrt(b/a): standard deviation over its ideal", "1"),
    "coverage": ("coverage of 90 % intervals", "0.9"),
    "ece": ("expected calibration error", "0"),
    "ence": ("ENCE", "0"),
    "spread_skill": ("spread–skill ratio", "1"),
    "rank_divergence": ("divergence of the rank histogram", "0"),
    "crps": ("CRPS, share of the range", "least"),
    "energy_score": ("energy score, share of the range", "least"),
    "ause": ("AUSE", "0"),
    "spearman": ("rank correlation of standard deviation and error", "most"),
}


@dataclass(frozen=True)
class Entry:
    """A row of the table on one set.

    Attributes:
        name: Name of the row.
        method: Name of the method.
        estimator: ``raw``, ``single`` or ``average``.
        folder: Folder of the evaluation.
        nfe: Network evaluations (NFE) for an image.
        seconds: Seconds for an image of 256 x 256 pixels.
    """

    name: str
    method: str
    estimator: str
    folder: Path
    nfe: int
    seconds: float


def entries_of(records: Sequence[dict[str, Any]]) -> list[Entry]:
    """Returns the rows of one set: the raw image, each method, and single samples of those that sample.

    Args:
        records: Records of the finished jobs of the set, each with its ``folder``.
    """
    averages, singles = [], []
    for record in records:
        place = Path(record["folder"]) / "evaluation"
        summary = _summary(place)
        samples, each = summary["samples"], summary["nfe_per_sample"]
        name = record["method"] + (f", average of {samples}" if samples > 1 else "")
        # One sample that takes several network evaluations is a sample, not a mean.
        kind = "single" if samples == 1 and each > 1 else "average"
        nfe = summary.get("nfe", each * samples)
        first = record["seconds_per_sample"]
        taken = first + (samples - 1) * record.get("seconds_per_further_sample", first)
        common = (record["method"], kind, place, nfe, taken)
        averages.append(Entry(name, *common))
        if samples > 1:
            one = (record["method"], "single", place, each, record["seconds_per_sample"])
            singles.append(Entry(f"{record['method']}, one sample", *one))
    raw = Entry("raw", "raw", "raw", averages[0].folder, 0, 0.0)
    return [raw, *averages, *singles]


def write_benchmark(
    records: Sequence[dict[str, Any]], protocols: Sequence[str], about: Sequence[str], output: Path
) -> None:
    """Writes all tables and figures.

    Args:
        records: Records of finished jobs: set, method, folder, parameters, steps, training, seconds_per_sample.
        protocols: Protocols of the evaluations; the first is that of the main table.
        about: Sentences on how the numbers were made, for the head of the tables.
        output: Folder of the tables.
    """
    first = records[0].get("seed", 0)
    every = {
        name: [record for record in records if record["data"] == name]
        for name in dict.fromkeys(c["data"] for c in records)
    }
    sets = {
        name: [record for record in chosen if record.get("seed", 0) == first]
        for name, chosen in every.items()
    }
    records = [record for chosen in sets.values() for record in chosen]
    entries = {name: entries_of(chosen) for name, chosen in sets.items()}
    numbers: list[list[Any]] = []
    tests: list[list[Any]] = []
    uncertainty: list[list[Any]] = []
    repeated: list[list[Any]] = []
    for protocol in protocols:
        pages, scores = [], []
        for name, rows in entries.items():
            average, sample = _references(rows)
            comparison = _compared(rows, protocol, protocols, average, SHOWN)
            ranked = ranks(comparison)
            pages += _section(name, rows, comparison, ranked, average)
            tests += _tests(name, comparison, average)
            if sample is not None and "lpips" in comparison.metrics:
                in_lpips = _compared(rows, protocol, protocols, sample, ["lpips"])
                pages += [_perceptual_sentence(in_lpips, sample), ""]
                tests += _tests(name, in_lpips, sample)
            if found := _repeated(every[name], _file(protocol, protocols), average):
                pages += section(found, average)
                repeated += [[name, protocol, *line] for line in lines_of(found, average)]
            numbers += _numbers(name, comparison, rows, ranked)
            scores += _scores(name, comparison)
            if protocol == protocols[0]:
                found = _uncertainty_numbers(sets[name])
                pages += _uncertainty_table(found)
                uncertainty += [[name, m, *(v.get(key, "") for key in UNCERTAINTY)] for m, v in found.items()]
                plot_bars(comparison, METRICS, output / "figures" / f"bars_{name}.png", name)
                plot_perception_distortion(comparison, output / "figures" / f"plane_{name}.png", name)
                write_panel(rows, output / "figures" / f"images_{name}.png", name)
        page = [*_head(protocol, about), *_methods(records), *pages]
        file = "table.md" if protocol == protocols[0] else f"table_{protocol}.md"
        write_text(output / file, "\n".join(page) + "\n")
        _csv(output / f"scores_{protocol}.csv", ["set", "row", "image", "field", *SHOWN], scores)
    head = ["set", "row", "protocol", "metric", "median", "low", "high", "mean", "images", "fields", "rank"]
    _csv(output / "table.csv", [*head, "nfe", "seconds"], numbers)
    head = ["set", "protocol", "metric", "row", "reference", "difference", "low", "high", "p", "significant"]
    head += ["p_equivalence", "equivalent"]
    _csv(output / "differences.csv", head, tests)
    _csv(output / "uncertainty.csv", ["set", "row", *UNCERTAINTY], uncertainty)
    if repeated:
        _csv(output / "seeds.csv", ["set", "protocol", *HEAD], repeated)


def _repeated(records: Sequence[dict[str, Any]], file: str, reference: str) -> list[SeedRow]:
    """Returns the rows of one set that were trained with several seeds, over these."""
    seeds = list(dict.fromkeys(record.get("seed", 0) for record in records))
    trained = [
        (seed, entry)
        for seed in seeds
        for entry in entries_of([record for record in records if record.get("seed", 0) == seed])
        if entry.estimator != "raw"
    ]
    names = [entry.name for _, entry in trained]
    trained = [(seed, entry) for seed, entry in trained if names.count(entry.name) > 1]
    if not trained:
        return []
    files = [f"{entry.folder / file}:{entry.estimator}" for _, entry in trained]
    methods = read_methods(files, "average", [f"{entry.name}, seed {seed}" for seed, entry in trained])
    rows: dict[str, list[Method]] = {}
    for (_, entry), method in zip(trained, methods, strict=True):
        rows.setdefault(entry.name, []).append(method)
    return over_seeds(rows, RANKED, reference)


def _file(protocol: str, protocols: Sequence[str]) -> str:
    return "metrics.csv" if protocol == protocols[0] else f"metrics_{protocol}.csv"


def _compared(
    rows: Sequence[Entry], protocol: str, protocols: Sequence[str], reference: str, metrics: Sequence[str]
) -> Comparison:
    files = [f"{row.folder / _file(protocol, protocols)}:{row.estimator}" for row in rows]
    methods = read_methods(files, "average", [row.name for row in rows])
    known = {metric for method in methods for row in method.rows.values() for metric in row.values}
    return compare(methods, [metric for metric in metrics if metric in known], reference)


def _references(rows: Sequence[Entry]) -> tuple[str, str | None]:
    """Returns the names of the rows that others are compared with: in everything, and one sample in LPIPS."""
    own = {row.estimator: row.name for row in rows if row.method == REFERENCE}
    perceptual = next((row.name for row in rows if row.method == PERCEPTUAL_REFERENCE), own.get("single"))
    return own.get("average", rows[-1].name), perceptual


def ranks(comparison: Comparison) -> dict[str, float]:
    """Returns the mean rank of each method over images and the criteria of the rank, 1 the best."""
    places: dict[str, list[float]] = {method.name: [] for method in comparison.methods}
    for metric in (metric for metric in comparison.metrics if metric in RANKED):
        for image in comparison.methods[0].rows:
            values = [method.rows[image].values.get(metric) for method in comparison.methods]
            if None in values:
                continue
            better = np.array(values) * (1 if ARROWS[metric] == "↓" else -1)
            for name, place in zip(places, rankdata(better), strict=True):
                places[name].append(float(place))
    return {name: float(np.mean(found)) if found else float("nan") for name, found in places.items()}


def _head(protocol: str, about: Sequence[str]) -> list[str]:
    return [
        f"# Benchmark, protocol `{protocol}`",
        "",
        "Written by `ddpm-lightning benchmark`. Median over images [95 % interval, by field of view]. ▲ and ▼: "
        f"significantly better and worse than the average of `{REFERENCE}` (studentised mean and Wilcoxon, paired, "
        "Holm's correction for all rows in a metric, 5 %). Rank: mean place over images and PSNR, MS-SSIM, LPIPS and "
        "CRPS. CRPS and energy score are shares of the target's range: of an average, those of its samples; of a "
        "single image, its mean absolute error and that of its windows. NFE: network evaluations for an image.",
        "",
        *(f"- {sentence}" for sentence in about),
        "",
    ]


def _methods(records: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        "| method | parameters | steps | training, share of the budget | seconds a sample, 256 x 256 | samples |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(record["method"] for record in records):
        chosen = [record for record in records if record["method"] == name]
        record = chosen[0]
        seconds = np.median([c["seconds_per_sample"] for c in chosen])
        steps = " + ".join(map(str, record["steps"])) or "fitted"
        numbers = f"{record['parameters']:,} | {steps} | {record['training']:g} | {seconds:.2g}"
        lines.append(f"| {name} | {numbers} | {record['preset']} |")
    return [*lines, ""]


def _section(
    name: str, rows: Sequence[Entry], comparison: Comparison, ranked: dict[str, float], reference: str
) -> list[str]:
    marks = _marks(comparison, reference)
    heads = [f"{metric} {ARROWS[metric]}" for metric in comparison.metrics]
    lines = [
        f"## {name}",
        "",
        f"{comparison.images} images of {comparison.fields} fields of view.",
        "",
        f"| | {' | '.join(heads)} | rank | NFE |",
        "| --- |" + " --- |" * (len(heads) + 2),
    ]
    for row in rows:
        numbers = []
        for metric in comparison.metrics:
            found = comparison.estimates[row.name, metric]
            if found is None:
                numbers.append("absent")
                continue
            ends = found.median_interval
            between = f" [{ends[0]:.4g}, {ends[1]:.4g}]" if ends else ""
            numbers.append(f"{found.median:.4g}{between}{marks.get((row.name, metric), '')}")
        lines.append(f"| {row.name} | {' | '.join(numbers)} | {ranked[row.name]:.1f} | {row.nfe} |")
    return [*lines, ""]


def _perceptual_sentence(comparison: Comparison, reference: str) -> str:
    """Returns which rows are better than the reference in LPIPS, and which cannot be distinguished from it."""
    marks = _marks(comparison, reference)
    others = [method.name for method in comparison.methods if method.name != reference]
    better = [name for name in others if "▲" in marks.get((name, "lpips"), "")]
    tied = [name for name in others if (name, "lpips") not in marks]
    return (
        f"In LPIPS, significantly better than `{reference}`: {', '.join(better) or 'none'}; not told apart from it: "
        f"{', '.join(tied) or 'none'}; worse: all others."
    )


def _marks(comparison: Comparison, reference: str) -> dict[tuple[str, str], str]:
    """Returns the mark of each row and metric whose difference from the reference is significant."""
    marks = {}
    for found in comparison.pairings:
        if found.significant:
            first = found.first == reference
            larger = (found.difference.mean < 0) == first
            other = found.second if first else found.first
            marks[other, found.metric] = " ▲" if larger == (ARROWS[found.metric] == "↑") else " ▼"
    return marks


def _uncertainty_numbers(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Returns the calibration of the samples' standard deviation by method, for those with enough samples."""
    found = {}
    for record in records:
        summary = _summary(Path(record["folder"]) / "evaluation")
        if summary["calibration"] and summary["averaging"]:
            numbers = {name: n["median"] for name, n in summary["calibration"]["numbers"].items() if n}
            found[record["method"]] = numbers | {"ratio": max(summary["averaging"]["ratio"], 0.0) ** 0.5}
    return found


def _uncertainty_table(found: dict[str, dict[str, float]]) -> list[str]:
    if not found:
        return []
    lines = [
        "Standard deviation of the samples, median over images; ideal values in brackets:",
        "",
        f"| | {' | '.join(f'{title} ({ideal})' for title, ideal in UNCERTAINTY.values())} |",
        "| --- |" + " --- |" * len(UNCERTAINTY),
    ]
    for method, values in found.items():
        numbers = (
            f"{values[name]:.3g}" if values.get(name) is not None else "absent" for name in UNCERTAINTY
        )
        lines.append(f"| {method} | {' | '.join(numbers)} |")
    return [*lines, ""]


def _numbers(
    name: str, comparison: Comparison, rows: Sequence[Entry], ranked: dict[str, float]
) -> list[list[Any]]:
    lines = []
    for row, method in zip(rows, comparison.methods, strict=True):
        for metric in comparison.metrics:
            if (found := comparison.estimates[row.name, metric]) is None:
                continue
            ends = found.median_interval or ("", "")
            about = [found.median, *ends, found.mean, found.images, found.fields, ranked[row.name]]
            lines.append([name, row.name, method.protocol, metric, *about, row.nfe, row.seconds])
    return lines


def _tests(name: str, comparison: Comparison, reference: str) -> list[list[Any]]:
    """Returns the differences of all rows from the reference, row minus reference."""
    lines = []
    for found in comparison.pairings:
        sign = -1 if found.first == reference else 1
        row = found.second if found.first == reference else found.first
        ends = (
            sorted(sign * end for end in found.difference.interval) if found.difference.interval else ("", "")
        )
        about = [
            name,
            comparison.methods[0].protocol,
            found.metric,
            row,
            reference,
            sign * found.difference.mean,
            *ends,
        ]
        p = ["" if value is None else value for value in (found.p, found.p_equivalence)]
        words = ["yes" if value else "no" for value in (found.significant, found.equivalent)]
        lines.append([*about, p[0], words[0], p[1], words[1]])
    return lines


def _scores(name: str, comparison: Comparison) -> list[list[Any]]:
    return [
        [name, method.name, image, row.field, *(row.values.get(metric, "") for metric in SHOWN)]
        for method in comparison.methods
        for image, row in method.rows.items()
    ]


def _summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def _csv(path: Path, head: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows([_short(value) for value in line] for line in lines)


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
