"""Audits a data set: sizes, bit depth, ranges, saturation, padding, residual shift, duplicates.

It works on any source of pairs, so published, simulated and own data are examined in the same way. Errors are problems
that would invalidate a result: pairs that cannot be read, a field of view or an image in two splits. Warnings are about
properties that may be intended.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ddpm_lightning.data.normalise import without_offset
from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.datasets.audit_repeats import Repeats
from ddpm_lightning.datasets.preparation.images import saturation
from ddpm_lightning.datasets.preparation.registration import correlation, residual_shift
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.task_progress import Report

__all__ = ["Audit", "SplitAudit", "audit"]

#: Pairs of each split whose residual shift is measured.
SHIFTS = 32
#: Limits beyond which there is a warning.
SATURATED, SHIFTED, UNRELATED, ALIKE = 0.01, 0.5, 0.1, 0.995
#: Fraction of zeros in an image up to which a border of zeros is padding rather than darkness.
RARE = 0.05
THUMBNAIL = 16


@dataclass
class SplitAudit:
    """Measurements of the pairs of a split.

    Attributes:
        pairs: Number of pairs.
        fields: Number of fields of view.
        fields_known: Whether the fields of view are known; otherwise each file counts as one.
        sizes: Heights and widths of the images, in order of appearance.
        types: Pixel types of low and high images.
        low: Minimum, median and maximum of the low images; the median is over images.
        high: The same for the high images.
        levels: Median number of distinct grey values in a low image.
        saturated: Largest fraction of saturated pixels in an image.
        padding: Largest fraction of pixels that are zero in both images.
        correlation: Median correlation of low and high image.
        shifts: Residual shift in pixels of some pairs.
    """

    pairs: int = 0
    fields: int = 0
    fields_known: bool = True
    sizes: list[tuple[int, int]] = field(default_factory=list)
    types: tuple[str, str] = ("", "")
    low: tuple[float, float, float] = (0, 0, 0)
    high: tuple[float, float, float] = (0, 0, 0)
    levels: int = 0
    saturated: float = 0.0
    padding: float = 0.0
    correlation: float = 0.0
    shifts: list[float] = field(default_factory=list)


@dataclass
class Audit:
    """The result of an audit.

    Attributes:
        splits: Measurements by split.
        errors: Problems that would invalidate a result.
        warnings: Properties that may be intended.
    """

    splits: dict[str, SplitAudit] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class _Image:
    """An image for the search for duplicates: its location, a hash of its pixels, and a thumbnail."""

    place: str
    split: str
    field: str
    field_known: bool
    role: str
    digest: bytes
    thumbnail: np.ndarray | None = None


def audit(sources: Mapping[str, PairSource], progress: Report | None = None) -> Audit:
    """Measures every pair of every split.

    Args:
        sources: Pairs by split.
        progress: Called after each pair.
    """
    result = Audit()
    images: list[_Image] = []
    total = sum(map(len, sources.values()))
    done = 0
    for split, source in sources.items():
        pairs: list[_Measured] = []
        repeats = Repeats()
        measured = {int(index) for index in np.linspace(0, len(source) - 1, min(SHIFTS, len(source))).round()}
        for index in range(len(source)):
            try:
                pair = source[index]
                pairs.append(_Measured(pair, index in measured))
                images += _images(split, pair)
                repeats.add(pair)
            except UserError as error:
                result.errors.append(" ".join(str(error).split()))
            done += 1
            if progress:
                progress("auditing", done, total)
        if pairs:
            result.splits[split] = _summary(pairs)
            result.warnings += [f"{split}: {text}" for text in _warnings(pairs) + repeats.warnings()]
        else:
            result.errors.append(f"{split}: contains no pair that can be used")
    result.errors += _leaks(images)
    result.warnings += _duplicates(images)
    return result


class _Measured:
    """Measurements of one pair, without its images."""

    def __init__(self, pair: Pair, measure_shift: bool) -> None:
        low, high = pair.low, pair.high
        self.name, self.field, self.shape, self.field_known = (
            pair.name,
            pair.field,
            low.shape,
            _field_known(pair),
        )
        self.types, self.paired = (str(low.dtype), str(high.dtype)), pair.paired
        self.low, self.high = ((float(i.min()), float(np.median(i)), float(i.max())) for i in (low, high))
        self.levels = _levels(low)
        self.saturated = max(saturation(low), saturation(high))
        self.padding = float(((low == 0) & (high == 0)).mean())
        self.correlation = correlation(without_offset(low)[0], without_offset(high)[0])
        self.shift = float(np.hypot(*residual_shift(low, high))) if measure_shift else None
        # Zeros along a border of only one image reveal which image was moved.
        self.one_sided = _padded(low, high) or _padded(high, low)


def _levels(image: np.ndarray) -> int:
    """Returns the number of distinct values in an image."""
    if image.dtype.kind == "u" and image.dtype.itemsize <= 2:
        return int(np.count_nonzero(np.bincount(image.ravel())))
    return len(np.unique(image))


def _field_known(pair: Pair) -> bool:
    """Says whether the field of view is not just the name of the file, which may be the same in two splits."""
    return pair.field != pair.name and not pair.name.startswith(f"{pair.field}_")


def _padded(image: np.ndarray, partner: np.ndarray) -> bool:
    """Says whether an image has a border of zeros, unlike its partner, and few zeros elsewhere."""
    border = np.zeros(image.shape, dtype=bool)
    for axis, empty in ((0, ~image.any(axis=1)), (1, ~image.any(axis=0))):
        # Lines of zeros that reach to the border, from either side.
        zero = np.logical_and.accumulate(empty) | np.flip(np.logical_and.accumulate(np.flip(empty)))
        border |= zero[:, None] if axis == 0 else zero
    signal = partner != 0
    elsewhere = image[signal & ~border]
    return bool((signal & border).any() and elsewhere.size and (elsewhere == 0).mean() < RARE)


def _summary(pairs: list[_Measured]) -> SplitAudit:
    def extremes(values: list[tuple[float, float, float]]) -> tuple[float, float, float]:
        least, middle, largest = zip(*values, strict=True)
        return min(least), float(np.median(middle)), max(largest)

    return SplitAudit(
        pairs=len(pairs),
        fields=len({pair.field for pair in pairs}),
        fields_known=any(pair.field_known for pair in pairs),
        sizes=list(dict.fromkeys(pair.shape for pair in pairs)),
        types=(
            "/".join(sorted({pair.types[0] for pair in pairs})),
            "/".join(sorted({pair.types[1] for pair in pairs})),
        ),
        low=extremes([pair.low for pair in pairs]),
        high=extremes([pair.high for pair in pairs]),
        levels=int(np.median([pair.levels for pair in pairs])),
        saturated=max(pair.saturated for pair in pairs),
        padding=max(pair.padding for pair in pairs),
        correlation=float(np.median([pair.correlation for pair in pairs])),
        shifts=[pair.shift for pair in pairs if pair.shift is not None],
    )


def _warnings(pairs: list[_Measured]) -> list[str]:
    warnings = []
    measured = [pair for pair in pairs if pair.shift is not None]
    tests = (
        ("saturated in more than 1 % of their pixels", pairs, lambda pair: pair.saturated > SATURATED),
        (
            f"shifted by more than {SHIFTED} px relative to their partner",
            measured,
            lambda pair: pair.shift > SHIFTED,
        ),
        (
            f"correlated with their partner by less than {UNRELATED}",
            pairs,
            lambda pair: pair.correlation < UNRELATED,
        ),
        ("padded with zeros in one image only", pairs, lambda pair: pair.one_sided),
    )
    for text, tested, test in tests:
        if found := [pair.name for pair in tested if test(pair)]:
            warnings.append(f"{text}: {len(found)} of {len(tested)} pairs ({_few(found)})")
    if len({pair.types for pair in pairs}) > 1:
        warnings.append(f"pixel types differ: {sorted({pair.types for pair in pairs})}")
    if not pairs[0].paired:
        warnings.append(
            "has no clean images: usable only for methods such as model=noise2void, and nothing can be scored"
        )
    fields = len({pair.field for pair in pairs})
    if fields < 3:
        warnings.append(
            f"contains only {fields} field{'s' * (fields > 1)} of view: results will say little about other fields"
        )
    return warnings


def _images(split: str, pair: Pair) -> list[_Image]:
    found = []
    for role, image in (("low", pair.low), ("high", pair.high))[: 1 + pair.paired]:
        digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes() + str(image.shape).encode()).digest()
        found.append(
            _Image(f"{split}/{role}/{pair.name}", split, pair.field, _field_known(pair), role, digest)
        )
    found[-1].thumbnail = _thumbnail(pair.high)
    return found


def _thumbnail(image: np.ndarray) -> np.ndarray | None:
    """Returns a flattened thumbnail with mean 0 and norm 1; ``None`` if the image has no contrast."""
    height, width = (side // THUMBNAIL * THUMBNAIL for side in image.shape)
    if not height or not width:
        return None
    image, _ = without_offset(image[:height, :width])
    blocks = image.astype(np.float64).reshape(THUMBNAIL, height // THUMBNAIL, THUMBNAIL, -1)
    small = blocks.mean(axis=(1, 3)).ravel()
    if small.std() <= 0.05 * max(small.mean(), 1e-9):
        return None
    small -= small.mean()
    return small / np.linalg.norm(small)


def _leaks(images: list[_Image]) -> list[str]:
    """Returns the fields of view and images that two splits share, as sentences."""
    leaks = []
    fields = defaultdict(set)
    for image in images:
        if image.field_known:
            fields[image.field].add(image.split)
    if shared := sorted(field for field, splits in fields.items() if len(splits) > 1):
        leaks.append(f"fields of view are in more than one split: {_few(shared)}")
    for places in _by_digest(images):
        if len({image.split for image in places}) > 1:
            leaks.append(f"the same image is in two splits: {_few([image.place for image in places])}")
    return leaks


def _duplicates(images: list[_Image]) -> list[str]:
    """Returns images that occur twice within a split, or nearly identically in two, as sentences."""
    duplicates = []
    for places in _by_digest(images):
        within = len({image.split for image in places}) == 1
        # Repeated captures of a field share their clean image.
        shared_target = len({image.field for image in places}) == 1 and all(i.role == "high" for i in places)
        if within and not shared_target:
            duplicates.append(
                f"the same image occurs more than once: {_few([image.place for image in places])}; if they show one"
                " field of view, say so in fields.csv"
            )
    return duplicates + _similar(images)


def _similar(images: list[_Image]) -> list[str]:
    unique = {image.digest: image for image in images if image.thumbnail is not None}
    by_split = defaultdict(list)
    for image in unique.values():
        by_split[image.split].append(image)
    found = []
    names = list(by_split)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            a, b = by_split[first], by_split[second]
            alike = np.stack([i.thumbnail for i in a]) @ np.stack([i.thumbnail for i in b]).T
            hits = np.argwhere(alike > ALIKE)
            if len(hits):
                pairs = [f"{a[i].place} and {b[j].place}" for i, j in hits]
                found.append(
                    f"{first} and {second} contain {len(hits)} images that look the same: {_few(pairs)}"
                )
    return found


def _by_digest(images: list[_Image]) -> list[list[_Image]]:
    places = defaultdict(list)
    for image in images:
        places[image.digest].append(image)
    return [equal for equal in places.values() if len(equal) > 1]


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names)} in all)" if len(names) > 5 else "")
