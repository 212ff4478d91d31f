r"""Averages restored planes with their neighbours, where these agree within the uncertainty of both.

A plane that is restored by itself contains an error due to the noise of its own pixels, which the next plane does not
share. The difference d of two restored planes has a variance due to such errors, :math:`v`, and one due to change,
:math:`b`. The weight of a neighbour, relative to that of the plane itself, is :math:`a = v / (v + 4 b)`. (For two
planes, the mean square error is smallest with 2 instead of 4; 4 preserves more of each change.) Here :math:`b` is the
local mean of d² minus v, at least 0, and v is a share of the sum of both variances over samples: the rest of the error
is the same in neighbouring planes, and does not appear in their difference.

By how much the error decreases is unknown, so the standard deviation remains that of the plane by itself, and is rather
too large. The same weights apply to each sample, and the deviations of the samples from their mean are then scaled back
to their former size. No network is evaluated again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ddpm_lightning.inference.projections import projected_axis
from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.restored_plane import RestoredPlane
from ddpm_lightning.io.image import ImageInfo

__all__ = ["Neighbours", "averaged_planes", "weight_of_neighbour"]

#: Most of the variance over samples that differs from plane to plane although nothing changes. On simulated stacks in
#: which nothing changes it is 0.39 to 0.5.
UNSHARED = 0.4
#: Weight of change relative to noise.
CAUTION = 4.0
#: Standard deviations in pixels of the blurs that make local means: over a region, and over a small structure, of which
#: half counts because it varies more.
REGION, SPOT = 4.0, 1.0


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of the planes of an image: along depth or else time, in the same channel.

    Attributes:
        reach: Planes before and after.
        step: Distance of neighbours in the order of planes.
        length: Number of planes along the axis.
    """

    reach: int
    step: int
    length: int

    @classmethod
    def of(cls, info: ImageInfo, reach: int) -> "Neighbours":
        """Returns the neighbours of planes of an image; none if there is no axis of planes."""
        axis = projected_axis(info)
        if not axis:
            return cls(0, 1, 1)
        at = info.axes.index(axis)
        return cls(reach, prod(info.shape[at + 1 : -2]), info.shape[at])

    def around(self, number: int) -> list[int]:
        """Returns the numbers of the neighbours of a plane in order, without itself."""
        place = number // self.step % self.length
        before, after = min(self.reach, place), min(self.reach, self.length - 1 - place)
        return [number + self.step * distance for distance in range(-before, after + 1) if distance]


def weight_of_neighbour(difference: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Returns the weight of a neighbour in each pixel relative to that of the plane, in [0, 1].

    Args:
        difference: Difference of the two restored planes with shape (H, W).
        variance: Sum of their variances over samples, blurred over regions.
    """
    from scipy.ndimage import gaussian_filter  # imported here because it is slow to load

    squared = np.square(difference, dtype=np.float64)
    change = np.maximum(gaussian_filter(squared, REGION), gaussian_filter(squared, SPOT) / 2)
    noise = UNSHARED * variance
    change = np.maximum(change - noise, 0)
    total = noise + CAUTION * change
    return np.divide(noise, total, out=np.zeros_like(total), where=total > 0)


def averaged_planes(
    planes: Iterable[RestoredPlane],
    neighbours: Neighbours,
    keep_samples: bool = False,
    on_sample: Callable[[int, np.ndarray], None] | None = None,
) -> Iterator[RestoredPlane]:
    """Averages the planes of an image with their neighbours; in memory are those that are still needed.

    Args:
        planes: All planes in order, with their samples. Constant planes are neither averaged nor neighbours.
        neighbours: Which planes are neighbours.
        keep_samples: Whether single samples are kept.
        on_sample: Called with the number of each averaged sample and the sample itself; not for constant planes.

    Yields:
        The averaged planes in order.
    """
    window: dict[int, _Plane] = {}
    waiting = 0
    for plane in planes:
        window[plane.number] = _Plane(plane)
        while waiting in window and max(neighbours.around(waiting), default=waiting) <= plane.number:
            own = window[waiting].plane
            averaged = _averaged(window[waiting], [window[at] for at in neighbours.around(waiting)])
            if on_sample is not None and not own.blank and averaged.samples is not None:
                for number, sample in enumerate(averaged.samples):
                    on_sample(number, sample)
            yield replace(own, restored=averaged if keep_samples else replace(averaged, samples=None))
            waiting += 1
            for old in [old for old in window if old < waiting - neighbours.reach * neighbours.step]:
                del window[old]


class _Plane:
    """A restored plane and, unless it is constant, the variance over its samples, blurred over regions."""

    def __init__(self, plane: RestoredPlane) -> None:
        from scipy.ndimage import gaussian_filter  # imported here because it is slow to load

        self.plane, self.variance = plane, None
        std = plane.restored.uncalibrated_std
        if not plane.blank and std is not None:
            self.variance = gaussian_filter(np.square(std, dtype=np.float64), REGION)


def _averaged(own: _Plane, others: Sequence[_Plane]) -> Restoration:
    restored, samples = own.plane.restored, own.plane.restored.samples
    if own.variance is None or samples is None:
        return restored
    # Sums of what neighbours add to the plane, so that large offsets cost no digits.
    mean, added, total = restored.mean, np.zeros(restored.mean.shape), np.ones(restored.mean.shape)
    added_to_samples = np.zeros(samples.shape)
    for other in others:
        theirs = other.plane.restored
        if other.variance is None or theirs.samples is None:
            continue
        difference = np.subtract(theirs.mean, mean, dtype=np.float64)
        weight = weight_of_neighbour(difference, own.variance + other.variance)
        added += weight * difference
        added_to_samples += weight * (theirs.samples - samples)
        total += weight
    averaged = _with_deviation_of(samples, samples + added_to_samples / total).astype(samples.dtype)
    return replace(restored, mean=(mean + added / total).astype(mean.dtype), samples=averaged)


def _with_deviation_of(samples: np.ndarray, averaged: np.ndarray) -> np.ndarray:
    """Returns averaged samples (samples, H, W) with deviations from their mean as large as before in each region."""
    from scipy.ndimage import gaussian_filter

    before, after = (
        gaussian_filter(each.var(axis=0, dtype=np.float64), REGION) for each in (samples, averaged)
    )
    ratio = np.sqrt(np.divide(before, after, out=np.ones_like(after), where=after > 0))
    mean = averaged.mean(axis=0)
    return mean + ratio * (averaged - mean)
