"""The calibration of a readout, as the card of a model keeps it, and when it does not apply.

An interval is only given where its coverage was measured: for the same readout with the same settings, samples that are
made in the same way, and an image that could be one of the calibration images. Everything else has a reason instead.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

from pydantic import ConfigDict

from ddpm_lightning.readouts.intervals import FEWEST, Interval, Measured, NumberCalibration
from ddpm_lightning.readouts.novelty import MOST_UNUSUAL, novelty
from ddpm_lightning.readouts.readout import Readout
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Count, Fraction, Settings, Text

__all__ = [
    "READOUTS",
    "Bounds",
    "ReadoutCalibration",
    "bounds_of",
    "group_of",
    "objections",
    "readout_calibrations_of",
]

#: Entry of the card.
READOUTS = "readouts"
#: Ratio of pixel sizes above which a calibration does not apply.
PIXEL_SIZE_RATIO = 1.25
#: Seconds after which the search for a group in a name ends.
LONGEST_SEARCH = 1.0


class ReadoutCalibration(Settings):
    """The calibrated intervals of the numbers of a readout, for one way of making samples.

    Attributes:
        readout: The readout with all settings (:attr:`ddpm_lightning.readouts.readout.Readout.key`).
        sampling: How the samples are made, in words.
        sampler: The sampler with all of its settings; empty if the model has none.
        samples: Number of samples; 1 for a method without.
        level: Probability with which an interval contains the number of the clean image.
        images: Number of calibration images.
        fields: Number of fields of view that they show.
        data: Name of their data set.
        split: Name of their split.
        inputs: Features of the calibration images before restoration, by name.
        pixel_size: Size of their pixels in µm, or ``None``.
        groups: Pattern whose first group is the group of an image in its name; empty if there are no groups.
        numbers: The intervals.
    """

    model_config = ConfigDict(extra="ignore")

    readout: Text
    sampling: Text
    sampler: str
    samples: Count
    level: Fraction
    images: Count
    fields: Count
    data: Text
    split: Text
    inputs: dict[str, list[float]]
    pixel_size: float | None = None
    groups: str = ""
    numbers: list[NumberCalibration]

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is valid for."""
        return self.readout, self.sampling, self.sampler, self.samples


class Bounds(NamedTuple):
    """An interval, or the reason why there is none.

    Attributes:
        low: Lower end; NaN without an interval.
        high: Upper end; NaN without an interval.
        reason: Why there is none; empty if there is one.
    """

    low: float
    high: float
    reason: str


def readout_calibrations_of(card: Mapping[str, Any]) -> list[ReadoutCalibration]:
    """Returns the calibrated readouts of a card.

    Raises:
        ValueError: If one of them is damaged.
    """
    found = card.get(READOUTS, [])
    if not isinstance(found, list | tuple) or not all(isinstance(one, Mapping) for one in found):
        raise ValueError(f"{READOUTS} of its card is not a list of named values")
    try:
        return [ReadoutCalibration.of(one) for one in found]
    except UserError as error:
        raise ValueError(
            f"{READOUTS} of its card: {error.subject} {error.found}; allowed: {error.allowed}"
        ) from error


def group_of(name: str, pattern: str) -> str:
    """Returns the group of an image: the first group of a pattern in its name; empty if there is none."""
    if not pattern:
        return ""
    import regex  # slow to load; a pattern may come from a file, and must not run for hours

    try:
        found = regex.search(pattern, name, timeout=LONGEST_SEARCH)
        return (found[1] or "") if found else ""
    except (regex.error, TimeoutError, IndexError):
        return ""


def objections(
    calibration: ReadoutCalibration | None,
    features: Mapping[str, float],
    pixel_size: float | None,
    warnings: Sequence[str],
) -> str:
    """Returns why a calibration does not apply to an image; empty if it does.

    Args:
        calibration: The calibration, or ``None``.
        features: Features of the image before restoration.
        pixel_size: Size of a pixel in µm, or ``None``.
        warnings: Warnings of the comparison of the image with its restoration.
    """
    if calibration is None:
        return "this readout is not calibrated with these settings and samples"
    if warnings:
        return f"warning: {warnings[0]}"
    if (pixel_size is None) != (calibration.pixel_size is None):
        return "the pixel size is known of either the image or the calibration images only"
    if pixel_size and calibration.pixel_size:
        ratio = pixel_size / calibration.pixel_size
        if not 1 / PIXEL_SIZE_RATIO < ratio < PIXEL_SIZE_RATIO:
            return f"the pixel size is {ratio:.2g} times that of the calibration images"
    p = novelty(calibration.inputs, features)
    if p <= MOST_UNUSUAL:
        return f"the image is unlike the {calibration.images} calibration images (p = {p:.2g})"
    return ""


def bounds_of(
    readout: Readout,
    number: str,
    found: Measured,
    calibration: ReadoutCalibration | None,
    name: str,
    reason: str,
) -> Bounds:
    """Returns the interval of a number, or the reason why there is none.

    Args:
        readout: The readout.
        number: Name of the number.
        found: What was measured.
        calibration: The calibration of the readout, or ``None``.
        name: Name of the image, which may say to which group it belongs.
        reason: Why the calibration does not apply (:func:`objections`); empty if it does.
    """
    quantity = readout.quantity(number)
    none = float("nan")
    if not isfinite(found.value):
        return Bounds(none, none, "not defined in this image")
    if reason or calibration is None:
        return Bounds(none, none, reason or objections(None, {}, None, ()))
    of_number = next((one for one in calibration.numbers if one.number == number), None)
    interval: Interval | None = None
    if of_number is not None:
        interval = of_number.all_images
        if calibration.groups:
            group = group_of(name, calibration.groups)
            if group not in of_number.groups:
                return Bounds(none, none, f"no calibration image is of group {group or '(unknown)'}")
            interval = of_number.groups[group]
    if interval is None:
        return Bounds(none, none, f"fewer than {FEWEST} calibration images have this number")
    if not found.scale(quantity) > 0:
        return Bounds(none, none, "all samples give 0, so the size of an error is unknown")
    return Bounds(*interval.around(found, quantity), "")
