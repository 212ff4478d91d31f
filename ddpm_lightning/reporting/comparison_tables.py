"""A comparison in words, Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Sequence
from math import floor, log2

from ddpm_lightning.evaluation.comparison import MARGINS, Comparison, Pairing
from ddpm_lightning.evaluation.statistics import ALPHA, Estimate
from ddpm_lightning.evaluation.tables import ARROWS, SAMPLE_MEANINGS, UNITS, heading

__all__ = [
    "comparison_csv",
    "comparison_latex",
    "comparison_markdown",
    "differences_csv",
    "in_words",
    "too_few_fields",
]

SPECIAL = {
    "\\": r"\textbackslash{}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
}
LATEX_ARROWS = {"↓": r"$\downarrow$", "↑": r"$\uparrow$", "": ""}


def in_words(comparison: Comparison) -> list[str]:
    """Says for each pair of methods which differences are significant, and which are not."""
    lines = []
    if few := too_few_fields(comparison.fields, len(comparison.methods), comparison.pairs):
        lines.append(few)
    pairs = dict.fromkeys((pairing.first, pairing.second) for pairing in comparison.pairings)
    for first, second in pairs:
        chosen = [p for p in comparison.pairings if (p.first, p.second) == (first, second)]
        wins = _wins(comparison, chosen)
        parts = [f"{name} is better in {', '.join(found)}" for name, found in wins.items() if found]
        parts += [
            _larger(comparison, pairing)
            for pairing in chosen
            if pairing.significant and not ARROWS.get(pairing.metric)
        ]
        if left := [p for p in chosen if not p.significant]:
            parts.append(f"not significant: {', '.join(_not_significant(p) for p in left)}")
        lines.append(f"{first} and {second}, mean differences: {'; '.join(parts)}.")
    return lines


def too_few_fields(fields: int, methods: int, pairs: int) -> str:
    """Says that no difference can be significant, however large; empty if one can.

    Args:
        fields: Number of fields of view.
        methods: Number of methods.
        pairs: Number of pairs of methods that are compared.
    """
    # If all n fields agree in sign, Wilcoxon's test gives 2^(1 - n), and Holm's correction multiplies it by the pairs.
    needed = floor(1 + log2(pairs / ALPHA)) + 1
    if fields >= needed:
        return ""
    return (
        f"Too few fields of view: with {fields}, no difference between {methods} methods can be significant, "
        f"however large it is; at least {needed} are needed (the smallest possible p-value is "
        f"{min(1.0, pairs * 2.0 ** (1 - fields)):.2g})."
    )


def _wins(comparison: Comparison, pairings: Sequence[Pairing]) -> dict[str, list[str]]:
    """Returns the metrics in which either method is better, with the amount."""
    wins: dict[str, list[str]] = {pairings[0].first: [], pairings[0].second: []}
    for pairing in pairings:
        if pairing.significant and (arrow := ARROWS.get(pairing.metric)):
            first_wins = (pairing.difference.mean > 0) == (arrow == "↑")
            wins[pairing.first if first_wins else pairing.second].append(
                f"{pairing.metric} by {_amount(comparison, pairing)}"
            )
    return wins


def _larger(comparison: Comparison, pairing: Pairing) -> str:
    name = pairing.first if pairing.difference.mean > 0 else pairing.second
    return f"{name} has the larger {pairing.metric} by {_amount(comparison, pairing)}"


def _amount(comparison: Comparison, pairing: Pairing) -> str:
    """Returns the size of a significant mean difference, and says so where the medians differ the other way round."""
    first, second = (comparison.estimates[name, pairing.metric] for name in (pairing.first, pairing.second))
    alike = first and second and (first.median - second.median) * pairing.difference.mean > 0
    amount = f"{abs(pairing.difference.mean):.3g} {UNITS.get(pairing.metric, '')}".strip()
    ends = ", ".join(f"{end:.3g}" for end in sorted(map(abs, pairing.difference.interval or ())))
    return f"{amount} [{ends}] (p = {pairing.p:.2g})" + ("" if alike else ", though not in the median")


def _not_significant(pairing: Pairing) -> str:
    test = "no test" if pairing.p is None else f"p = {pairing.p:.2g}"
    if pairing.equivalent:
        margin = f"{MARGINS[pairing.metric]:g} {UNITS.get(pairing.metric, '')}".strip()
        test += f"; equivalent within {margin}, p = {pairing.p_equivalence:.2g}"
    return f"{pairing.metric} ({pairing.difference.mean:+.3g}, {test})"


def comparison_markdown(comparison: Comparison) -> str:
    """Returns the table, the words and how they were found, as a page."""
    metrics = comparison.metrics
    best = _best(comparison)
    few = too_few_fields(comparison.fields, len(comparison.methods), comparison.pairs)
    lines = [
        "# Comparison",
        "",
        *([f"**{few}**", ""] if few else []),
        f"{comparison.images} images of {comparison.fields} fields of view, protocol "
        f"`{comparison.methods[0].protocol}`, truth: {comparison.methods[0].truth}. Median over images [95 % "
        "interval]; bold: best median.",
        "",
        "| method | estimator | " + " | ".join(map(heading, metrics)) + " |",
        "| --- | --- |" + " --- |" * len(metrics),
    ]
    for method in comparison.methods:
        cells = []
        for metric in metrics:
            cell = _cell(comparison.estimates[method.name, metric])
            cells.append(f"**{cell}**" if best.get(metric) == method.name else cell)
        lines.append(f"| {method.name} | {method.estimator} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {line}" for line in in_words(comparison) if line != few)]
    lines += [
        "",
        "The table shows medians, the list mean differences [95 % interval], first minus second where there is a sign. "
        "Differences are paired, taken image by image, so that what makes an image hard for all methods drops out. "
        "Their mean is the difference of the means (comparison.csv), not that of the medians.",
        "",
        "A difference is significant if the p-values of the studentised mean and of Wilcoxon's signed-rank test are "
        f"both below 5 %, each after Holm's correction for {comparison.pairs} pairs of methods in a metric. Methods "
        "are equivalent if two one-sided tests reject a difference beyond the margin, after the same correction. The "
        "unit of all tests and intervals is the field of view. Mood's median test, which the paper uses, is in "
        "differences.csv.",
        "",
        *(f"- {name}: {text}." for name, text in SAMPLE_MEANINGS.items() if name in metrics),
        "",
        *(f"- {method.name}: `{method.path}`" for method in comparison.methods),
    ]
    return "\n".join(lines) + "\n"


def _best(comparison: Comparison) -> dict[str, str]:
    """Returns the method with the best median, by metric, where that means anything."""
    best = {}
    for metric in comparison.metrics:
        found = [
            (e.median, m.name) for m in comparison.methods if (e := comparison.estimates[m.name, metric])
        ]
        if ARROWS.get(metric) and len(found) > 1:
            best[metric] = (min if ARROWS[metric] == "↓" else max)(found, key=lambda entry: entry[0])[1]
    return best


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "absent"
    if estimate.median_interval is None:
        return f"{estimate.median:.4g}"
    low, high = estimate.median_interval
    return f"{estimate.median:.4g} [{low:.4g}, {high:.4g}]"


def comparison_csv(comparison: Comparison) -> str:
    """Returns a row for each method and metric."""
    header = (
        "method,estimator,protocol,metric,median,median_low,median_high,mean,mean_low,mean_high,images,fields"
    )
    lines: list[Sequence] = [header.split(",")]
    for method in comparison.methods:
        for metric in comparison.metrics:
            estimate = comparison.estimates[method.name, metric]
            numbers = [""] * 6 + [0, 0]
            if estimate:
                ends = [estimate.median_interval or ("", ""), estimate.mean_interval or ("", "")]
                numbers = [
                    estimate.median,
                    *ends[0],
                    estimate.mean,
                    *ends[1],
                    estimate.images,
                    estimate.fields,
                ]
            lines.append([method.name, method.estimator, method.protocol, metric, *numbers])
    return _csv(lines)


def differences_csv(comparison: Comparison) -> str:
    """Returns a row for each comparison, with all tests."""
    header = "metric,first,second,mean,low,high,median,p_student,p_wilcoxon,p_mood,p_holm,significant,"
    header += "p_equivalence,equivalent,images,fields"
    lines: list[Sequence] = [header.split(",")]
    for pairing in comparison.pairings:
        found = pairing.difference
        tests = [found.student, found.wilcoxon, found.mood, pairing.p]
        equal = "" if pairing.p_equivalence is None else pairing.p_equivalence
        lines.append(
            [
                *(
                    pairing.metric,
                    pairing.first,
                    pairing.second,
                    found.mean,
                    *(found.interval or ("", "")),
                    found.median,
                ),
                *("" if p is None else p for p in tests),
                *("yes" if pairing.significant else "no", equal, "yes" if pairing.equivalent else "no"),
                *(found.images, found.fields),
            ]
        )
    return _csv(lines)


def _csv(lines: Sequence[Sequence]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def comparison_latex(comparison: Comparison) -> str:
    """Returns the table for a paper (package booktabs): medians, their intervals below, the best in bold."""
    metrics, best = comparison.metrics, _best(comparison)
    heads = [f"{_escaped(metric)} {LATEX_ARROWS[ARROWS.get(metric, '')]}".strip() for metric in metrics]
    lines = [
        f"% median and 95 % interval over {comparison.images} images of {comparison.fields} fields of view",
        f"% protocol {comparison.methods[0].protocol}",
        rf"\begin{{tabular}}{{l{'c' * len(metrics)}}}",
        r"\toprule",
        " & ".join(["method", *heads]) + r" \\",
        r"\midrule",
    ]
    for method in comparison.methods:
        cells = []
        for metric in metrics:
            estimate = comparison.estimates[method.name, metric]
            middle = f"{estimate.median:.4g}" if estimate else "--"
            cells.append(rf"\textbf{{{middle}}}" if best.get(metric) == method.name else middle)
        lines.append(" & ".join([_escaped(method.name), *cells]) + r" \\")
        ends = []
        for metric in metrics:
            estimate = comparison.estimates[method.name, metric]
            known = estimate and estimate.median_interval
            ends.append(rf"{{\scriptsize [{known[0]:.4g}, {known[1]:.4g}]}}" if known else "")
        lines.append(" & ".join(["", *ends]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in text)
