"""The result of restoring a plane or a stack."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm_lightning.checkpoints.calibration import Calibration
from ddpm_lightning.inference.precision import least_precise
from ddpm_lightning.inference.readouts import ReadoutRow

__all__ = ["Restoration"]


@dataclass(frozen=True)
class Restoration:
    """A restored plane or stack, in intensities.

    Attributes:
        mean: Mean of the samples with the shape of the input, float32; float64 if float32 cannot represent contrast
            and offset together, such as 800 grey levels on 10^9.
        std: Standard deviation, float32: that of a network, or the population standard deviation over the samples;
            multiplied by ``calibration.std_factor`` where there is a calibration. ``None`` for a single sample, which
            has none. Constant planes of a stack are returned unchanged, with 0.
        sample_count: Number of samples that were made; of a stack, that of its last plane.
        gain: Intensities for each unit of the model's scale; of a stack, the mean over its planes.
        entropy: Entropy in nats of the samples' 8-bit values, float32, or ``None`` if it was not asked for or there is
            a single sample.
        samples: The single samples with shape (samples, …), float32, or ``None`` if they were not asked for.
        warnings: How the image differs from those that the model was trained on, and what was replaced or left out.
        blank: Names of the constant planes of a stack, which were left unchanged.
        axes: Axes of the arrays, ending in ``YX``.
        pixel_size: Size of a pixel in µm as (y, x), or ``None``.
        precision: Standard error of the mean, and the gain that more samples would bring; of a stack, those of
            the least precise plane.
        replaced: Number of hot and dead pixels that were replaced before the network saw the image.
        calibration: By which factor ``std`` was scaled to the size of the error, and on which images that factor was
            measured. ``None`` if the model was not calibrated for these samples: ``std`` then ranks pixels by
            uncertainty, and its size means little.
        readouts: What was measured, with intervals, or the reasons why there are none.
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
    calibration: Calibration | None = None
    readouts: tuple[ReadoutRow, ...] = ()

    @property
    def uncalibrated_std(self) -> np.ndarray | None:
        """The standard deviation without the factor of its calibration; ``None`` for a single sample."""
        if self.std is None or self.calibration is None:
            return self.std
        return self.std / np.float32(self.calibration.std_factor)

    @classmethod
    def of_planes(
        cls, planes: "Sequence[Restoration]", shape: tuple[int, ...], **described: Any
    ) -> "Restoration":
        """Returns the restoration of a stack from those of its planes.

        Args:
            planes: All planes in the order of the stack; a single one makes a plane.
            shape: Shape of the stack, (…, H, W).
            described: Warnings, blank planes, axes and pixel size.
        """

        def stacked(name: str, axis: int = 0) -> np.ndarray:
            found = np.stack([getattr(plane, name) for plane in planes], axis=axis)
            return found.reshape(*found.shape[:axis], *shape)

        def if_known(name: str, axis: int = 0) -> np.ndarray | None:
            return None if getattr(planes[0], name) is None else stacked(name, axis)

        return cls(
            stacked("mean"),
            if_known("std"),
            planes[-1].sample_count,
            float(np.mean([plane.gain for plane in planes])),
            if_known("entropy"),
            if_known("samples", axis=1),
            precision=least_precise(plane.precision for plane in planes),
            replaced=sum(plane.replaced for plane in planes),
            calibration=planes[-1].calibration,
            **described,
        )
