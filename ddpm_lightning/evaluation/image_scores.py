"""Scores a trained method on images, each as a whole.

Three estimators are compared: ``raw`` (the low image itself, on the scale of the target), ``single`` (the first sample)
and ``average`` (the mean of all samples). If an image cannot be read, restored or scored, its rows contain the reason
instead of scores, and the evaluation continues.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddpm_lightning.data.normalise import without_offset
from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.evaluation.distribution_shift import describe_input
from ddpm_lightning.evaluation.readouts import ImageReadouts, image_readouts
from ddpm_lightning.evaluation.restored_pair import Restored, full_scale, restore_pair, std_moments_of
from ddpm_lightning.evaluation.sample_metrics import SampleMetrics
from ddpm_lightning.evaluation.spectra import Spectra, spectra_of
from ddpm_lightning.evaluation.uncertainty import SampleUncertainty
from ddpm_lightning.inference.readouts import PlaneReadouts
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.collection import METRICS, REFERENCE_METRICS, SAMPLE_METRICS, Score, score
from ddpm_lightning.metrics.std_factor import StdMoments
from ddpm_lightning.readouts.readout import Readout
from ddpm_lightning.utils.errors import UserError

if TYPE_CHECKING:
    from ddpm_lightning.metrics.lpips import Lpips

__all__ = [
    "ESTIMATORS",
    "ImageScores",
    "Row",
    "Scoring",
    "granted",
    "score_image",
    "score_images",
    "with_uncertainty",
]

ESTIMATORS = ("raw", "single", "average")


@dataclass(frozen=True)
class Scoring:
    """How images are scored.

    Attributes:
        protocol: ``paper``, ``range`` or ``affine``.
        samples: Samples of each image.
        lpips: The loaded perceptual metric, or the reason why there is none.
        resolution: Whether the resolution is estimated.
        also: Further protocols.
        align: Whether a shift of the restored image is undone before it is scored.
        squirrel: Whether the restored image, blurred back, is compared with its input.
        level: Nominal coverage of intervals.
        truth: What is scored against: ``recorded``, or the ``clean`` image without noise of a simulation.
        preset: Name of the sampler and number of samples, stored with the numbers.
        spectra: Whether power spectra and correlations by frequency are computed.
        realism: Values of λ at which mean + λ (sample - mean) is scored.
        readouts: What is measured in restored and clean images.
    """

    protocol: str = "range"
    samples: int = 15
    lpips: "Lpips | str | None" = None
    resolution: bool = False
    also: tuple[str, ...] = ()
    align: bool = False
    squirrel: bool = False
    level: float = 0.9
    truth: str = "recorded"
    spectra: bool = True
    preset: str = ""
    realism: tuple[float, ...] = ()
    readouts: tuple[Readout, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """Numbers of samples whose mean is scored: powers of two, and all samples."""
        return sorted(
            {2**k for k in range(self.samples.bit_length()) if 2**k < self.samples} | {self.samples}
        )


@dataclass(frozen=True)
class Row:
    """The numbers of one image and estimator.

    Attributes:
        image: Name of the pair.
        field: Field of view.
        estimator: ``raw``, ``single`` or ``average``.
        values: Numbers by metric.
        absent: Reasons by metric, where there is no number.
        facts: Protocol, truth, range, denominator, and what else belongs to the numbers.
    """

    image: str
    field: str
    estimator: str
    values: dict[str, float]
    absent: dict[str, str]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class ImageScores:
    """Everything that is measured on one image; small enough to be sent between processes.

    Attributes:
        index: Number of the pair in its split.
        rows: A row for each estimator, under the protocol of the evaluation.
        also: The same for each further protocol.
        against_number: Numbers of the mean of the first N samples, by N.
        uncertainty: How well the samples predict their own error, or ``None``.
        no_uncertainty: Why it is ``None``.
        spectra: Power and agreement with the target by spatial frequency, or ``None``.
        input: Features of the normalised low image.
        out_of_range: Share of the pixels of the low image outside of the range that the normalisation was fitted on.
        pixel_size: Size of a pixel in µm, or ``None``.
        against_realism: Numbers of mean + λ (sample - mean), by λ.
        failed: Why the image could not be restored; empty where it could.
        target: Hash of the clean image: equal ones show the same place.
        std_moments: How large the standard deviation and the error of the average are; ``None`` for one sample.
        readouts: What was measured, or ``None``.
    """

    index: int
    rows: list[Row]
    also: dict[str, list[Row]] = dataclasses.field(default_factory=dict)
    against_number: dict[int, dict[str, float]] = dataclasses.field(default_factory=dict)
    uncertainty: SampleUncertainty | None = None
    no_uncertainty: str = ""
    spectra: Spectra | None = None
    input: dict[str, float] = dataclasses.field(default_factory=dict)
    out_of_range: float = 0.0
    pixel_size: float | None = None
    against_realism: dict[float, dict[str, float]] = dataclasses.field(default_factory=dict)
    failed: str = ""
    target: str = ""
    std_moments: StdMoments | None = None
    readouts: ImageReadouts | None = None


def with_uncertainty(scores: Sequence[ImageScores]) -> list[tuple[ImageScores, SampleUncertainty]]:
    """Returns the images whose samples could be compared with their error, each with the result."""
    return [(image, image.uncertainty) for image in scores if image.uncertainty is not None]


def score_images(
    restorer: Restorer,
    source: PairSource,
    scoring: Scoring,
    indices: Iterable[int],
    on_image: Callable[[Restored, ImageScores], None] | None = None,
) -> Iterator[ImageScores]:
    """Yields the scores of each image.

    Args:
        restorer: A loaded model.
        source: The pairs of a split.
        scoring: How images are scored.
        indices: Which pairs.
        on_image: Called with all versions of each image and its scores.
    """
    for index in indices:
        name = field = f"number {index}"
        try:
            pair = source[index]
            name, field = pair.name, pair.field
            restored, readouts = _restored(restorer, pair, scoring)
        except UserError as error:
            yield _failed(index, name, field, scoring, " ".join(str(error).split()))
            continue
        scores = replace(score_image(index, restored, scoring, restorer), readouts=readouts)
        if on_image is not None:
            on_image(restored, scores)
        yield scores


def _restored(restorer: Restorer, pair: Pair, scoring: Scoring) -> tuple[Restored, ImageReadouts | None]:
    """Makes all versions of an image, and measures them on request."""
    if not scoring.readouts:
        return restore_pair(restorer, pair, scoring.numbers), None
    readouts = PlaneReadouts(scoring.readouts, restorer.trained, scoring.samples, pair.pixel_size)
    restored = restore_pair(restorer, pair, scoring.numbers, readouts.add_sample)
    return restored, image_readouts(restorer, restored, readouts)


def score_image(index: int, restored: Restored, scoring: Scoring, restorer: Restorer) -> ImageScores:
    """Scores all versions of one image.

    Args:
        index: Number of the pair in its split.
        restored: All versions of the image.
        scoring: How they are scored.
        restorer: The model that restored them.
    """
    pair, target = restored.pair, restored.high
    black, white = full_scale(restorer.normalisation, replace(pair, low=restored.low))

    def scored(image: np.ndarray, protocol: str, **further: Any) -> Score:
        return score(
            torch.from_numpy(image)[None, None],
            torch.from_numpy(target)[None, None],
            protocol,
            full_scale=(black - restored.offset, white - restored.offset),
            pixel_size=pair.pixel_size,
            lpips=scoring.lpips,
            align=scoring.align,
            **further,
        )

    def rows(protocol: str) -> list[Row]:
        return [_row(restored, estimator, scoring, protocol, scored) for estimator in ESTIMATORS]

    main = rows(scoring.protocol)
    samples = SampleMetrics(restored, restorer.method.antithetic, scoring.level, granted(main))
    versions = {**{name: getattr(restored, name) for name in ESTIMATORS}, "target": target}
    normalised = restorer.normalisation.input.scale(restored.low).normalise(restored.low)
    low, high = restorer.normalisation.input_bounds
    return ImageScores(
        index,
        _with_samples(main, samples),
        {protocol: _with_samples(rows(protocol), samples) for protocol in scoring.also},
        _against_number(restored, main, lambda image: scored(image, scoring.protocol).values),
        samples.uncertainty,
        samples.no_uncertainty,
        spectra_of(versions) if scoring.spectra else None,
        describe_input(normalised),
        float(((normalised < low) | (normalised > high)).mean()),
        pair.pixel_size,
        _against_realism(restored, scoring, lambda image: scored(image, scoring.protocol).values),
        target=sha256(np.ascontiguousarray(pair.high).tobytes()).hexdigest(),
        std_moments=std_moments_of(restorer, restored) if restored.samples > 1 else None,
    )


def _row(
    restored: Restored, estimator: str, scoring: Scoring, protocol: str, scored: Callable[..., Score]
) -> Row:
    """Scores one estimator under one protocol."""
    reference = None
    if scoring.squirrel and estimator != "raw":
        reference = torch.from_numpy(without_offset(restored.low)[0])[None, None]
    image: np.ndarray = getattr(restored, estimator)
    found = scored(image, protocol, resolution=scoring.resolution, extra=True, reference=reference)
    absent = found.absent
    if scoring.squirrel and estimator == "raw":
        absent = absent | dict.fromkeys(REFERENCE_METRICS, "it is itself what others are compared with")
    facts = {**found.facts, "truth": scoring.truth, "level": scoring.level}
    facts |= {"preset": scoring.preset} if scoring.preset else {}
    return Row(restored.pair.name, restored.pair.field, estimator, found.values, absent, facts)


def _with_samples(rows: Sequence[Row], samples: SampleMetrics) -> list[Row]:
    """Returns the rows with the metrics of samples, after the gain and offset that the protocol grants each."""
    found = [samples.of(row.estimator, _fit(row.facts)) for row in rows]
    return [
        replace(row, values=row.values | values, absent=row.absent | absent)
        for row, (values, absent) in zip(rows, found, strict=True)
    ]


def _against_number(
    restored: Restored, main: Sequence[Row], values: Callable[[np.ndarray], dict[str, float]]
) -> dict[int, dict[str, float]]:
    """Returns the numbers of the mean of the first N samples, by N."""
    found = {1: dict(main[1].values)}
    if restored.average is restored.means[restored.samples]:
        found[restored.samples] = dict(main[2].values)
    for number in restored.means.keys() - found.keys():
        found[number] = values(restored.means[number])
    return dict(sorted(found.items()))


def _against_realism(
    restored: Restored,
    scoring: Scoring,
    values: Callable[[np.ndarray], dict[str, float]],
) -> dict[float, dict[str, float]]:
    """Returns the numbers of mean + λ (sample - mean), by λ."""
    if not scoring.realism or restored.samples < 2:
        return {}
    mean = restored.average if restored.posterior_mean is None else restored.posterior_mean
    return {
        weight: values(mean + np.float32(weight) * (restored.single - mean)) for weight in scoring.realism
    }


def granted(rows: Sequence[Row]) -> tuple[float, float]:
    """Returns the gain and the offset that the protocol grants the average: 1 and 0 where it grants none."""
    return _fit(next(row.facts for row in rows if row.estimator == "average"))


def _fit(facts: dict[str, Any]) -> tuple[float, float]:
    return float(facts.get("alpha", 1.0)), float(facts.get("beta", 0.0))


def _failed(index: int, image: str, field: str, scoring: Scoring, reason: str) -> ImageScores:
    def rows(protocol: str) -> list[Row]:
        absent: dict[str, str] = dict.fromkeys((*METRICS, *SAMPLE_METRICS), reason)
        facts = {"protocol": protocol, "truth": scoring.truth}
        return [Row(image, field, estimator, {}, absent, facts) for estimator in ESTIMATORS]

    return ImageScores(
        index,
        rows(scoring.protocol),
        {name: rows(name) for name in scoring.also},
        no_uncertainty=reason,
        failed=reason,
    )
