"""What restoring a plane or a stack yields."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm_lightning.inference.precision import least_precise

__all__ = ["Restoration"]


@dataclass(frozen=True)
class Restoration:
    """A restored plane or stack, in intensities.

    Attributes:
        mean: Mean of the samples with the shape of the input, float32; float64 where float32 cannot hold the contrast
            on its offset, such as 800 grey levels on 10^9.
        std: Population standard deviation over the samples, float32, ``None`` for a single sample, of which there is
            none. Planes of a stack that are constant are returned as they are, with 0.
        sample_count: Number of samples; of a stack, that of its last plane.
        gain: Intensities for each unit of the model's scale; of a stack, the mean over its planes.
        entropy: Entropy in nats of the samples' 8-bit values, float32, or ``None`` if it was not asked for or there is
            a single sample.
        samples: The single samples with shape (samples, …), float32, or ``None`` if they were not asked for.
        warnings: What is unlike the images that the model was trained on.
        blank: Names of planes of a stack that are constant; they are what they were.
        axes: Axes of the arrays, ending in ``YX``.
        pixel_size: Size of a pixel in µm as (y, x), or ``None``.
        precision: Standard error of the mean, and what more samples would bring; of a stack, that of the least
            precise plane.
        replaced: Number of hot and dead pixels that were replaced before the network saw the image.
    """

    mean: np.ndarray
    std: np.ndarray | None
    sample_count: int
    gain: float = 1.0
    entropy: np.ndarray | None = None
    samples: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    blank: tuple[str, ...] = ()
    axes: str = "YX"
    pixel_size: tuple[float, float] | None = None
    precision: dict[str, float | None] | None = None
    replaced: int = 0

    @classmethod
    def of_planes(
        cls, planes: "Sequence[Restoration]", shape: tuple[int, ...], **described: Any
    ) -> "Restoration":
        """Puts restored planes together.

        Args:
            planes: All planes in the order of the stack; a single one makes a plane.
            shape: Shape of the stack, (…, H, W).
            described: Warnings, blank planes, axes and pixel size.
        """

        def stacked(name: str, axis: int = 0) -> np.ndarray | None:
            if getattr(planes[0], name) is None:
                return None
            found = np.stack([getattr(plane, name) for plane in planes], axis=axis)
            return found.reshape(*found.shape[:axis], *shape)

        return cls(
            stacked("mean"),
            stacked("std"),
            planes[-1].sample_count,
            float(np.mean([plane.gain for plane in planes])),
            stacked("entropy"),
            stacked("samples", axis=1),
            precision=least_precise(plane.precision for plane in planes),
            replaced=sum(plane.replaced for plane in planes),
            **described,
        )
