"""The benchmark as tables: all methods on all sets, with intervals, ranks, costs and significant differences.

There is a page for each protocol, without test-time augmentation, and one with it under the first protocol. All rows
are compared with a *reference*, the average of ``pmrf`` if it was benchmarked: ▲ marks a row that is significantly
better, ▼ one that is significantly worse, by the tests of ``comparison.py``.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddpm_lightning.benchmark.jobs import AUGMENTED, PLAIN
from ddpm_lightning.benchmark.pages import (
    REFERENCE,
    UNCERTAINTY,
    Page,
    head,
    methods_table,
    perceptual_sentence,
    section,
    uncertainty_numbers,
    uncertainty_table,
    yes,
)
from ddpm_lightning.benchmark.plots import plot_bars, plot_perception_distortion, write_panel
from ddpm_lightning.benchmark.rows import RANKED, Entry, entries_of, ranks
from ddpm_lightning.benchmark.seeds import HEAD, lines_of, over_seeds, seeds_section
from ddpm_lightning.benchmark.tta import GAINS_HEAD, gains, gains_section
from ddpm_lightning.evaluation.comparison import Comparison, Method, compare, read_methods
from ddpm_lightning.utils.atomic import atomic_write, write_text

__all__ = ["write_benchmark"]

Records = Sequence[dict[str, Any]]

#: Metrics of the tables, and of the plots of bars.
SHOWN = ("psnr", "ms_ssim", "nrmse", "pearson", "lpips", "crps", "energy_score")
METRICS = SHOWN[:5]
#: The method that single samples are compared with in LPIPS.
PERCEPTUAL_REFERENCE = "pmrf_realistic"


@dataclass
class _Lines:
    """Lines of the CSV files."""

    numbers: list[list[Any]] = field(default_factory=list)
    tests: list[list[Any]] = field(default_factory=list)
    uncertainty: list[list[Any]] = field(default_factory=list)
    over_seeds: list[list[Any]] = field(default_factory=list)
    gains: list[list[Any]] = field(default_factory=list)
    scores: dict[str, list[list[Any]]] = field(default_factory=dict)

    def write(self, output: Path) -> None:
        """Writes all files that have lines."""
        about = ["protocol", "tta", "metric"]
        columns = ["set", "row", *about, "median", "low", "high", "mean", "images", "fields", "rank"]
        _csv(output / "table.csv", [*columns, "nfe", "seconds"], self.numbers)
        columns = ["set", *about, "row", "reference", "difference", "low", "high", "p", "significant"]
        _csv(output / "differences.csv", [*columns, "p_equivalence", "equivalent"], self.tests)
        _csv(output / "uncertainty.csv", ["set", "row", "tta", *UNCERTAINTY], self.uncertainty)
        if self.over_seeds:
            _csv(output / "seeds.csv", ["set", "protocol", "tta", *HEAD], self.over_seeds)
        if self.gains:
            _csv(output / "tta.csv", ["set", "protocol", *GAINS_HEAD], self.gains)
        for name, scores in self.scores.items():
            _csv(output / f"scores_{name}.csv", ["set", "row", "image", "field", *SHOWN], scores)


def write_benchmark(records: Records, protocols: Sequence[str], about: Sequence[str], output: Path) -> None:
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
    methods = methods_table([record for record in records if record.get("seed", 0) == first])
    main, *others = protocols
    pages = [Page("table", main, "metrics.csv", main=True)]
    pages += [Page(f"table_{name}", name, f"metrics_{name}.csv") for name in others]
    pages.append(Page("table_tta", main, "metrics.csv", AUGMENTED))
    lines = _Lines()
    for page in pages:
        sections = []
        for name, chosen in every.items():
            of_seed = [record for record in chosen if record.get("seed", 0) == first]
            if rows := _rows(of_seed, page.evaluation):
                sections += _write_set(name, page, rows, lines, output)
                sections += _over_seeds(name, page, chosen, rows, lines)
                sections += _augmentation(name, page, _rows(of_seed, PLAIN), rows, lines)
        if sections:
            text = [*head(page, about), *methods, *sections]
            write_text(output / f"{page.name}.md", "\n".join(text) + "\n")
    lines.write(output)


def _rows(records: Records, evaluation: str) -> list[Entry]:
    """Returns the rows of the methods that were evaluated in this way."""
    found = [record for record in records if evaluation == PLAIN or evaluation in record]
    return entries_of(found, evaluation) if found else []


def _write_set(name: str, page: Page, rows: Sequence[Entry], lines: _Lines, output: Path) -> list[str]:
    """Returns the section of a set, and adds its lines to the files; the main page also plots it."""
    average, sample = _references(rows)
    comparison = _compared(rows, page.file, average, SHOWN)
    ranked = ranks(comparison)
    text = section(name, rows, comparison, ranked, average)
    lines.tests += _tests(name, page, comparison, average)
    if sample is not None and "lpips" in comparison.metrics:
        in_lpips = _compared(rows, page.file, sample, ["lpips"])
        text += [perceptual_sentence(in_lpips, sample), ""]
        lines.tests += _tests(name, page, in_lpips, sample)
    lines.numbers += _numbers(name, page, comparison, rows, ranked)
    place = page.protocol + ("_tta" if page.evaluation == AUGMENTED else "")
    lines.scores.setdefault(place, []).extend(_scores(name, comparison))
    if page.main or page.evaluation == AUGMENTED:
        found = uncertainty_numbers(rows)
        text += uncertainty_table(found)
        lines.uncertainty += [
            [name, method, page.about[1], *(values.get(key, "") for key in UNCERTAINTY)]
            for method, values in found.items()
        ]
    if page.main:
        plot_bars(comparison, METRICS, output / "figures" / f"bars_{name}.png", name)
        plot_perception_distortion(comparison, output / "figures" / f"plane_{name}.png", name)
        write_panel(rows, output / "figures" / f"images_{name}.png", name)
    return text


def _over_seeds(name: str, page: Page, records: Records, rows: Sequence[Entry], lines: _Lines) -> list[str]:
    """Returns the table over seeds; the file has one for each reference, so that any two rows are compared."""
    average, _ = _references(rows)
    trainings = _trainings(records, page.file) if page.evaluation == PLAIN else {}
    text = []
    for reference in trainings:
        found = over_seeds(trainings, RANKED, reference)
        text += seeds_section(found, reference) if reference == average else []
        lines.over_seeds += [[name, *page.about, *line] for line in lines_of(found, reference)]
    return text


def _augmentation(
    name: str, page: Page, plain: Sequence[Entry], rows: Sequence[Entry], lines: _Lines
) -> list[str]:
    """Returns the table of what test-time augmentation changes."""
    if page.evaluation == PLAIN:
        return []
    found = gains(plain, rows, page.file, RANKED)
    lines.gains += [[name, page.protocol, *gain.line] for gain in found]
    return gains_section(found)


def _trainings(records: Records, file: str) -> Mapping[str, list[Method]]:
    """Returns the trainings of each row of one set that was trained with several seeds."""
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
        return {}
    files = [f"{entry.folder / file}:{entry.estimator}" for _, entry in trained]
    methods = read_methods(files, "average", [f"{entry.name}, seed {seed}" for seed, entry in trained])
    rows: dict[str, list[Method]] = {}
    for (_, entry), method in zip(trained, methods, strict=True):
        rows.setdefault(entry.name, []).append(method)
    return rows


def _compared(rows: Sequence[Entry], file: str, reference: str, metrics: Sequence[str]) -> Comparison:
    files = [f"{row.folder / file}:{row.estimator}" for row in rows]
    methods = read_methods(files, "average", [row.name for row in rows])
    known = {metric for method in methods for row in method.rows.values() for metric in row.values}
    return compare(methods, [metric for metric in metrics if metric in known], reference)


def _references(rows: Sequence[Entry]) -> tuple[str, str | None]:
    """Returns the names of the rows that others are compared with: in everything, and one sample in LPIPS."""
    own = {row.estimator: row.name for row in rows if row.method == REFERENCE}
    perceptual = next((row.name for row in rows if row.method == PERCEPTUAL_REFERENCE), own.get("single"))
    return own.get("average", rows[-1].name), perceptual


def _numbers(
    name: str, page: Page, comparison: Comparison, rows: Sequence[Entry], ranked: dict[str, float]
) -> list[list[Any]]:
    lines = []
    for row in rows:
        for metric in comparison.metrics:
            if (found := comparison.estimates[row.name, metric]) is None:
                continue
            ends = found.median_interval or ("", "")
            about = [found.median, *ends, found.mean, found.images, found.fields, ranked[row.name]]
            lines.append([name, row.name, *page.about, metric, *about, row.nfe, row.seconds])
    return lines


def _tests(name: str, page: Page, comparison: Comparison, reference: str) -> list[list[Any]]:
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
            *page.about,
            found.metric,
            row,
            reference,
            sign * found.difference.mean,
            *ends,
        ]
        p = ["" if value is None else value for value in (found.p, found.p_equivalence)]
        words = [yes(value) for value in (found.significant, found.equivalent)]
        lines.append([*about, p[0], words[0], p[1], words[1]])
    return lines


def _scores(name: str, comparison: Comparison) -> list[list[Any]]:
    return [
        [name, method.name, image, row.field, *(row.values.get(metric, "") for metric in SHOWN)]
        for method in comparison.methods
        for image, row in method.rows.items()
    ]


def _csv(path: Path, head: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows([_short(value) for value in line] for line in lines)


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
