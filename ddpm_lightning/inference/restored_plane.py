"""A restored plane of an image, and what is known of all planes after their pixels are gone."""

from dataclasses import dataclass, field

import numpy as np

from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.io.notes import counted
from ddpm_lightning.metrics.residual_tests import ResidualTests

__all__ = ["PlaneNotes", "RestoredPlane", "replaced_pixels"]


@dataclass(frozen=True)
class RestoredPlane:
    """A plane of an image, before and after.

    Attributes:
        number: Number of the plane in the order of the image.
        name: Name of the plane by its place, such as ``c1_z0``; empty if the image has only one.
        low: The plane as recorded, with shape (H, W).
        restored: Its restoration.
        blank: Whether the plane is constant; it was then left unchanged.
        features: Features that are compared with those of the training images, or ``None`` if they are not compared.
        residual: What its comparison with the plane shows, or ``None`` if they are not compared.
    """

    number: int
    name: str
    low: np.ndarray
    restored: Restoration
    blank: bool
    features: dict[str, float] | None
    residual: ResidualTests | None = None


@dataclass
class PlaneNotes:
    """What is known of the planes of an image after their pixels are gone.

    Attributes:
        blank: Names of planes that are constant.
        constant: Intensity of the last constant plane.
        features: Features of the planes that are compared with the training images.
        residuals: What the comparison of these planes with their restorations shows.
        replaced: Number of hot and dead pixels that were replaced.
    """

    blank: list[str] = field(default_factory=list)
    constant: float = 0.0
    features: list[dict[str, float]] = field(default_factory=list)
    residuals: list[ResidualTests] = field(default_factory=list)
    replaced: int = 0

    def add(self, plane: RestoredPlane) -> None:
        """Takes notes of a plane."""
        self.replaced += plane.restored.replaced
        if plane.blank:
            self.blank.append(plane.name or str(plane.number))
            self.constant = float(plane.restored.mean.flat[0])
        if plane.features is not None:
            self.features.append(plane.features)
        if plane.residual is not None:
            self.residuals.append(plane.residual)


def replaced_pixels(count: int) -> str:
    """Returns the note on the number of replaced pixels."""
    return f"{counted(count, 'hot or dead pixel was', 'hot or dead pixels were')} replaced; hot_pixels=keep keeps them"
