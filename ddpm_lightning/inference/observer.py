"""Watching a restoration while it runs: cancelling, counting tiles, and the first estimate tile by tile.

A window must react within a second, but a tile takes longer on a slow processor. So an observer is asked before each
layer of a network whether to continue.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ddpm_lightning.data.normalise import Scale
from ddpm_lightning.inference.tiling import Place

if TYPE_CHECKING:
    from ddpm_lightning.inference.plane_restorer import PlaneRestorer

__all__ = ["Cancelled", "FirstEstimate", "Observer"]


class Cancelled(Exception):
    """The restoration was cancelled; nothing is wrong."""


class Observer:
    """What a restoration reports while it runs; a subclass overrides what it needs.

    All methods are called in the threads of the restoration, and should return at once.
    """

    def check(self) -> None:
        """Is called many times a second.

        Raises:
            Cancelled: If the restoration shall end.
        """

    def tiles_done(self, count: int) -> None:
        """Networks have processed so many further tiles."""

    def estimate(self, top: int, left: int, pixels: np.ndarray) -> None:
        """Gets an estimate of a part of the plane at hand, while the plane is not finished.

        Args:
            top: First row of the part.
            left: First column of the part.
            pixels: Its pixels with shape (H, W), in intensities; overlaps of tiles are not blended yet.
        """


class FirstEstimate:
    """Applies the networks of a method to a plane, and shows the first estimate of the plane tile by tile.

    Args:
        restorer: Applies networks tile by tile.
        observer: Who gets the estimate.
        scale: Map of the plane to the scale that the network sees.
        shape: Height and width of the plane.
    """

    def __init__(
        self, restorer: "PlaneRestorer", observer: Observer, scale: Scale, shape: tuple[int, ...]
    ) -> None:
        self._observer, self._method, self._apply = observer, restorer.method, restorer.apply
        self._scale = restorer.normalisation.output_scale(scale)
        self._height, self._width = shape
        self._margin = min(restorer.margin, self._height - 1, self._width - 1)
        self._network: object = None
        # Later tiles are of other orientations, or of other networks.
        self._left = restorer.tiles(self._height, self._width)
        restorer.tiler.on_outputs = self._show

    def __call__(self, network: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Applies a network; see :data:`ddpm_lightning.models.method.Apply`."""
        self._network = network
        return self._apply(network, *inputs)

    def _show(self, places: list[Place], outputs: Tensor) -> None:
        for (_, y, x), output in zip(places, outputs, strict=True):
            self._left -= 1
            image = self._method.image_of(self._network, output[None]) if self._left >= 0 else None
            if image is None:
                continue
            above, before = max(self._margin - y, 0), max(self._margin - x, 0)
            top, left = max(y - self._margin, 0), max(x - self._margin, 0)
            height, width = self._height - top, self._width - left
            part = image[0, 0, above : above + height, before : before + width]
            if part.numel():
                self._observer.estimate(top, left, self._scale.restore(part.float().cpu().numpy()))
