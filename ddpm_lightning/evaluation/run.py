"""Scores a trained method on the images of a split, each by itself and whole.

Three estimators stand side by side: ``raw`` (the low image itself, on the target's scale), ``single`` (the first
sample) and ``average`` (the mean of all samples). An image that cannot be read, restored or scored has rows without
numbers, with the reason: it does not end the evaluation of the others.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from ddpm_lightning.data.defects import repaired
from ddpm_lightning.data.normalise import PairNormalisation, without_offset
from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.diffusion.ensemble import Ensemble
from ddpm_lightning.evaluation.distribution_shift import describe_input
from ddpm_lightning.evaluation.spectra import Spectra, spectra_of
from ddpm_lightning.evaluation.uncertainty import SampleUncertainty, sample_uncertainty
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.collection import METRICS, REFERENCE_METRICS, score
from ddpm_lightning.utils.errors import UserError

__all__ = ["ESTIMATORS", "ImageScores", "Restored", "Row", "Scoring", "evaluate", "raw_on_target_scale"]

ESTIMATORS = ("raw", "single", "average")
#: Samples that are kept whole for pictures.
SHOWN = 3
#: Pixels of each sample that are kept to judge their spread; larger images are thinned on a regular grid.
KEPT_PIXELS = 2**18


@dataclass(frozen=True)
class Scoring:
    """How images are scored.

    Attributes:
        protocol: ``paper``, ``range`` or ``affine``.
        samples: Samples of each image.
        lpips: The loaded perceptual metric, or ``None``.
        resolution: Whether the resolution is estimated.
        also: Further protocols.
        align: Whether a shift of the restored image is undone before it is scored.
        squirrel: Whether the restored image, blurred back, is compared with its input.
        level: Nominal coverage of intervals.
        preset: Name of the way of drawing; it stands beside the numbers.
        curves: Whether spectra and correlations by frequency are computed.
        realism: Values of λ at which the way from the mean to a sample is scored.
    """

    protocol: str = "range"
    samples: int = 15
    lpips: Any = None
    resolution: bool = False
    also: tuple[str, ...] = ()
    align: bool = False
    squirrel: bool = False
    level: float = 0.9
    curves: bool = True
    preset: str = ""
    realism: tuple[float, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """How many samples are averaged to see what averaging brings: powers of two, and all."""
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
        facts: Protocol, range, denominator, and what else belongs to the numbers.
    """

    image: str
    field: str
    estimator: str
    values: dict[str, float]
    absent: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Restored:
    """All versions of one image with shape (H, W), float32, on the scale of the target less its ``offset``.

    Attributes:
        pair: The pair.
        low: The low image as the network sees it, in intensities of its file: without defective pixels.
        high: The clean image.
        offset: What was subtracted from all others but ``pair`` and ``low``, because float32 could not hold it with
            their contrast; 0 for nearly all images.
        raw: The low image.
        means: Mean of the first N samples, by N.
        std: Population standard deviation over all samples.
        samples: Number of samples.
        shown: The first few samples.
        thinned: All samples on a regular grid of pixels, with shape (N, h, w).
        stride: Distance of the pixels of that grid.
        gain: Intensities for each unit of the normalised scale.
    """

    pair: Pair
    low: np.ndarray
    high: np.ndarray
    offset: float
    raw: np.ndarray
    means: dict[int, np.ndarray]
    std: np.ndarray
    samples: int
    shown: list[np.ndarray]
    thinned: np.ndarray
    stride: int
    gain: float

    @property
    def single(self) -> np.ndarray:
        """The first sample."""
        return self.means[1]

    @property
    def average(self) -> np.ndarray:
        """The mean of all samples."""
        return self.means[self.samples]


@dataclass(frozen=True)
class ImageScores:
    """Everything that is found out about one image; small enough to be sent from process to process.

    Attributes:
        index: Number of the pair in its split.
        rows: A row for each estimator, under the protocol of the evaluation.
        also: The same for each further protocol.
        against_number: Numbers of the mean of the first N samples, by N.
        uncertainty: How well the samples predict their own error, or ``None``.
        no_uncertainty: Why it is ``None``.
        spectra: Power and agreement with the target by spatial frequency, or ``None``.
        input: Features of the normalised low image.
        beyond: Share of the pixels of the low image outside of the range that the normalisation was fitted on.
        pixel_size: Size of a pixel in µm, or ``None``.
        against_realism: Numbers on the way from the mean to a sample, by λ; see ``realism.py``.
        failed: Why the image could not be restored; empty where it could.
        target: Hash of the clean image: equal ones show the same place.
    """

    index: int
    rows: list[Row]
    also: dict[str, list[Row]] = field(default_factory=dict)
    against_number: dict[int, dict[str, float]] = field(default_factory=dict)
    uncertainty: SampleUncertainty | None = None
    no_uncertainty: str = ""
    spectra: Spectra | None = None
    input: dict[str, float] = field(default_factory=dict)
    beyond: float = 0.0
    pixel_size: float | None = None
    against_realism: dict[float, dict[str, float]] = field(default_factory=dict)
    failed: str = ""
    target: str = ""


def restore_pair(restorer: Restorer, pair: Pair, numbers: list[int]) -> Restored:
    """Makes all versions of one image.

    Args:
        restorer: A loaded model.
        pair: The pair.
        numbers: How many samples are averaged, in rising order; the last is the number of samples.
    """
    low, _ = restorer.prepared(pair.low)
    high, offset = without_offset(pair.high)
    ensemble, means, shown, thinned = Ensemble(), {}, [], []
    stride = int(np.ceil(np.sqrt(pair.low.size / KEPT_PIXELS)))
    for sample in restorer.samples(pair.low, numbers[-1], pair.name):
        sample = (sample - offset).astype(np.float32)
        ensemble.update(torch.from_numpy(sample))
        if ensemble.count in numbers or restorer.method.deterministic:
            means[ensemble.count] = ensemble.mean.float().numpy()
        if len(shown) < SHOWN:
            shown.append(sample)
        thinned.append(sample[::stride, ::stride])
    scale = restorer.input_scale(low)
    raw = raw_on_target_scale(restorer, pair, low)
    return Restored(
        pair,
        low,
        high,
        offset,
        (raw - offset).astype(np.float32),
        means,
        ensemble.std.float().numpy(),
        ensemble.count,
        shown,
        np.stack(thinned),
        stride,
        restorer.normalisation.output_scale(scale).gain,
    )


def raw_on_target_scale(restorer: Restorer, pair: Pair, low: np.ndarray | None = None) -> np.ndarray:
    """Returns the low image in units of the high one, by the same maps that a restored image passes through.

    Args:
        restorer: A loaded model, which knows the maps.
        pair: The pair.
        low: The low image as the network sees it, which sets the scale; found here where it is not given.
    """
    scale = restorer.input_scale(repaired(pair.low)[0] if low is None else low)
    return restorer.normalisation.output_scale(scale).restore(scale.normalise(pair.low))


def full_scale(normalisation: PairNormalisation, pair: Pair) -> tuple[float, float]:
    """Returns black and white of the paper's protocol: 0 to 255 for 8-bit targets, else the target's stored scale."""
    if pair.high.dtype == np.uint8:
        return 0.0, 255.0
    _, scale = normalisation.scales(pair.low, pair.high)
    return scale.low, scale.high


def evaluate(
    restorer: Restorer,
    source: PairSource,
    scoring: Scoring,
    indices: range,
    on_image: Callable[[Restored, ImageScores], None] = lambda restored, scores: None,
) -> Iterator[ImageScores]:
    """Yields what is found out about each image.

    Args:
        restorer: A loaded model.
        source: The pairs of a split.
        scoring: How images are scored.
        indices: Which pairs.
        on_image: Called with all versions of each image and what was found out about it.
    """
    for index in indices:
        name = field = f"number {index}"
        try:
            pair = source[index]
            name, field = pair.name, pair.field
            restored = restore_pair(restorer, pair, scoring.numbers)
        except UserError as error:
            yield _failed(index, name, field, scoring, " ".join(str(error).split()))
            continue
        scores = score_image(index, restored, scoring, restorer)
        on_image(restored, scores)
        yield scores


def score_image(index: int, restored: Restored, scoring: Scoring, restorer: Restorer) -> ImageScores:
    """Scores all versions of one image."""
    pair = restored.pair
    target = torch.from_numpy(restored.high)[None, None]
    black, white = full_scale(restorer.normalisation, replace(pair, low=restored.low))
    common = {
        "full_scale": (black - restored.offset, white - restored.offset),
        "pixel_size": pair.pixel_size,
        "lpips": scoring.lpips,
        "align": scoring.align,
    }

    def rows(protocol: str) -> list[Row]:
        found = []
        for estimator in ESTIMATORS:
            scored = score(
                torch.from_numpy(getattr(restored, estimator))[None, None],
                target,
                protocol,
                resolution=scoring.resolution,
                extra=True,
                reference=torch.from_numpy(without_offset(restored.low)[0])[None, None]
                if scoring.squirrel and estimator != "raw"
                else None,
                **common,
            )
            absent = scored.absent
            if scoring.squirrel and estimator == "raw":
                absent = absent | dict.fromkeys(
                    REFERENCE_METRICS, "it is itself what others are compared with"
                )
            facts = {**scored.facts, "preset": scoring.preset} if scoring.preset else scored.facts
            found.append(Row(pair.name, pair.field, estimator, scored.values, absent, facts))
        return found

    main = rows(scoring.protocol)
    against_number = {1: dict(main[1].values), restored.samples: dict(main[2].values)}
    for number in sorted(restored.means.keys() - against_number.keys()):
        mean = torch.from_numpy(restored.means[number])[None, None]
        against_number[number] = score(mean, target, scoring.protocol, **common).values
    against_realism = {}
    if scoring.realism and restored.samples > 1:
        centre = _centre(restorer, restored)
        for share in scoring.realism:
            image = torch.from_numpy(centre + np.float32(share) * (restored.single - centre))[None, None]
            against_realism[share] = score(image, target, scoring.protocol, **common).values
    uncertainty, no_uncertainty = None, ""
    try:
        uncertainty = sample_uncertainty(
            samples=restored.thinned,
            target=restored.high[:: restored.stride, :: restored.stride],
            antithetic=restorer.method.antithetic,
            level=scoring.level,
            gain=restored.gain,
            full_range=float(pair.high.max()) - float(pair.high.min()),
            fit=granted(main),
        )
    except ValueError as error:
        no_uncertainty = str(error)
    versions = {**{name: getattr(restored, name) for name in ESTIMATORS}, "target": restored.high}
    normalised = restorer.normalisation.input.scale(restored.low).normalise(restored.low)
    low, high = restorer.normalisation.input_bounds
    return ImageScores(
        index,
        main,
        {protocol: rows(protocol) for protocol in scoring.also},
        dict(sorted(against_number.items())),
        uncertainty,
        no_uncertainty,
        spectra_of(versions) if scoring.curves else None,
        describe_input(normalised),
        float(((normalised < low) | (normalised > high)).mean()),
        pair.pixel_size,
        against_realism,
        target=sha256(np.ascontiguousarray(pair.high).tobytes()).hexdigest(),
    )


def granted(rows: Sequence[Row]) -> tuple[float, float]:
    """Returns the gain and the offset that the protocol grants the average: 1 and 0 where it grants none."""
    facts = next(row.facts for row in rows if row.estimator == "average")
    return float(facts.get("alpha", 1.0)), float(facts.get("beta", 0.0))


def _centre(restorer: Restorer, restored: Restored) -> np.ndarray:
    """Returns where the way to a sample begins: the mean that the model knows of, else the average of all samples."""
    sampler = getattr(restorer.method, "sampler", None)
    if not hasattr(sampler, "realism"):
        return restored.average
    given, sampler.realism = sampler.realism, 0.0
    try:
        centre = next(restorer.samples(restored.pair.low, 1, restored.pair.name))
        return (centre - restored.offset).astype(np.float32)
    finally:
        sampler.realism = given


def _failed(index: int, image: str, field: str, scoring: Scoring, reason: str) -> ImageScores:
    def rows(protocol: str) -> list[Row]:
        absent = dict.fromkeys(METRICS, reason)
        return [Row(image, field, estimator, {}, absent, {"protocol": protocol}) for estimator in ESTIMATORS]

    return ImageScores(
        index,
        rows(scoring.protocol),
        {name: rows(name) for name in scoring.also},
        no_uncertainty=reason,
        failed=reason,
    )
