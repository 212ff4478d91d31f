"""Compares several evaluations of the same images and tests which differences are significant.

Scores with different protocols, images or targets are not comparable and are rejected, with the reason. The statistics
are those of ``statistics.py``. Each metric is tested separately; Holm's correction covers all pairs of methods within a
metric.

In a metric that has a margin, methods whose difference is not significant are tested for equivalence within it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from ddpm_lightning.evaluation.image_scores import ESTIMATORS, Row
from ddpm_lightning.evaluation.statistics import (
    ALPHA,
    Difference,
    Estimate,
    describe,
    difference,
    equivalence,
    fields_of,
    holm,
)
from ddpm_lightning.evaluation.tables import read_rows
from ddpm_lightning.metrics.collection import METRICS, SAMPLE_METRICS
from ddpm_lightning.utils.errors import UserError, nearest
from ddpm_lightning.utils.paths import expanded

__all__ = ["MARGINS", "Comparison", "Decided", "Estimator", "Method", "Pairing", "compare", "read_methods"]

#: Largest difference that does not matter, by metric.
MARGINS = {"psnr": 0.1}

#: Names of ``ESTIMATORS``.
Estimator = Literal["raw", "single", "average"]


@dataclass(frozen=True)
class Method:
    """One estimator of one evaluation.

    Attributes:
        name: Name in the table.
        estimator: ``raw``, ``single`` or ``average``.
        path: File it comes from.
        rows: Its row of each image, by name.
    """

    name: str
    estimator: str
    path: Path
    rows: dict[str, Row]

    @property
    def protocol(self) -> str:
        """Protocol of its numbers."""
        return next(iter(self.rows.values())).facts["protocol"]

    @property
    def truth(self) -> str:
        """What its numbers were scored against: ``recorded`` or ``clean``."""
        return next(iter(self.rows.values())).facts.get("truth", "recorded")


class Decided:
    """What the corrected p-values of a comparison decide.

    Attributes:
        p: p-value of no difference, or ``None`` without a test.
        p_equivalence: p-value of a difference beyond the margin of the metric, or ``None`` if it has no margin.
    """

    p: float | None
    p_equivalence: float | None

    @property
    def significant(self) -> bool:
        """Whether the methods differ."""
        return self.p is not None and self.p < ALPHA

    @property
    def equivalent(self) -> bool:
        """Whether the methods differ by less than the margin of the metric."""
        return self.p_equivalence is not None and self.p_equivalence < ALPHA


@dataclass(frozen=True)
class Pairing(Decided):
    """Two methods in one metric, over the images for which both have a number.

    Attributes:
        metric: Name of the metric.
        first: Name of the first method.
        second: Name of the second method.
        difference: First minus second.
        p: The larger of the p-values of both tests, each after Holm's correction; ``None`` without a test.
        p_equivalence: p-value of a difference beyond the margin of the metric, after Holm's correction; ``None`` if the
            metric has no margin.
    """

    metric: str
    first: str
    second: str
    difference: Difference
    p: float | None
    p_equivalence: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A table of methods, and the tests of their differences.

    Attributes:
        methods: The methods, in order.
        metrics: The metrics, in order.
        estimates: Median and mean with intervals by method and metric; ``None`` where a method lacks the number.
        pairings: All comparisons that were made.
        pairs: Number of pairs of methods.
        images: Number of images.
        fields: Number of fields of view.
    """

    methods: list[Method]
    metrics: list[str]
    estimates: dict[tuple[str, str], Estimate | None]
    pairings: list[Pairing]
    pairs: int
    images: int
    fields: int


def read_methods(files: Sequence[str], estimator: str, names: Sequence[str] | None = None) -> list[Method]:
    """Reads the tables of several evaluations.

    Args:
        files: Files ``metrics.csv``, or their folders; ``FILE:single`` takes another estimator of a file.
        estimator: Estimator of the files that name none.
        names: Names in the table; by default those of the folders.

    Raises:
        UserError: If a file cannot be used, or the files do not belong in one table.
    """
    if len(files) < 2:
        raise UserError(
            "files", f"{len(files)} given", allowed="two or more metrics.csv", remedy="name them all"
        )
    if names is not None and len(names) != len(files):
        raise UserError(
            "names", f"{len(names)} names for {len(files)} files", remedy="give one for each, in order"
        )
    chosen = [_split(file, estimator) for file in files]
    titles = list(names) if names is not None else _titles(chosen)
    if len(set(titles)) < len(titles):
        twice = next(title for title in titles if titles.count(title) > 1)
        raise UserError(
            "names", f"{twice} is the name of two methods", remedy="give names=[A,B], or leave one out"
        )
    tables = {path: _checked(path, read_rows(path)) for path, _ in chosen}
    methods = [
        Method(title, wanted, path, {row.image: row for row in tables[path] if row.estimator == wanted})
        for title, (path, wanted) in zip(titles, chosen, strict=True)
    ]
    for method in methods[1:]:
        _check_alike(methods[0], method)
    return methods


def _split(file: str, estimator: str) -> tuple[Path, str]:
    name, colon, wanted = file.rpartition(":")
    if colon and wanted not in ESTIMATORS and expanded(name).exists() and not Path(file).exists():
        near = nearest(wanted, ESTIMATORS, least=0)
        raise UserError(
            file,
            f"{wanted!r} is not an estimator",
            allowed=", ".join(ESTIMATORS),
            remedy=f"did you mean {name}:{near[0]}?",
        )
    if not colon or wanted not in ESTIMATORS:
        name, wanted = file, estimator
    path = expanded(name)
    return (path / "metrics.csv" if path.is_dir() else path), wanted


def _titles(chosen: Sequence[tuple[Path, str]]) -> list[str]:
    """Returns the names of the folders, with as many parents as it takes to tell them apart."""
    folders = [path.resolve().parent for path, _ in chosen]
    titles = [folder.name for folder in folders]
    for depth in range(2, 1 + max(len(folder.parts) for folder in folders)):
        if len(set(titles)) == len(set(folders)):
            break
        titles = ["/".join(folder.parts[-depth:]) for folder in folders]
    files = [path.resolve() for path, _ in chosen]
    if len(set(files)) > len(set(folders)):
        titles = [f"{title}/{file.stem}" for title, file in zip(titles, files, strict=True)]
    if len({estimator for _, estimator in chosen}) > 1:
        titles = [f"{title} {estimator}" for title, (_, estimator) in zip(titles, chosen, strict=True)]
    return titles


def _checked(path: Path, rows: list[Row]) -> list[Row]:
    """Returns the rows; raises if a table has fewer images than the summary beside it, because it was cut off."""
    summary = path.with_name("summary.json")
    if summary.is_file():
        try:
            wanted = json.loads(summary.read_text(encoding="utf-8"))["images"]
        except (ValueError, KeyError, TypeError):
            return rows
        if (found := len({row.image for row in rows})) != wanted:
            raise UserError(
                path,
                f"has {found} images, but {summary.name} beside it lists {wanted}: it was cut off, or changed",
                remedy="evaluate again, or copy the file again",
            )
    return rows


def _check_alike(first: Method, second: Method) -> None:
    both = f"{first.path} and {second.path}"
    if first.protocol != second.protocol:
        raise UserError(
            both,
            f"have numbers of different protocols, {first.protocol} and {second.protocol}",
            allowed="one protocol in a table",
            remedy="evaluate with also=[PROTOCOL], and compare the files metrics_PROTOCOL.csv",
        )
    if first.truth != second.truth:
        raise UserError(
            both,
            f"were scored against different truths, {first.truth} and {second.truth}",
            allowed="one truth in a table",
            remedy="evaluate both with the same truth=",
        )
    if first.rows.keys() != second.rows.keys():
        alone = sorted(first.rows.keys() ^ second.rows.keys())
        some = ", ".join(alone[:3]) + (f" and {len(alone) - 3} more" if len(alone) > 3 else "")
        raise UserError(
            both,
            f"are of different images: {some} only in one of them",
            allowed="the same images in all files",
            remedy="evaluate all methods on the same data, split and limit",
        )
    for image, row in first.rows.items():
        other = second.rows[image]
        for fact in ("data_range", "low"):
            if fact in row.facts and fact in other.facts and not _close(row.facts[fact], other.facts[fact]):
                raise UserError(
                    both,
                    f"have other targets: {fact} of image {image} is {row.facts[fact]} and {other.facts[fact]}",
                    remedy="evaluate all methods on the same data and split",
                )
        for fact, meaning in (
            ("lpips_backbone", "LPIPS weights"),
            ("nrmse_by", "denominators of the NRMSE"),
            ("level", "nominal levels of intervals"),
        ):
            if fact in row.facts and fact in other.facts and row.facts[fact] != other.facts[fact]:
                raise UserError(
                    both, f"were scored with different {meaning}", remedy="evaluate them with the same"
                )
        if row.values and other.values and ("shift" in row.facts) != ("shift" in other.facts):
            raise UserError(
                both, "differ in align: only one of them was re-aligned", remedy="evaluate both alike"
            )
        if row.field != other.field:
            raise UserError(
                both,
                f"disagree about the field of view of image {image}: {row.field or 'none'} and {other.field or 'none'}",
                remedy="evaluate all methods on the same data",
            )


def _close(first: str, second: str) -> bool:
    one, two = float(first), float(second)
    return abs(one - two) <= 1e-6 * max(abs(one), abs(two), 1e-300)


def compare(
    methods: Sequence[Method], metrics: Sequence[str] | None = None, reference: str | None = None
) -> Comparison:
    """Compares methods.

    Args:
        methods: The methods.
        metrics: Metrics to compare; by default those of the main tables that any method has.
        reference: Name of a method: the others are compared with it, and not with each other.

    Raises:
        UserError: If a metric or the reference does not exist.
    """
    known = list(
        dict.fromkeys(name for method in methods for row in method.rows.values() for name in row.values)
    )
    main = [name for name in (*METRICS, *SAMPLE_METRICS) if name in known]
    chosen = list(metrics) if metrics is not None else main
    for metric in chosen:
        if metric not in known:
            near = nearest(str(metric), known)
            remedy = f"did you mean {near[0]}?" if near else "choose others, or evaluate with them"
            raise UserError(f"metrics: {metric}", "no file has it", allowed=", ".join(known), remedy=remedy)
    names = [method.name for method in methods]
    if reference is not None and reference not in names:
        raise UserError(f"reference={reference}", "is not a method of the table", allowed=", ".join(names))
    estimates: dict[tuple[str, str], Estimate | None] = {}
    for method in methods:
        for metric in chosen:
            rows = [row for row in method.rows.values() if metric in row.values]
            values = [row.values[metric] for row in rows]
            estimates[method.name, metric] = describe(values, _fields(rows)) if rows else None
    pairs = [
        pair
        for pair in combinations(methods, 2)
        if reference is None or reference in (pair[0].name, pair[1].name)
    ]
    pairings = [pairing for metric in chosen for pairing in _pairings(metric, pairs)]
    rows = list(methods[0].rows.values())
    return Comparison(
        list(methods), chosen, estimates, pairings, len(pairs), len(rows), len(set(_fields(rows)))
    )


def _pairings(metric: str, pairs: Sequence[tuple[Method, Method]]) -> list[Pairing]:
    """Returns the differences of pairs of methods in one metric, their p-values corrected for the number of pairs."""
    found: list[tuple[str, str, Difference]] = []
    for first, second in pairs:
        images = [
            i for i, row in first.rows.items() if metric in row.values and metric in second.rows[i].values
        ]
        if images:
            one, other = (
                [method.rows[image].values[metric] for image in images] for method in (first, second)
            )
            fields = _fields([first.rows[image] for image in images])
            found.append((first.name, second.name, difference(one, other, fields)))
    margin = MARGINS.get(metric)
    student = holm([compared.student for *_, compared in found])
    wilcoxon = holm([compared.wilcoxon for *_, compared in found])
    equal = holm([None if margin is None else equivalence(compared, margin) for *_, compared in found])
    return [
        Pairing(metric, first, second, compared, None if s is None or w is None else max(s, w), e)
        for (first, second, compared), s, w, e in zip(found, student, wilcoxon, equal, strict=True)
    ]


def _fields(rows: Sequence[Row]) -> list[str]:
    return fields_of([row.image for row in rows], [row.field for row in rows])
