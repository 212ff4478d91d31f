"""Along which axis the planes of an image are neighbours: along depth, time, or an axis that the file does not name."""

from dataclasses import dataclass
from math import prod
from typing import Literal

from ddpm_lightning.io.image import ImageInfo

__all__ = ["NeighboursAxis", "StackAxis"]

#: The axis of neighbours: along depth, along time, or ``auto``: the first of depth, time and other axes in the file.
NeighboursAxis = Literal["auto", "z", "t"]


@dataclass(frozen=True)
class StackAxis:
    """An axis of planes. Planes are neighbours if they differ only in their place along it.

    Attributes:
        letter: Letter of the axis, or empty if there is none; no plane has neighbours then.
        step: Distance of neighbours in the order of planes.
        length: Number of planes along the axis.
    """

    letter: str
    step: int = 1
    length: int = 1

    @classmethod
    def of(cls, info: ImageInfo, wanted: NeighboursAxis = "auto") -> "StackAxis":
        """Returns the axis of neighbours of an image; an axis with a single plane, or of channels, is none.

        Args:
            info: Axes and shape of the image.
            wanted: Which axis.
        """
        letters = [letter for letter in info.axes[:-2] if letter != "C"]
        order = ["Z", "T", *letters] if wanted == "auto" else [wanted.upper()]
        for letter in order:
            at = info.axes.find(letter)
            if at >= 0 and info.shape[at] > 1:
                return cls(letter, prod(info.shape[at + 1 : -2]), info.shape[at])
        return cls("")

    def neighbour(self, number: int, distance: int) -> int | None:
        """Returns the number of a neighbour of a plane, or ``None`` beyond the ends of the axis.

        Args:
            number: Running number of the plane in the image.
            distance: How many planes the neighbour is behind it; negative for planes before it.
        """
        inside = 0 <= number // self.step % self.length + distance < self.length
        return number + distance * self.step if inside and self.letter else None
