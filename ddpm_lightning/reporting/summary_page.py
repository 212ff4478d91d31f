"""``summary.md``, a page that can be read alone: what was measured and how, what it says, how far to trust it."""

from collections.abc import Sequence
from typing import Any

from ddpm_lightning.evaluation.diagnostics import Diagnosis
from ddpm_lightning.evaluation.statistics import ALPHA, Difference
from ddpm_lightning.evaluation.tables import (
    ARROWS,
    absent_in_words,
    cell,
    estimator_table,
    further_table,
    heading,
    sampled_by,
)
from ddpm_lightning.reporting.perception_distortion import realism_table

__all__ = [
    "against_raw_in_words",
    "averaging_in_words",
    "calibration_in_words",
    "gain_in_words",
    "range_in_words",
    "summary_page",
]

PROTOCOLS = {
    "paper": "both images on an 8-bit scale, clamped and rounded; data range 255; NRMSE = RMSE / mean of the target",
    "range": "values as produced, neither clamped nor rounded; data range = maximum − minimum of the target; NRMSE = "
    "RMSE / that range",
    "affine": "gain and offset of each restored image fitted to its target first, alike for every method; data range "
    "= 0.1 to 99.9 percentile of the target; NRMSE = RMSE / standard deviation of the target",
}
#: Ratio b / a below and above which samples are too similar, or scatter too much.
ALIKE, SCATTERED = 0.8, 1.25
#: Coverage may miss its nominal value by so much and still count as right.
SLACK = 0.03
#: Share of the pixels of an input that may leave the range of the training: a few hot pixels do.
BEYOND = 0.001
#: A metric is worse than at its best if it differs by more than this part.
WORSE = 0.01


def gain_in_words(gain: Difference | None, samples: int) -> str:
    """Says how much better the average is than one sample, in PSNR; empty where there is no average."""
    if gain is None or samples < 2:
        return ""
    text = f"The average of {samples} samples has {gain.mean:+.2f} dB PSNR against one sample"
    if gain.interval is None:
        return f"{text} (one field of view: no interval)."
    text += f" (95 % interval {gain.interval[0]:+.2f} to {gain.interval[1]:+.2f} dB over {gain.fields} fields of view"
    significant = max(gain.bootstrap, gain.wilcoxon) < ALPHA
    return (
        f"{text}; {'significant' if significant else 'not significant'}, Wilcoxon p = {gain.wilcoxon:.2g})."
    )


def against_raw_in_words(gain: Difference | None, samples: int) -> str:
    """Says what the restoration brings over the low image, in PSNR; empty where there is no number.

    Args:
        gain: The restored image minus the low one.
        samples: Samples of each image.
    """
    if gain is None:
        return ""
    name = f"The average of {samples} samples" if samples > 1 else "The restored image"
    ends = f" (95 % interval {gain.interval[0]:+.2f} to {gain.interval[1]:+.2f} dB)" if gain.interval else ""
    text = f"{name} has {gain.mean:+.2f} dB PSNR against the low image{ends}"
    if gain.mean > 0:
        return f"{text}."
    return f"**{text}: the restoration is worse than its input. Do not use this model on these images.**"


def averaging_in_words(averaging: dict[str, Any] | None) -> str:
    """Says whether averaging more samples still helps; empty where there is nothing to say."""
    if averaging is None:
        return ""
    samples, ratio = averaging["samples"], averaging["ratio"]
    if averaging["psnr_limit"] is None or not ratio == ratio:
        return f"The error of the mean of {samples} samples is all due to their scatter: no limit can be estimated yet."
    remaining, needed = averaging["remaining_db"], averaging["samples_needed"]
    more = f"endless averaging would bring another {remaining:.2f} dB"
    if averaging["suffices"]:
        verdict = f"{samples} samples suffice: {more} (less than {averaging['tolerance_db']:g} dB)"
    else:
        near = f"{averaging['tolerance_db']:g} dB"
        verdict = f"More samples still help: {more}; {needed} samples would come within {near} of it"
    interval = averaging["ratio_interval"]
    spread = f"b/a = {ratio:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
    if ratio < ALIKE:
        meaning = "below 1: the samples are more alike than samples from the true posterior would be"
    elif ratio > SCATTERED:
        meaning = "above 1: the samples scatter more than samples from the true posterior would"
    else:
        meaning = "close to 1, as for samples from the true posterior"
    if averaging["together"] == 2:
        return f"{verdict}. Samples come in pairs of antithetic noise, and the law counts pairs ({spread})."
    return f"{verdict}. {spread}, {meaning}."


def calibration_in_words(calibration: dict[str, Any] | None, conformal: dict[str, Any] | None = None) -> str:
    """Says whether the spread of the samples is an honest error bar; empty where there is nothing to say."""
    if calibration is None:
        return ""
    numbers, level = calibration["numbers"], calibration["level"]
    found = numbers["coverage"]["mean"]
    if abs(found - level) <= SLACK:
        verdict = "honest"
    else:
        verdict = "too narrow" if found < level else "too wide"
    text = f"Intervals from the spread of samples should hold {level:.0%} of the pixels, and hold "
    text += f"{found:.1%}: {verdict}."
    if conformal:
        text += (
            f" With the factor calibrated for {conformal['level']:.0%} ({conformal['factor']:.2f} standard deviations, "
            f"from {conformal['images']} images of {conformal['split']}) they hold {conformal['coverage']:.1%}."
        )
    elif verdict != "honest":
        text += " `evaluate` with split=val calibrate=true finds the factor that corrects them."
    return text


def range_in_words(beyond: dict[str, float]) -> str:
    """Warns of inputs that exceed the intensities of the training; empty where none does.

    Args:
        beyond: Share of the pixels outside of the range that the normalisation was fitted on, by image.
    """
    found = {image: share for image, share in beyond.items() if share > BEYOND}
    if not found:
        return ""
    worst = max(found, key=found.get)
    return (
        f"{len(found)} of {len(beyond)} inputs leave the range of intensities that the normalisation was fitted on, in "
        f"up to {found[worst]:.1%} of the pixels (image {worst}): compare bit depth, exposure and gain with those of "
        "the training."
    )


def summary_page(summary: dict[str, Any], diagnoses: Sequence[Diagnosis], figures: Sequence[str]) -> str:
    """Returns the page.

    Args:
        summary: Content of ``summary.json``.
        diagnoses: The three signatures of failure.
        figures: Files in ``figures/`` that were drawn.
    """
    sections = [_head(summary), _numbers(summary)]
    if summary["averaging"]:
        sections.append(_averaging(summary, figures))
    if summary["realism"]:
        sections.append(_realism(summary, figures))
    if summary["calibration"]:
        sections.append(_calibration(summary, figures))
    else:
        sections.append(["## Uncertainty", "", f"None: {summary['no_calibration']}."])
    sections += [
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
        lines.append(
            f"- **{len(summary['failed'])} images could not be scored**; they are listed at the end."
        )
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
        "the scale of the target, `single` the first sample, `average` the mean of all samples.",
        "",
        *estimator_table(estimators, length),
    ]
    if further := further_table(estimators, length):
        lines += ["", *further]
    for protocol, others in summary["also"].items():
        lines += ["", f"Protocol `{protocol}`: {PROTOCOLS[protocol]}.", "", *estimator_table(others, length)]
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
        "## Does averaging still help?",
        "",
        averaging_in_words(averaging),
        f"The law MSE(K) = a + b/K, with K {averaging['counts']}: a = {averaging['a']:.4g}, b = {averaging['b']:.4g} "
        "in squared units of the target's range. b/a = 1 for samples from the true posterior, whose averaging gains "
        "3.01 dB at most.",
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
        "## Between the mean and a sample",
        "",
        "mean + λ (sample − mean), mean over images: as faithful as the mean of 1/λ² samples, at the price of one "
        "(`sampler.realism=λ` for `pmrf` and `residual_flow`).",
        "",
        *realism_table(summary["realism"]),
    ]
    return lines + _figure("realism.png", "PSNR and LPIPS between the mean and a sample", figures)


def _worse_by_averaging(metrics: dict[str, dict[int, float]]) -> str:
    """Names the metrics that are best at fewer samples than all; empty where none is."""
    best = []
    for name, found in metrics.items():
        if not (arrow := ARROWS[name]):
            continue
        number = (min if arrow == "↓" else max)(found, key=found.get)
        if abs(found[max(found)] / found[number] - 1) > WORSE:
            best.append(f"{name} is best at {number}")
    if not best:
        return ""
    return f"Not every metric gains from all samples: {', '.join(best)}. Averaging blurs what samples disagree about."


def _calibration(summary: dict[str, Any], figures: Sequence[str]) -> list[str]:
    calibration = summary["calibration"]
    explained = {
        "coverage": f"share of pixels in their {calibration['level']:.0%} interval; ideal {calibration['level']:g}",
        "ece": "mean distance of found and stated coverage; ideal 0",
        "ence": "relative distance of spread and error in bins; ideal 0, above 0 for few samples",
        "spread_skill": "spread / error; ideal 1, below is overconfident",
        "spearman": "rank correlation of spread and error over pixels; ideal 1",
        "ause": "area between the curves of sparsification; ideal 0",
        "rank_divergence": "distance of the rank histogram from flat, in nats; ideal 0",
        "crps": "continuous ranked probability score, in units of the target's range; smaller is better",
    }
    numbers = calibration["numbers"]
    lines = [
        "## Can the uncertainty be trusted?",
        "",
        calibration_in_words(calibration, summary["conformal"]),
        f"Judged on {calibration['samples']} samples of each image.",
        "",
        "| measure | median [95 % interval] | meaning |",
        "| --- | --- | --- |",
        *(f"| {name} | {cell(numbers[name])} | {text} |" for name, text in explained.items()),
    ]
    if (between := calibration["spearman_between_images"]) is not None:
        lines += ["", f"Between images, spread and error have a rank correlation of {between:.2f}."]
    return lines + _figure("calibration.png", "Calibration of the spread of the samples", figures)


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
        "scores.png": "The numbers of every image",
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
        f"{summary['nfe_per_sample']} network evaluations each, seed {summary['seed']}"
        + (", in bfloat16" if summary["bfloat16"] else ""),
        "re-alignment": "shifts undone before scoring" if summary["align"] else "none",
        "LPIPS": f"AlexNet backbone `{summary['lpips_backbone'][:16]}…`, grey repeated to three channels, clamped"
        if summary["lpips_backbone"]
        else "absent",
        "intervals": "95 %, bootstrap of 4999 resamples of whole fields of view",
        "versions": ", ".join(f"{name} {version}" for name, version in summary["versions"].items()),
        "files": "`metrics.csv` (a row for each image and estimator), `uncertainty.csv`, `summary.json`",
    }
    return ["## How it was measured", "", *(f"- {name}: {text}" for name, text in entries.items())]


def _absent(summary: dict[str, Any]) -> list[str]:
    reasons = absent_in_words(summary)
    numbers = [
        n for e in summary["estimators"].values() for metric, n in e.items() if n and metric != "absent"
    ]
    if without := sorted({n["no_interval"] for n in numbers if "no_interval" in n}):
        reasons["intervals"] = "; ".join(without)
    return ["## Absent", "", *(f"- {name}: {text}" for name, text in reasons.items())] if reasons else []
