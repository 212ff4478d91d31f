r"""Intervals for numbers measured in restored images: they contain the number of the clean image as often as stated.

For image :math:`i` of a calibration set with clean partners, let :math:`v_i` be the mean of a readout over the
posterior samples, :math:`s_i` its scale (the standard deviation over the samples, but no less than a floor),
:math:`t_i` the readout of the clean image, and :math:`z_i = (t_i - v_i) / s_i`. Readouts have biases that no sample
shows: a threshold misses faint objects in restored images, for one. The intervals are therefore centred at the median
of the scores, by full conformal prediction with the score :math:`|z - \mathrm{median}|`:

a candidate :math:`z` belongs to the interval if its distance to the (lower) median of all :math:`n + 1` scores, its
own included, is at most the :math:`k`-th smallest such distance of the others,
:math:`k = \lceil (n + 1)(1 - \alpha) \rceil`. As this median is a symmetric function of the scores, images that are
exchangeable with those of the calibration are covered with a probability of at least :math:`1 - \alpha`, and at most
:math:`1 - \alpha + 1 / (n + 1)` unless scores are equal, whatever their distribution. Above and below the candidates
that are the median themselves, the median takes only one value each, so the interval has a closed form.

References:
    Vovk, Gammerman and Shafer. *Algorithmic learning in a random world* (2005).
    Lei, G'Sell, Rinaldo, Tibshirani and Wasserman. *Distribution-free predictive inference for regression* (2018).
"""

from collections.abc import Sequence
from math import ceil, floor, isfinite, nan

import numpy as np
from pydantic import ConfigDict

from ddpm_lightning.readouts.readout import Quantity
from ddpm_lightning.utils.settings import Count, Fraction, Settings, Text

__all__ = [
    "FEWEST",
    "Interval",
    "Measured",
    "NumberCalibration",
    "calibrate_number",
    "conformal_bounds",
    "measured",
]

#: Fewest images to calibrate on: 19 give 90 and 95 % intervals.
FEWEST = 19
#: Least scale: a fraction of the value, and half an object for whole numbers. Without it, images whose samples happen
#: to agree would decide the width of all intervals.
RELATIVE, HALF = 0.02, 0.5


class Measured(Settings):
    """A number that was measured in an image.

    Attributes:
        value: Mean over the posterior samples; without samples, the number of the restored image. NaN if not defined.
        std: Standard deviation over the samples; NaN if there are none.
        restored: The number of the restored image.
        input: The number of the image before.
    """

    model_config = ConfigDict(allow_inf_nan=True)

    value: float
    std: float
    restored: float
    input: float

    def scale(self, quantity: Quantity) -> float:
        """Returns the scale of its error; 0 if there is none."""
        std = self.std if isfinite(self.std) else 0.0
        return max(std, RELATIVE * abs(self.value), HALF * quantity.whole)


def measured(samples: Sequence[float], restored: float, raw: float) -> Measured:
    """Returns a number from those of the samples, of the restored image, and of the image before.

    A number that is not defined in some samples is the mean over the others, if these are at least half of them.
    """
    known = np.array([value for value in samples if isfinite(value)])
    if not len(samples):
        return Measured(value=restored, std=nan, restored=restored, input=raw)
    value = float(known.mean()) if 2 * len(known) >= len(samples) else nan
    std = float(known.std(ddof=1)) if len(known) > 1 else nan
    return Measured(value=value, std=std, restored=restored, input=raw)


class Interval(Settings):
    """An interval in units of the scale, around the value.

    Attributes:
        low: Lower end.
        high: Upper end.
        images: Number of calibration images.
    """

    low: float
    high: float
    images: Count

    def around(self, found: Measured, quantity: Quantity) -> tuple[float, float]:
        """Returns the interval of a number, within what is possible for it.

        A whole number is inside of an interval if it is inside of the one between the whole numbers next to its ends.
        """
        scale = found.scale(quantity)
        low, high = found.value + self.low * scale, found.value + self.high * scale
        if quantity.whole:
            inner = ceil(low - 1e-9), floor(high + 1e-9)
            low, high = inner if inner[0] <= inner[1] else (floor(low), ceil(high))
        return max(low, quantity.least), max(high, quantity.least)


class NumberCalibration(Settings):
    """The calibrated interval of a number.

    Attributes:
        number: Its name.
        unit: Its unit.
        all_images: The interval from all images, or ``None`` if these are too few.
        groups: Those of the groups of images, by name; ``None`` for a group with too few images.
    """

    number: Text
    unit: str
    all_images: Interval | None
    groups: dict[str, Interval | None] = {}  # noqa: RUF012  (pydantic copies it)


def conformal_bounds(scores: Sequence[float], level: float) -> tuple[float, float]:
    """Returns the interval that contains a further score.

    Args:
        scores: Scores of the calibration images, each the error divided by its scale.
        level: Probability in (0, 1).

    Raises:
        ValueError: If there are too few scores for this level.
    """
    ordered, n = np.sort(scores), len(scores)
    rank = ceil((n + 1) * level - 1e-9)
    if rank > n:
        raise ValueError(f"{n} images are too few for a level of {level:g}")
    # The lower median of n + 1 scores, if the further one is above or below it.
    place = (n + 2) // 2
    above, below = ordered[place - 1], ordered[max(place - 2, 0)]
    high = above + np.sort(np.abs(ordered - above))[rank - 1]
    low = below - np.sort(np.abs(ordered - below))[rank - 1]
    return float(low), float(high)


def calibrate_number(
    name: str,
    unit: str,
    quantity: Quantity,
    found: Sequence[Measured],
    truths: Sequence[float],
    groups: Sequence[str],
    level: Fraction,
) -> NumberCalibration:
    """Returns the calibrated interval of a number.

    Images in which the number, or its scale, is not defined are left out.

    Args:
        name: Its name.
        unit: Its unit.
        quantity: What kind of number it is.
        found: What was measured in each calibration image.
        truths: The number of each clean image.
        groups: The group of each image; empty for none.
        level: Probability with which an interval contains the number of the clean image.
    """
    scores: dict[str, list[float]] = {}
    for one, truth, group in zip(found, truths, groups, strict=True):
        scale = one.scale(quantity)
        if isfinite(one.value) and isfinite(truth) and scale > 0:
            for label in {"", group}:
                scores.setdefault(label, []).append((truth - one.value) / scale)
    intervals = {label: _interval(values, level) for label, values in scores.items()}
    together = intervals.pop("", None)
    return NumberCalibration(number=name, unit=unit, all_images=together, groups=intervals)


def _interval(scores: Sequence[float], level: float) -> Interval | None:
    if len(scores) < max(FEWEST, ceil(1 / (1 - level) - 1 - 1e-9)):
        return None
    low, high = conformal_bounds(scores, level)
    return Interval(low=low, high=high, images=len(scores))
