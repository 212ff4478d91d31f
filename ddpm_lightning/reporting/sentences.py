"""What the numbers of an evaluation mean, in sentences for ``summary.md`` and the report page."""

from typing import Any

from ddpm_lightning.evaluation.statistics import ALPHA, Difference

__all__ = [
    "against_raw_in_words",
    "averaging_in_words",
    "calibration_in_words",
    "gain_in_words",
    "range_in_words",
    "sentences",
    "std_map_in_words",
]

#: Ratio b / a below which samples are too similar, and above which they vary too much.
SIMILAR, VARIED = 0.8, 1.25
#: Deviation of the coverage from its nominal value that still counts as calibrated.
SLACK = 0.03
#: Share of the pixels of an input that may exceed the range of the training: a few hot pixels do.
OUT_OF_RANGE = 0.001


def sentences(summary: dict[str, Any]) -> list[str]:
    """Returns what an evaluation says, the most important first.

    Args:
        summary: Result of :func:`ddpm_lightning.evaluation.split_summary.split_summary`.
    """
    samples = summary["samples"]
    gain, over_raw = (
        Difference.of(found) if (found := summary[name].get("psnr")) else None
        for name in ("gain", "gain_over_raw")
    )
    useless = over_raw is not None and over_raw.mean <= 0
    found = [
        against_raw_in_words(over_raw, samples),
        gain_in_words(gain, samples),
        # Averaging also helps samples that are worse than the input: to say so would sound like praise.
        "" if useless else averaging_in_words(summary["averaging"]),
        calibration_in_words(summary["calibration"], summary["conformal"]),
        std_map_in_words(summary["std_map"]),
        range_in_words(summary["out_of_range"]),
        *(
            f"{one['title']}: {one['sentence']}"
            for one in summary["diagnostics"]
            if one["verdict"] == "suspect"
        ),
    ]
    return [sentence for sentence in found if sentence]


def gain_in_words(gain: Difference | None, samples: int) -> str:
    """Says how much better the average is than one sample, in PSNR; empty if there is no average."""
    if gain is None or samples < 2:
        return ""
    text = f"The average of {samples} samples has {gain.mean:+.2f} dB PSNR compared with one sample"
    if gain.interval is None or gain.student is None or gain.wilcoxon is None:
        return f"{text} (one field of view: no interval)."
    low, high = gain.interval
    significant = max(gain.student, gain.wilcoxon) < ALPHA
    return (
        f"{text} (95 % interval {low:+.2f} to {high:+.2f} dB over {gain.fields} fields of view; "
        f"{'significant' if significant else 'not significant'}, Wilcoxon p = {gain.wilcoxon:.2g})."
    )


def against_raw_in_words(gain: Difference | None, samples: int) -> str:
    """Says how much better the restored image is than the low image, in PSNR; empty if there is no number.

    Args:
        gain: The restored image minus the low one.
        samples: Samples of each image.
    """
    if gain is None:
        return ""
    name = f"The average of {samples} samples" if samples > 1 else "The restored image"
    ends = f" (95 % interval {gain.interval[0]:+.2f} to {gain.interval[1]:+.2f} dB)" if gain.interval else ""
    text = f"{name} has {gain.mean:+.2f} dB PSNR compared with the low image{ends}"
    if gain.mean > 0:
        return f"{text}."
    return f"**{text}: the restoration is worse than its input. Do not use this model on these images.**"


def averaging_in_words(averaging: dict[str, Any] | None) -> str:
    """Says whether averaging more samples would still help; empty if nothing is known about it."""
    if averaging is None:
        return ""
    samples, ratio = averaging["samples"], averaging["ratio"]
    if averaging["psnr_limit"] is None or not ratio == ratio:
        return (
            f"The error of the mean of {samples} samples comes from the variance of the samples alone: the gain from "
            "more samples cannot be estimated yet."
        )
    remaining, tolerance = averaging["remaining_db"], averaging["tolerance_db"]
    more = f"infinitely many would gain another {remaining:.2f} dB"
    if averaging["suffices"]:
        verdict = f"{samples} samples are enough: {more} (less than {tolerance:g} dB)"
    else:
        needed = averaging["samples_needed"]
        verdict = (
            f"More samples would help: {more}; {needed} samples would be within {tolerance:g} dB of that"
        )
    interval = averaging["ratio_interval"]
    value = f"b/a = {ratio:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
    if averaging["together"] == 2:
        return f"{verdict}. Samples come in pairs of antithetic noise, and K counts pairs ({value})."
    if ratio < SIMILAR:
        meaning = "below 1: the samples are more similar to each other than samples from the true posterior"
    elif ratio > VARIED:
        meaning = "above 1: the samples vary more than samples from the true posterior"
    else:
        meaning = "close to 1, as for samples from the true posterior"
    return f"{verdict}. {value}, {meaning}."


def calibration_in_words(calibration: dict[str, Any] | None, conformal: dict[str, Any] | None = None) -> str:
    """Says whether the standard deviation of the samples is a calibrated error bar; empty if that is unknown."""
    if calibration is None:
        return ""
    level, found = calibration["level"], calibration["numbers"]["coverage"]["mean"]
    if abs(found - level) <= SLACK:
        verdict = "well calibrated"
    else:
        verdict = "too narrow" if found < level else "too wide"
    text = (
        f"Intervals from the standard deviation of the samples should contain {level:.0%} of the target's pixels, and "
        f"contain {found:.1%}: {verdict}."
    )
    if conformal:
        text += (
            f" With the factor calibrated for {conformal['level']:.0%} ({conformal['factor']:.2f} standard deviations, "
            f"from {conformal['images']} images of {conformal['split']}), they contain {conformal['coverage']:.1%}."
        )
    elif verdict != "well calibrated":
        text += " `evaluate` with split=val calibrate=true finds the factor that corrects them."
    return text


def std_map_in_words(found: dict[str, Any] | None) -> str:
    """Says how large the standard deviation that ``restore`` writes is; empty if the model has no factor for it."""
    if found is None or found["factor"] is None:
        return ""
    return (
        f"`restore` multiplies the standard deviation by {found['factor']:.2f} (measured on {found['from']}): here it "
        f"is then {found['ratio']:.2f} times the error, and the 90 % intervals from it contain {found['coverage']:.1%}."
    )


def range_in_words(out_of_range: dict[str, float]) -> str:
    """Warns of inputs that exceed the intensities of the training; empty if none does.

    Args:
        out_of_range: Share of the pixels outside of the range that the normalisation was fitted on, by image.
    """
    found = {image: share for image, share in out_of_range.items() if share > OUT_OF_RANGE}
    if not found:
        return ""
    worst = max(found, key=lambda image: found[image])
    return (
        f"{len(found)} of {len(out_of_range)} inputs exceed the range of intensities that the normalisation was fitted "
        f"on, in up to {found[worst]:.1%} of the pixels (image {worst}): compare bit depth, exposure and gain with "
        "those of the training images."
    )
