"""Readouts of the planes of an image: of the restored plane, of each of its samples, and of the plane before."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any

import numpy as np

from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.inference.distribution_shift import DistributionShiftCheck
from ddpm_lightning.readouts.calibration import Bounds, bounds_of, objections
from ddpm_lightning.readouts.intervals import Measured, measured
from ddpm_lightning.readouts.readout import Readout, measure

__all__ = ["ONE_SAMPLE", "MeasuredPlane", "PlaneReadouts", "ReadoutRow", "isotropic"]

ONE_SAMPLE = "one sample of each image: there is no standard deviation to scale an interval by"


@dataclass(frozen=True)
class ReadoutRow:
    """A number that was measured in a plane.

    Attributes:
        plane: Name of the plane by its place; empty if the image has only one.
        readout: Name of the readout.
        number: Name of the number.
        unit: Its unit.
        measured: The number.
        bounds: Its interval, or the reason why there is none.
        level: Probability with which the interval contains the number of the clean image; ``None`` without an interval.
    """

    plane: str
    readout: str
    number: str
    unit: str
    measured: Measured
    bounds: Bounds
    level: float | None

    def record(self) -> dict[str, Any]:
        """Returns plain values for a table; ``None`` for what is not defined."""
        one, bounds = self.measured, self.bounds
        numbers = {"value": one.value, "std": one.std, "low": bounds.low, "high": bounds.high}
        numbers |= {"restored": one.restored, "input": one.input}
        return {
            "plane": self.plane,
            "readout": self.readout,
            "number": self.number,
            "unit": self.unit,
            **{name: value if isfinite(value) else None for name, value in numbers.items()},
            "level": self.level,
            "no_interval": bounds.reason,
        }


@dataclass(frozen=True)
class MeasuredPlane:
    """What was measured in a plane.

    Attributes:
        name: Name of the plane by its place.
        numbers: Numbers by name, for each readout.
        features: Features of the plane before restoration.
        blank: Whether it is constant, and was not restored.
    """

    name: str
    numbers: list[dict[str, Measured]]
    features: dict[str, float]
    blank: bool


@dataclass
class PlaneReadouts:
    """Measures the planes of an image while they are restored in order.

    Args:
        readouts: What is measured.
        trained: The model.
        samples: Number of samples of each plane.
        pixel_size: Size of a pixel in µm, or ``None``.
        other: Why calibrations apply to no image that is restored in this way; empty if they do.
        planes: What was measured in planes before.
    """

    readouts: Sequence[Readout]
    trained: Trained
    samples: int
    pixel_size: float | None = None
    other: str = ""
    planes: list[MeasuredPlane] = field(default_factory=list)
    _samples: list[list[dict[str, float]]] = field(default_factory=list)

    def add_sample(self, number: int, pixels: np.ndarray) -> None:
        """Adds a sample of the plane that is being restored, with shape (H, W)."""
        del number
        if self.samples > 1:
            self._samples.append(measure(self.readouts, pixels, self.pixel_size))

    def add(self, low: np.ndarray, restored: np.ndarray, name: str = "", blank: bool = False) -> None:
        """Adds a plane after its samples.

        Args:
            low: The plane as recorded, with shape (H, W).
            restored: Its restoration.
            name: Name of the plane by its place.
            blank: Whether it is constant, and was not restored.
        """
        before, after = (measure(self.readouts, image, self.pixel_size) for image in (low, restored))
        numbers = [
            {
                key: measured(
                    [one[at].get(key, nan) for one in self._samples], value, before[at].get(key, nan)
                )
                for key, value in after[at].items()
            }
            for at in range(len(self.readouts))
        ]
        features = {} if blank else DistributionShiftCheck(self.trained).features(low)
        self.planes.append(MeasuredPlane(name, numbers, features, blank))
        self._samples = []

    def rows(self, image: str, warnings: Sequence[str] = ()) -> list[ReadoutRow]:
        """Returns all numbers with their intervals.

        Args:
            image: Name of the image.
            warnings: Warnings of the comparison with its restoration. Those of the comparison with training images do
                not matter: it is the calibration images that it must resemble.
        """
        return [row for plane in self.planes for row in self._of_plane(plane, image, warnings)]

    def _of_plane(self, plane: MeasuredPlane, image: str, warnings: Sequence[str]) -> Iterable[ReadoutRow]:
        for readout, numbers in zip(self.readouts, plane.numbers, strict=True):
            calibration = self.trained.readout_calibration(readout.key, self.samples)
            reason = "the plane is constant" if plane.blank else self.other
            if not reason and self.samples < 2:
                reason = ONE_SAMPLE
            reason = reason or objections(calibration, plane.features, self.pixel_size, warnings)
            for number, found in numbers.items():
                bounds = bounds_of(readout, number, found, calibration, image, reason)
                unit = readout.quantity(number).unit(self.pixel_size is not None)
                level = calibration.level if calibration and not bounds.reason else None
                yield ReadoutRow(plane.name, readout.name, number, unit, found, bounds, level)


def isotropic(pixel_size: tuple[float, float] | None) -> float | None:
    """Returns the side of a square with the area of a pixel, in µm; ``None`` if its size is not known."""
    return None if pixel_size is None else float(np.sqrt(pixel_size[0] * pixel_size[1]))
