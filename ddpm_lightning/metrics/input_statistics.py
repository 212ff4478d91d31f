r"""Does an input look like those that the model was trained on?

A network says nothing reliable about images of a kind that it has not seen, and does not say so. Here each low image,
on the normalised scale that the network sees, is described by a few numbers: its mean, the means of its darkest and
brightest hundredth, its noise level, the correlation of the noise of neighbouring pixels, and its power in eight bands
of spatial frequency. An image is outside of the training distribution if one of them leaves the range of the training
images, widened by half on either side (noise and power on a logarithmic scale): for 32 images of a normal distribution
that is about four standard deviations.

Another kind of structure with the same brightness, noise and spectrum is not noticed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from ddpm_lightning.metrics.noise_level import noise_level
from ddpm_lightning.metrics.noise_model import noise_correlation
from ddpm_lightning.metrics.spectrum import radial_power_spectrum

__all__ = ["BANDS", "SeenInputs", "describe_input"]

#: Edges of the bands of spatial frequency, in cycles per pixel: from periods of 64 pixels to 2.
BANDS = np.geomspace(1 / 64, 1 / 2, 9)
#: Part of the training range by which it is widened on either side.
MARGIN = 0.5
#: A correlation is estimated to within about so much; images with independent noise only have a very narrow range.
CORRELATION_ERROR = 0.1


def describe_input(image: np.ndarray) -> dict[str, float]:
    """Returns the features of one image.

    Args:
        image: Low image with shape (H, W), normalised, finite.
    """
    image = image.astype(np.float64)
    ordered = np.sort(image, axis=None)
    few = max(1, len(ordered) // 100)
    features = {
        "mean": float(image.mean()),
        "dark": float(ordered[:few].mean()),
        "bright": float(ordered[-few:].mean()),
        "noise": noise_level(image),
        "correlation": noise_correlation(image),
    }
    spectrum = radial_power_spectrum(torch.from_numpy(image)[None, None])
    frequency, power = spectrum.frequency.numpy(), spectrum.power[0].numpy()
    centres = np.sqrt(BANDS[1:] * BANDS[:-1])
    for number, (low, high, centre) in enumerate(zip(BANDS[:-1], BANDS[1:], centres, strict=True)):
        inside = (frequency >= low) & (frequency < high)
        # Small images have no ring in the coarsest bands.
        level = power[inside].mean() if inside.any() else np.interp(centre, frequency, power)
        features[f"power_{number}"] = float(np.log10(max(level, 1e-12)))
    return features


@dataclass(frozen=True)
class SeenInputs:
    """Features of training images.

    Attributes:
        features: The value of each training image by feature.
    """

    features: dict[str, list[float]]

    @classmethod
    def of(cls, images: Iterable[np.ndarray]) -> Self:
        """Returns the reference of training images with shape (H, W), normalised."""
        described = [describe_input(image) for image in images]
        return cls({name: [features[name] for features in described] for name in described[0]})

    @classmethod
    def load(cls, state: dict[str, Any]) -> Self:
        """Returns the reference that a checkpoint carries."""
        return cls({name: list(values) for name, values in state.items()})

    def state(self) -> dict[str, list[float]]:
        """Returns plain containers for a checkpoint."""
        return self.features

    def bounds(self, name: str) -> tuple[float, float]:
        """Returns the range of a feature that counts as seen in training."""
        low, high = min(self.features[name]), max(self.features[name])
        if name == "noise" and low > 0:
            margin = (high / low) ** MARGIN
            return low / margin, high * margin
        margin = max(MARGIN * (high - low), CORRELATION_ERROR if name == "correlation" else 0)
        return low - margin, high + margin

    def outside(self, features: dict[str, float]) -> list[str]:
        """Returns the features of an image that leave the training distribution."""
        found = []
        for name in self.features.keys() & features.keys():
            low, high = self.bounds(name)
            if not low <= features[name] <= high:
                found.append(name)
        return sorted(found, key=list(self.features).index)
