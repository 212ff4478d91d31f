"""What the planes of a stack share when they are restored: their scale of intensities, and the noise of their samples.

The planes of a channel are a stack; time, depth and unknown axes are the order of its planes. The planes are read once
before they are restored. In memory are one plane, the details of a few others, and a scale for each plane.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np

from ddpm_lightning.data.normalise import Scale
from ddpm_lightning.diffusion.randomness import Mixture
from ddpm_lightning.inference.key_planes import KeyPlanes, details_of
from ddpm_lightning.inference.stack_scale import common_scale, followed_scales, scale_of_plane
from ddpm_lightning.io.image import ImageInfo, PlaneIndex

__all__ = ["Noise", "PlaneInputs", "Scaling", "StackInputs", "measure_stack"]

#: How planes share a scale and noise; see :class:`ddpm_lightning.inference.restorer_settings.RestorerSettings`.
Scaling = Literal["stack", "bleaching", "plane"]
Noise = Literal["correlated", "shared", "independent"]


class PlaneInputs(NamedTuple):
    """What the restoration of a plane depends on, in addition to its pixels.

    Attributes:
        noise: Key of its noise: its name, or a mixture of those of other planes.
        scale: Its map to the scale that the network sees; ``None`` for the one that it has by itself.
    """

    noise: str | Mixture
    scale: Scale | None = None


@dataclass(frozen=True)
class StackInputs:
    """The inputs of all planes of an image.

    Attributes:
        planes: Those of each plane in order.
        record: How they were chosen, for the record of the file; empty if no channel has several planes.
    """

    planes: list[PlaneInputs]
    record: dict[str, Any]


class _Order:
    """The order of the planes of each channel of an image."""

    def __init__(self, info: ImageInfo) -> None:
        letters, sizes = info.axes[:-2], info.shape[:-2]
        self.places = list(info.planes())
        self.axes = [at for at, letter in enumerate(letters) if letter != "C" and sizes[at] > 1]
        self.letters, self.sizes = letters.lower(), sizes
        self.channel_axis = letters.find("C")
        #: The axis along which brightness may change slowly.
        self.slow = letters.find("T") if letters.find("T") in self.axes else next(iter(self.axes), -1)

    def channel(self, place: PlaneIndex) -> int:
        return place.index[self.channel_axis] if self.channel_axis >= 0 else 0

    def channels(self) -> Iterator[tuple[int, list[PlaneIndex]]]:
        for channel in range(self.sizes[self.channel_axis] if self.channel_axis >= 0 else 1):
            yield channel, [place for place in self.places if self.channel(place) == channel]

    def axes_through(self, place: PlaneIndex) -> list[int]:
        """Returns the axes along which a plane is compared with others: they pass the middle of all other axes."""
        middle = [place.index[axis] == self.sizes[axis] // 2 for axis in self.axes]
        return [
            axis for axis, own in zip(self.axes, middle, strict=True) if sum(middle) - own == len(middle) - 1
        ]


def measure_stack(
    info: ImageInfo,
    image: str,
    scaling: Scaling,
    noise: Noise,
    prepared: Callable[[PlaneIndex], np.ndarray | None],
    own_scale: Callable[[np.ndarray], Scale] | None,
) -> StackInputs:
    """Returns what the planes of an image share.

    Args:
        info: Axes and shape of the image.
        image: Name of the image.
        scaling: Which planes share a scale.
        noise: Which planes share noise.
        prepared: Returns a plane as the network sees it, apart from its scale; ``None`` if it is constant.
        own_scale: Returns the scale of a plane by itself; ``None`` if all images have the same.
    """
    order = _Order(info)
    names = ["_".join(part for part in (image, place.label) if part) for place in order.places]
    if not order.axes:
        return StackInputs([PlaneInputs(name) for name in names], {})
    scaled = own_scale is not None and scaling != "plane"
    scales: list[Scale | None] = [None] * len(names)
    keys: dict[tuple[int, int], KeyPlanes] = {}
    for place in order.places:
        compared = order.axes_through(place) if noise == "correlated" else []
        if not scaled and not compared:
            continue
        plane = prepared(place)
        if scaled and own_scale and plane is not None:
            scales[place.number] = own_scale(plane)
        details = details_of(plane) if compared and plane is not None else None
        for axis in compared:
            keys.setdefault((order.channel(place), axis), KeyPlanes()).add(details)
    record: dict[str, Any] = {"scale": scaling if own_scale else "training set", "noise": noise}
    shared = _shared_scales(order, scales, scaling, record) if scaled else scales
    if noise == "correlated":
        record["key_planes"] = {
            order.letters[axis]: max(found.count for (_, along), found in keys.items() if along == axis)
            for axis in order.axes
        }
    if noise != "independent":
        names = [_noise_key(order, place, image, keys) for place in order.places]
    planes = [PlaneInputs(key, scale) for key, scale in zip(names, shared, strict=True)]
    return StackInputs(planes, record)


def _shared_scales(
    order: _Order, scales: Sequence[Scale | None], scaling: Scaling, record: dict[str, Any]
) -> list[Scale | None]:
    """Returns the scale of each plane, and adds the range of each channel to the record."""
    found, ranges = list(scales), []
    for _, places in order.channels():
        known = [scale for place in places if (scale := scales[place.number]) is not None]
        if not known:
            ranges.append(None)
            continue
        shared = [common_scale(known)] * order.sizes[order.slow]
        ranges.append([float(f"{end:.6g}") for end in (shared[0].low, shared[0].high)])
        if scaling == "bleaching":
            along: list[list[Scale]] = [[] for _ in shared]
            for place in places:
                if (scale := scales[place.number]) is not None:
                    along[place.index[order.slow]].append(scale)
            shared = followed_scales([common_scale(group) if group else None for group in along])
        for place in places:
            if (own := scales[place.number]) is not None:
                found[place.number] = scale_of_plane(shared[place.index[order.slow]], own)
    record["range"] = ranges
    if bright := sum(found[place.number] is scales[place.number] is not None for place in order.places):
        record["planes_with_their_own_scale"] = bright
    return found


def _noise_key(
    order: _Order, place: PlaneIndex, image: str, keys: dict[tuple[int, int], KeyPlanes]
) -> str | Mixture:
    """Returns the key of the noise of a plane: without key planes, that of the first plane of its channel."""
    parts = []
    for axis, (letter, at) in enumerate(zip(order.letters, place.index, strict=True)):
        if order.sizes[axis] == 1:
            continue
        if axis not in order.axes:
            weights = {at: 1.0}
        elif keys:
            weights = keys[order.channel(place), axis].weights(at)
        else:
            weights = {0: 1.0}
        parts.append([(f"{letter}{key}", weight) for key, weight in weights.items()])
    combined = list(product(*parts))
    names = tuple("_".join([*([image] if image else []), *(name for name, _ in one)]) for one in combined)
    if len(names) == 1:
        return names[0]
    return Mixture(names, tuple(prod(weight for _, weight in one) for one in combined))
