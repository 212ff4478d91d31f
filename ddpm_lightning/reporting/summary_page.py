"""``summary.md``: what was measured and how, what the numbers mean, and how reliable they are."""

from collections.abc import Sequence
from typing import Any

from ddpm_lightning.evaluation.diagnostics import Diagnosis
from ddpm_lightning.evaluation.tables import (
    ARROWS,
    SAMPLE_MEANINGS,
    absent_in_words,
    cell,
    estimator_table,
    further_table,
    heading,
    sampled_by,
)
from ddpm_lightning.metrics.collection import SAMPLE_METRICS
from ddpm_lightning.reporting.perception_distortion import realism_table
from ddpm_lightning.reporting.sentences import averaging_in_words, calibration_in_words

__all__ = ["summary_page"]

PROTOCOLS = {
    "paper": "both images are clamped and rounded to 8 bits; data range 255; NRMSE = RMSE / mean of the target",
    "range": "neither clamped nor rounded; data range = maximum − minimum of the target; NRMSE = RMSE / data range",
    "affine": "gain and offset of each restored image are fitted to its target first; data range = 0.1 to 99.9 "
    "percentile of the target; NRMSE = RMSE / standard deviation of the target",
}
TRUTHS = {
    "recorded": "the clean image as it was recorded; its own noise counts as an error",
    "clean": "the expected image without noise, which only a simulation knows",
}
#: Columns of the table of readouts, and the keys of their numbers.
READOUT_COLUMNS = {
    "clean": "clean",
    "bias": "bias",
    "error": "mean_absolute_error",
    "bias before": "input_bias",
    "std": "std",
}
#: Relative difference from which a metric counts as worse than its best value.
WORSE = 0.01


def summary_page(summary: dict[str, Any], diagnoses: Sequence[Diagnosis], figures: Sequence[str]) -> str:
    """Returns the page.

    Args:
        summary: Content of ``summary.json``.
        diagnoses: Signs of failure.
        figures: Files in ``figures/``.
    """
    sections = [_head(summary), _numbers(summary)]
    if summary["averaging"]:
        sections.append(_averaging(summary, figures))
    if summary["realism"]:
        sections.append(_realism(summary, figures))
    if summary["calibration"]:
        sections.append(_calibration(summary, figures))
    else:
        sections.append(["## Uncertainty", "", f"Unknown: {summary['no_calibration']}."])
    sections += [
        _readouts(summary.get("readouts") or {}),
        _diagnoses(diagnoses, figures),
        _figures(figures, diagnoses),
        _how(summary),
        _absent(summary),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _head(summary: dict[str, Any]) -> list[str]:
    model = summary["checkpoint"]["names"].get("model") or "model"
    lines = [f"# {model} on {summary['data']}, split {summary['split']}", ""]
    lines += [f"- {sentence}" for sentence in summary["in_words"]]
    if summary["failed"]:
        lines.append(f"- **Images that could not be scored: {len(summary['failed'])}**, listed at the end.")
    return lines


def _numbers(summary: dict[str, Any]) -> list[str]:
    estimators, length = summary["estimators"], summary["resolution_unit"]
    fields = max(
        (n["fields"] for e in estimators.values() for n in e.values() if n and "fields" in n), default=0
    )
    lines = [
        "## Numbers",
        "",
        f"Protocol `{summary['protocol']}`: {PROTOCOLS[summary['protocol']]}{_range(summary)}. Median over "
        f"{summary['images']} images [95 % bootstrap interval over {fields} fields of view]. `raw` is the low image on "
        "the scale of the target, `single` the first sample, and `average` the mean of all samples.",
        "",
        *estimator_table(estimators, length),
    ]
    if further := further_table(estimators, length):
        lines += ["", *further]
    samples = summary["sample_metrics"]
    lines += [
        "",
        "As predictions of a distribution: `average` by its "
        + (f"{samples['samples']} independent samples" if samples["samples"] > 1 else "only image")
        + ", the others as single images."
        + (f" Nominal level of the intervals: {samples['level']:.0%}." if samples["level"] else ""),
        "",
        *further_table(samples["estimators"], meanings=SAMPLE_MEANINGS),
    ]
    for protocol, others in summary["also"].items():
        lines += ["", f"Protocol `{protocol}`: {PROTOCOLS[protocol]}.", "", *estimator_table(others, length)]
        lines += ["", *estimator_table(samples["also"][protocol], metrics=SAMPLE_METRICS)]
    return lines


def _range(summary: dict[str, Any]) -> str:
    width = summary["data_range"]
    if not width:
        return ""
    return f" (data range {width['smallest']:.4g} to {width['largest']:.4g}, median {width['median']:.4g})"


def _averaging(summary: dict[str, Any], figures: Sequence[str]) -> list[str]:
    averaging = summary["averaging"]
    metrics = list(averaging["metrics"])
    numbers = list(next(iter(averaging["metrics"].values()), {}))
    lines = [
        "## Would more samples help?",
        "",
        averaging_in_words(averaging),
        f"The error of the mean of K {averaging['counts']} is MSE(K) = a + b/K, with a = {averaging['a']:.4g} and "
        f"b = {averaging['b']:.4g} in squared units of the target's range. Samples from the true posterior have "
        "b/a = 1: averaging them gains 3.01 dB at most.",
        "",
        f"Mean over images, protocol `{summary['protocol']}`:",
        "",
        "| samples | " + " | ".join(heading(metric) for metric in metrics) + " |",
        "| --- |" + " --- |" * len(metrics),
    ]
    for number in numbers:
        cells = (f"{averaging['metrics'][metric].get(number, float('nan')):.4g}" for metric in metrics)
        lines.append(f"| {number} | " + " | ".join(cells) + " |")
    if worse := _worse_by_averaging(averaging["metrics"]):
        lines += ["", worse]
    return lines + _figure("averaging.png", "Error and metrics of the mean of N samples", figures)


def _realism(summary: dict[str, Any], figures: Sequence[str]) -> list[str]:
    lines = [
        "## Perception-distortion trade-off",
        "",
        "mean + λ (sample − mean), mean over images: its error is that of the mean of 1/λ² samples, at the cost of one "
        "(`sampler.realism=λ` for `pmrf` and `residual_flow`).",
        "",
        *realism_table(summary["realism"]),
    ]
    return lines + _figure("realism.png", "PSNR and LPIPS between the posterior mean and a sample", figures)


def _worse_by_averaging(metrics: dict[str, dict[int, float]]) -> str:
    """Names the metrics that are best at fewer samples than all; empty where none is."""
    best = []
    for name, found in metrics.items():
        if not (arrow := ARROWS[name]):
            continue
        number = (min if arrow == "↓" else max)(found, key=lambda n: found[n])
        if abs(found[max(found)] / found[number] - 1) > WORSE:
            best.append(f"{name} is best at {number}")
    if not best:
        return ""
    return f"Not every metric gains from all samples: {', '.join(best)}. Averaging blurs what the samples disagree on."


def _calibration(summary: dict[str, Any], figures: Sequence[str]) -> list[str]:
    calibration = summary["calibration"]
    explained = {
        "ece": "expected calibration error: mean difference of observed and nominal coverage; ideal 0",
        "ence": "expected normalised calibration error: relative difference of standard deviation and error in bins; "
        "ideal 0, larger for few samples",
        "spearman": "rank correlation of standard deviation and error over pixels; ideal 1",
        "ause": "area under the sparsification error; ideal 0",
    }
    numbers = calibration["numbers"]
    lines = [
        "## Is the uncertainty calibrated?",
        "",
        calibration_in_words(calibration, summary["conformal"]),
        f"Measured on {calibration['samples']} independent samples of each image. Coverage, spread–skill ratio and "
        "rank histogram are among the numbers above.",
        "",
        "| measure | median [95 % interval] | meaning |",
        "| --- | --- | --- |",
        *(f"| {name} | {cell(numbers[name])} | {text} |" for name, text in explained.items()),
    ]
    if (between := calibration["spearman_between_images"]) is not None:
        lines += ["", f"Over images, standard deviation and error have a rank correlation of {between:.2f}."]
    return lines + _figure("calibration.png", "Calibration of the standard deviation of the samples", figures)


def _readouts(summary: dict[str, Any]) -> list[str]:
    """Returns a table of the numbers that were measured, compared with those of the clean images."""
    if not summary:
        return []
    lines = [
        "## Readouts",
        "",
        "Numbers of restored images (mean over the samples) compared with those of clean images. Coverage is the share "
        "of the images whose interval contains the number of the clean image; on the images of a calibration itself, "
        "it says nothing. Each image is in `readouts.csv`.",
        "",
        f"| readout | number | {' | '.join(READOUT_COLUMNS)} | with interval | coverage | median width |",
        f"| {'--- | ' * (len(READOUT_COLUMNS) + 5)}".rstrip(),
    ]
    for readout, numbers in summary.items():
        for number, one in numbers.items():
            unit = f" ({one['unit']})" if one["unit"] else ""
            cells = [readout, number + unit, *(_short(one[key]) for key in READOUT_COLUMNS.values())]
            cells.append(f"{one['with_interval']} of {one['images']}")
            cells += [_short(one[key]) for key in ("coverage", "median_width")]
            lines.append(f"| {' | '.join(cells)} |")
    reasons = [one["no_interval"] for numbers in summary.values() for one in numbers.values()]
    reason = next((reason for reason in reasons if reason), "")
    return [*lines, "", f"Without an interval, for example: {reason}."] if reason else lines


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _diagnoses(diagnoses: Sequence[Diagnosis], figures: Sequence[str]) -> list[str]:
    lines = ["## Signs of failure"]
    for diagnosis in diagnoses:
        lines += ["", f"### {diagnosis.title}: {diagnosis.verdict}", "", diagnosis.sentence]
        lines += _figure(diagnosis.figure, diagnosis.title, figures)
    return lines


def _figures(figures: Sequence[str], diagnoses: Sequence[Diagnosis]) -> list[str]:
    shown = {
        "averaging.png",
        "calibration.png",
        "realism.png",
        *(diagnosis.figure for diagnosis in diagnoses),
    }
    texts = {
        "frc.png": "Agreement with the target by spatial frequency",
        "scores.png": "Metrics of every image",
    }
    lines = []
    for name in figures:
        if name not in shown:
            text = texts.get(name, f"Image {name.removeprefix('image_').removesuffix('.png')}")
            lines += _figure(name, text, figures)
    return ["## Figures", *lines] if lines else []


def _figure(name: str, text: str, figures: Sequence[str]) -> list[str]:
    return ["", f"![{text}](figures/{name})"] if name in figures else []


def _how(summary: dict[str, Any]) -> list[str]:
    checkpoint = summary["checkpoint"]
    side = summary.get("center_crop")
    part = f", of each the central {side} x {side} pixels" if side else ""
    entries = {
        "checkpoint": f"`{checkpoint['file']}`, sha256 `{checkpoint['sha256'][:16]}…`",
        "trained on": checkpoint["names"].get("data") or "unknown",
        "scored on": f"{summary['data']}, split {summary['split']}, {summary['images']} images{part}",
        "samples": f"{summary['samples']} of each image: {sampled_by(summary)}, "
        f"{summary['nfe']} network evaluations in all, seed {summary['seed']}"
        + (", in bfloat16" if summary["bfloat16"] else ""),
        "truth": TRUTHS[summary["truth"]],
        "alignment": "shifts corrected before scoring" if summary["align"] else "none",
        "LPIPS": f"AlexNet backbone `{summary['lpips_backbone'][:16]}…`, grey repeated to three channels, clamped"
        if summary["lpips_backbone"]
        else "absent",
        "intervals": "95 %, bootstrap with 4999 resamples of fields of view",
        "versions": ", ".join(f"{name} {version}" for name, version in summary["versions"].items()),
        "files": "`metrics.csv` (a row for each image and estimator), `uncertainty.csv`, `summary.json`",
    }
    return ["## How this was measured", "", *(f"- {name}: {text}" for name, text in entries.items())]


def _absent(summary: dict[str, Any]) -> list[str]:
    reasons = absent_in_words(summary)
    numbers = [
        n for e in summary["estimators"].values() for metric, n in e.items() if n and metric != "absent"
    ]
    if without := sorted({n["no_interval"] for n in numbers if "no_interval" in n}):
        reasons["intervals"] = "; ".join(without)
    return (
        ["## Missing numbers", "", *(f"- {name}: {text}" for name, text in reasons.items())]
        if reasons
        else []
    )
