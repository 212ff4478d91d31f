"""What is known of the size of a model's standard deviation, as its card keeps it.

The standard deviation of the samples ranks the pixels of an image by uncertainty; whether it is as large as the error
must be measured on images with a clean partner. The result, a factor and perhaps calibrated intervals, holds for one
sampler and number of samples, so a card has a list of calibrations. They are in the card, hence in the checkpoint, and
stay with the model when it is exported.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Count, Settings, Text, UnitInterval

__all__ = ["CALIBRATIONS", "LARGEST", "SMALLEST", "Calibration", "calibrations_of"]

#: Entry of the card.
CALIBRATIONS = "calibrations"
#: Factors outside of this range are not those of a trained model.
SMALLEST, LARGEST = 1e-3, 1e3

Factor = Annotated[float, Field(ge=SMALLEST, le=LARGEST)]


class Calibration(Settings):
    """The size of the standard deviation for one way of making samples.

    Attributes:
        sampling: How the samples are made, in words.
        sampler: The sampler with all of its settings; empty if the model has none.
        samples: Number of samples; 0 for the standard deviation of a network.
        std_factor: What the standard deviation (of samples: the population standard deviation) is multiplied by, so
            that it has the size of the error of the restored image (:mod:`ddpm_lightning.metrics.std_factor`).
        ideal_factor: What it would be for samples of the true posterior: not 1 if there are few of them.
        coverage: Share of the pixels of the calibration images within the Gaussian 90 % interval after scaling.
        images: Number of calibration images.
        data: Name of their data set.
        split: Name of their split.
        intervals: Calibrated intervals, or ``None``.
    """

    model_config = ConfigDict(extra="ignore")

    sampling: Text
    sampler: str
    samples: Literal[0] | Annotated[int, Field(ge=2)]
    std_factor: Factor
    ideal_factor: Factor
    coverage: UnitInterval
    images: Count
    data: Text
    split: Text
    intervals: Conformal | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is valid for."""
        return self.sampling, self.sampler, self.samples

    @property
    def origin(self) -> str:
        """What it was measured on, in words."""
        return f"{self.images} images of {self.data}, split {self.split}"


def calibrations_of(card: Mapping[str, Any]) -> list[Calibration]:
    """Returns the calibrations of a card.

    Raises:
        ValueError: If one of them is damaged.
    """
    found = card.get(CALIBRATIONS, [])
    if not isinstance(found, list | tuple) or not all(isinstance(one, Mapping) for one in found):
        raise ValueError(f"{CALIBRATIONS} of its card is not a list of named values")
    try:
        return [Calibration.of(one) for one in found]
    except UserError as error:
        raise ValueError(
            f"{CALIBRATIONS} of its card: {error.subject} {error.found}; allowed: {error.allowed}"
        ) from error
