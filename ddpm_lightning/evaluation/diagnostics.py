"""Three signatures of failure that the mean numbers hide, each with a verdict in a plain sentence.

- *Over-smoothing*: the restoration lacks power at fine scales, compared with the target, or has too much of it.
- *Inconsistent samples*: what the samples disagree about is not what they get wrong.
- *Poor generalisation*: the inputs are of a kind that the model was not trained on.

arXiv 2409.12078 warns of these three. Titles and verdicts are derived from the numbers. A verdict only shows where to
look; rely on the figure and the numbers. The thresholds are conventions of this program.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

import numpy as np

from ddpm_lightning.evaluation.distribution_shift import BANDS, InputReference
from ddpm_lightning.evaluation.image_scores import ImageScores, with_uncertainty

__all__ = [
    "Diagnosis",
    "common_pixel_size",
    "diagnose",
    "inconsistent_samples",
    "over_smoothing",
    "poor_generalisation",
]

Verdict = Literal["fine", "suspect", "unknown"]

#: Fine power, relative to that of the target, below which an image has too little of it, and above which too much.
LITTLE, MUCH = 0.5, 1.5
#: Standard deviation over error, which is 1 for calibrated samples; outside this range, samples are inconsistent.
NARROW, WIDE = 0.67, 1.5
#: Rank correlation of standard deviation and error over pixels below which samples disagree in the wrong places.
WEAK = 0.3
#: Share of the images that may be outside the training distribution by chance.
CHANCE = 0.1
#: Fewest training images that make a reference.
FEWEST_REFERENCES = 8

NAMES = {
    "mean": "mean intensity",
    "dark": "dark end of the intensities",
    "bright": "bright end of the intensities",
    "noise": "noise level",
    "correlation": "correlation of the noise of neighbouring pixels",
}


@dataclass(frozen=True)
class Diagnosis:
    """What was found about one signature.

    Attributes:
        title: What was found, in a few words.
        verdict: ``fine``, ``suspect`` or ``unknown``.
        sentence: The finding in words.
        figure: File in the folder of figures that shows it.
        numbers: The numbers behind the sentence.
    """

    title: str
    verdict: Verdict
    sentence: str
    figure: str
    numbers: dict[str, Any] = field(default_factory=dict)


def over_smoothing(scores: Sequence[ImageScores], pixel_size: float | None = None) -> Diagnosis:
    """Compares the power of single samples and of their average with that of the target, in its finest octave.

    Args:
        scores: Scores of each image.
        pixel_size: Size of a pixel in µm; lengths are then in nm, else in pixels.
    """
    figure = "spectrum.png"
    having = [found.spectra for found in scores if found.spectra is not None and found.spectra.octave]
    if not having:
        reason = "In no image does the target stand out from its noise at more than the coarsest scales."
        return Diagnosis("Fine structure", "unknown", reason, figure)
    low, high = np.median([spectra.octave for spectra in having if spectra.octave], axis=0)
    names = ("single", "average")
    ratio = {name: float(np.median([spectra.octave_ratio[name] for spectra in having])) for name in names}
    periods = _lengths(high, low, pixel_size)
    place = f"At the finest scales where the target stands out from its noise (periods of {periods})"
    shares = f"a single sample has {ratio['single']:.0%} of the target's power and the average {ratio['average']:.0%}"
    if max(ratio.values()) > MUCH:
        title, verdict, word = (
            "Too much fine structure",
            "suspect",
            "samples hold more fine structure than the target: noise is left, or detail invented",
        )
    elif ratio["single"] < LITTLE:
        title, verdict, word = (
            "Over-smoothing",
            "suspect",
            "already the single samples are too smooth: the model does not make fine structure",
        )
    elif ratio["average"] < LITTLE:
        title, verdict, word = (
            "Over-smoothing by averaging",
            "suspect",
            "samples have fine structure, but disagree about it: the average blurs it away",
        )
    else:
        title, verdict, word = "Fine structure", "fine", "no over-smoothing"
    numbers = {"periods_px": [1 / high, 1 / low], **ratio, "images": len(having)}
    return Diagnosis(title, verdict, f"{place} {shares}: {word}.", figure, numbers)


def inconsistent_samples(scores: Sequence[ImageScores]) -> Diagnosis:
    """Compares the standard deviation of the samples with their error, in size and in place."""
    figure = "samples.png"
    having = with_uncertainty(scores)
    if not having:
        reason = next(
            (found.no_uncertainty for found in scores if found.no_uncertainty), "there are no samples"
        )
        sentence = f"The samples cannot be compared with each other: {reason}."
        return Diagnosis("Consistency of the samples", "unknown", sentence, figure)
    values = [uncertainty.measures.values() for _, uncertainty in having]
    medians = {}
    for name in ("spread", "skill", "spread_skill", "spearman"):
        numbers = [value[name] for value in values if isfinite(value[name])]
        medians[name] = float(np.median(numbers)) if numbers else float("nan")
    share = float(np.median([uncertainty.concentration for _, uncertainty in having]))
    worst, _ = max(having, key=lambda found: (found[1].measures.spread_skill.spread, -found[0].index))
    ratio, rank = medians["spread_skill"], medians["spearman"]
    sizes = (
        "Judging by the standard deviation of the samples, their average should be off by "
        f"{medians['spread']:.1%} of the target's "
        f"range, and it is off by {medians['skill']:.1%} (ratio {ratio:.2f})"
    )
    if ratio < NARROW:
        title, verdict = "Overconfident samples", "suspect"
        word = "the samples agree more than they are right: they are overconfident"
    elif ratio > WIDE:
        title, verdict, word = "Underconfident samples", "suspect", "the samples scatter more than they err"
    else:
        title, verdict, word = (
            "Consistent samples",
            "fine",
            "the standard deviation is about as large as the error",
        )
    place = f"Over the pixels, standard deviation and error have a rank correlation of {rank:.2f}"
    if not rank >= WEAK:
        title = (
            "Disagreement in the wrong places"
            if verdict == "fine"
            else f"{title}, disagreement in the wrong places"
        )
        verdict, place = "suspect", f"{place}: the samples disagree in the wrong places"
    where = (
        f"Half of the variance sits in {share:.1%} of the pixels; the samples disagree most in image "
        f"{worst.rows[0].image}, shown in the figure"
    )
    numbers = {**medians, "half_of_variance_in": share, "most_in": worst.rows[0].image}
    return Diagnosis(title, verdict, f"{sizes}: {word}. {place}. {where}.", figure, numbers)


def poor_generalisation(
    scores: Sequence[ImageScores], reference: InputReference | None, no_reference: str = ""
) -> Diagnosis:
    """Compares the inputs with those of the training set.

    Args:
        scores: Scores of each image.
        reference: Features of training images.
        no_reference: Why there is no reference.
    """
    figure = "inputs.png"
    having = [found for found in scores if found.input]
    known = len(next(iter(reference.features.values()))) if reference else 0
    if not having or reference is None or known < FEWEST_REFERENCES:
        reason = no_reference or f"only {known} training images to compare with, {FEWEST_REFERENCES} needed"
        sentence = f"Whether the inputs resemble those of the training cannot be said: {reason}."
        return Diagnosis("Kind of the inputs", "unknown", sentence, figure)
    outside = {found.rows[0].image: reference.outside(found.input) for found in having}
    outside = {image: names for image, names in outside.items() if names}
    shifted = reference.shifted([found.input for found in having])
    numbers = {"images": len(having), "outside": outside, "shifted": shifted, "training_images": known}
    many = len(outside) > max(1, CHANCE * len(having))
    if outside:
        count = f"{len(outside)} of {len(having)} inputs are outside the range of {known} training inputs"
        # What most of them have in common comes first.
        most = max(reference.features, key=lambda name: sum(name in names for names in outside.values()))
        chosen = [found for found in having if most in outside.get(found.rows[0].image, ())]
        parts = [f"{count}, most often by their {_compared(most, chosen, reference)}"]
    else:
        parts = [
            f"None of {len(having)} inputs differs by itself from {known} training inputs in intensities, noise "
            "level or power spectrum"
        ]
    if shifted:
        most_apart = _compared(shifted[0], having, reference)
        parts.append(f"but as a set they are unlike the training inputs, most in their {most_apart}")
    if many:
        advice = "what was measured on other data does not hold here; train on images like these, or record them alike"
    elif shifted:
        advice = "numbers measured on other data may not hold here; look how far apart they are"
    else:
        advice = "single outliers are worth a look" if outside else "nothing speaks against the model here"
    if many or shifted:
        title, verdict = "Inputs unlike the training images", "suspect"
    else:
        title, verdict = "Inputs like the training images", "fine"
    return Diagnosis(title, verdict, f"{'; '.join(parts)}: {advice}.", figure, numbers)


def _compared(name: str, scores: Sequence[ImageScores], reference: InputReference) -> str:
    """Returns a feature of the inputs and of the training images, in words."""
    here = np.median([found.input[name] for found in scores])
    low, middle, high = np.quantile(reference.features[name], (0, 0.5, 1))
    training = f"training {low:.3g} to {high:.3g}, median {middle:.3g}"
    return f"{feature_name(name)} (median {here:.3g}, {training}, normalised scale)"


def feature_name(feature: str) -> str:
    """Returns the name of a feature for people."""
    if feature in NAMES:
        return NAMES[feature]
    band = int(feature.removeprefix("power_"))
    return f"power at periods of {1 / BANDS[band + 1]:.0f} to {1 / BANDS[band]:.0f} px (log10)"


def _lengths(high: float, low: float, pixel_size: float | None) -> str:
    if pixel_size is None:
        return f"{1 / high:.1f} to {1 / low:.1f} px"
    return f"{1000 * pixel_size / high:.0f} to {1000 * pixel_size / low:.0f} nm"


def diagnose(
    scores: Sequence[ImageScores], reference: InputReference | None, no_reference: str = ""
) -> list[Diagnosis]:
    """Looks for the three signs of failure.

    Args:
        scores: Scores of each image.
        reference: Features of training images, or ``None``.
        no_reference: Why there is no reference.
    """
    return [
        over_smoothing(scores, common_pixel_size(scores)),
        inconsistent_samples(scores),
        poor_generalisation(scores, reference, no_reference),
    ]


def common_pixel_size(scores: Sequence[ImageScores]) -> float | None:
    """Returns the size of a pixel in µm, if it is the same in all images."""
    sizes = {image.pixel_size for image in scores if not image.failed}
    return sizes.pop() if len(sizes) == 1 else None
