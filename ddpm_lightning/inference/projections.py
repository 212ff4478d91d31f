"""Projections of a stack, and their standard deviation over the samples.

The standard deviation of a sum or a maximum does not follow from those of the planes, because errors of neighbouring
planes correlate. Therefore each sample of the stack is projected, and the standard deviation is that of these
projections. They are accumulated while planes are restored: in memory is, for each kind of projection, one image for
each sample, whatever the number of planes.

The projected image is that of the restored stack. The mean of the projected samples would be farther from the truth: a
maximum finds the planes in which noise of the samples is highest.
"""

import csv
import io
from pathlib import Path
from typing import Literal

import numpy as np

from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.io.image import ImageInfo, PlaneIndex
from ddpm_lightning.utils.atomic import write_text

__all__ = ["PROFILE", "Projection", "StackProjections", "projected_axis"]

PROFILE = "profile"
Projection = Literal["max", "mean", "sum", "profile"]


def projected_axis(info: ImageInfo) -> str:
    """Returns the letter of the axis that is projected: depth, else time, else the first of several planes.

    It is empty if there are not several planes of a channel.
    """
    several = [
        letter
        for letter, size in zip(info.axes[:-2], info.shape[:-2], strict=True)
        if size > 1 and letter != "C"
    ]
    return next((letter for letter in ("Z", "T", *several) if letter in several), "")


class StackProjections:
    """Projects an image and each of its samples, while its planes are restored in order.

    Args:
        info: Description of the image.
        kinds: Which projections: maximum, mean and sum of the planes, and the profile: the mean of each plane.
        samples: Number of samples.

    Attributes:
        info: Description of the projected image.
    """

    def __init__(self, info: ImageInfo, kinds: list[Projection], samples: int) -> None:
        self.samples = samples
        axis = projected_axis(info)
        self.info = info.projected(axis)
        self._kinds = [kind for kind in kinds if kind != PROFILE]
        self._along = info.axes.index(axis) if axis else None
        self._length = info.shape[self._along] if self._along is not None else 1
        self._places, self._done = list(info.planes()), 0
        self._open: dict[tuple[int, ...], dict[str, np.ndarray]] = {}
        self._means: list[float] = []
        self._rows: list[list[str | int | float]] = []

    def add_sample(self, number: int, pixels: np.ndarray) -> None:
        """Adds a sample of the plane that is being restored, with shape (H, W)."""
        self._means.append(float(pixels.mean(dtype=np.float64)))
        self._accumulate(number + 1, pixels)

    def add(self, restored: Restoration) -> dict[str, np.ndarray]:
        """Adds a restored plane after its samples; a constant plane has none.

        Returns:
            Finished projections by the part of their names, float32, with ``_std`` for their standard deviations; empty
            unless this was the last plane that they need.
        """
        self._accumulate(0, restored.mean)
        if not self._means:  # a constant plane
            for number in range(self.samples):
                self.add_sample(number, restored.mean)
        if len(self._means) != self.samples:
            raise ValueError(
                f"projections of {self.samples} samples need all of them, not {len(self._means)}"
            )
        place = self._places[self._done]
        factor = restored.calibration.std_factor if restored.calibration else 1.0
        mean = float(restored.mean.mean(dtype=np.float64))
        self._rows.append([*place.index, mean, factor * float(np.std(self._means))])
        self._means, self._done = [], self._done + 1
        if self._along is not None and place.index[self._along] < self._length - 1:
            return {}
        return self._finished(self._open.pop(self._rest_of(place), {}), factor)

    def _finished(self, accumulated: dict[str, np.ndarray], factor: float) -> dict[str, np.ndarray]:
        found = {}
        for kind, images in accumulated.items():
            images = images / self._length if kind == "mean" else images
            found[kind] = images[0].astype(np.float32)
            if self.samples > 1:
                found[f"{kind}_std"] = (factor * images[1:].std(axis=0)).astype(np.float32)
        return found

    def write_profile(self, path: Path, info: ImageInfo) -> None:
        """Writes the mean intensity of each plane with its standard deviation over the samples, as CSV.

        Args:
            path: The file.
            info: Description of the image.
        """
        text = io.StringIO()
        several = self.samples > 1
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*info.axes[:-2].lower(), "mean", *["std"] * several])
        writer.writerows(row if several else row[:-1] for row in self._rows)
        write_text(path, text.getvalue())

    def _rest_of(self, place: PlaneIndex) -> tuple[int, ...]:
        """Returns the index of a plane along the axes that are not projected."""
        return tuple(index for at, index in enumerate(place.index) if at != self._along)

    def _accumulate(self, number: int, pixels: np.ndarray) -> None:
        images = self._open.setdefault(self._rest_of(self._places[self._done]), {})
        for kind in self._kinds:
            if kind not in images:
                images[kind] = np.full((self.samples + 1, *pixels.shape), -np.inf if kind == "max" else 0.0)
            one = images[kind][number]
            (np.maximum if kind == "max" else np.add)(one, pixels, out=one)
