"""Warnings about images that differ from those that a model was trained on.

The output of a model looks restored for any image, but can be trusted only for images that resemble the training images
in intensities, noise level, pixel size and spectrum. The checkpoint contains statistics of the training images
(:mod:`ddpm_lightning.metrics.input_statistics`); here images are compared with them.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.metrics.input_statistics import BANDS, SeenInputs, describe_input
from ddpm_lightning.metrics.noise_level import noise_level

__all__ = ["DistributionShiftCheck", "central_part", "structure", "warnings_of_planes"]

#: Only the centre of an image is compared, up to this side in pixels: more costs memory and changes little.
SIDE = 1024
#: Ratio of pixel sizes above which a warning is given, because structures differ in size from those of the training.
PIXEL_SIZE_RATIO = 1.25
#: An image is blank if its blurred copy varies less than this many times as much as blurred noise would. For noise
#: alone the ratio is 1 ± 0.04 on 96 x 96 pixels; a correlation of neighbouring pixels raises it.
BLANK = 1.3
BLUR = 2.0
#: Periods in pixels of coarse structure.
COARSE = 10
INTENSITIES = {"mean": "mean", "dark": "darkest 1 %", "bright": "brightest 1 %"}


class DistributionShiftCheck:
    """Compares images with what a model was trained on.

    Args:
        trained: A trained method. If its checkpoint has no statistics of the training images, only their range is used.
    """

    def __init__(self, trained: Trained) -> None:
        state = trained.card.get("inputs")
        self.seen = SeenInputs.load(state) if state else None
        self.normaliser = trained.normalisation.input
        self.pixel_size: float | None = trained.card.get("pixel_size_um")
        self.range = trained.normalisation.input_bounds

    @property
    def checks(self) -> list[str]:
        """What can be checked: intensity always, the rest if the checkpoint has the statistics."""
        found = ["intensity", "blank"]
        if self.seen:
            found += ["noise", "spectrum"]
        return [*found, "pixel size"] if self.pixel_size else found

    def describe(self, plane: np.ndarray) -> dict[str, float]:
        """Returns the features of a plane with shape (H, W), in intensities, on the model's scale."""
        if self.seen:
            return self.features(plane)
        image = self._normalised(plane)
        return {"least": float(image.min()), "greatest": float(image.max()), "structure": structure(image)}

    def features(self, plane: np.ndarray) -> dict[str, float]:
        """Returns all features of a plane with shape (H, W), also of a model without those of its training."""
        image = self._normalised(plane)
        return describe_input(image) | {"structure": structure(image)}

    def _normalised(self, plane: np.ndarray) -> np.ndarray:
        # Scaled as in training: not to the wider range that keeps the noise of a noisy image low.
        return self.normaliser.scale(plane).normalise(central_part(plane))

    def warnings(
        self, described: Iterable[dict[str, float]], pixel_size: tuple[float, float] | None = None
    ) -> list[str]:
        """Returns the differences from the training images, a sentence for each kind.

        Args:
            described: Features of some planes of a file.
            pixel_size: Size of a pixel in µm as (y, x), if it is known.
        """
        described = list(described)
        lines = warnings_of_planes([self._of_plane(features) for features in described])
        if pixel_size and self.pixel_size:
            ratio = float(np.sqrt(pixel_size[0] * pixel_size[1])) / self.pixel_size
            if not 1 / PIXEL_SIZE_RATIO < ratio < PIXEL_SIZE_RATIO:
                lines.append(
                    f"pixel size: {pixel_size[0]:.4g} x {pixel_size[1]:.4g} µm, training images had "
                    f"{self.pixel_size:.4g} µm: structures are {1 / ratio:.2g} times as large in pixels"
                )
        return lines

    def _of_plane(self, features: dict[str, float]) -> dict[str, str]:
        """Returns a sentence for each of intensity, noise and spectrum that differs from training, and for blanks."""
        found = {}
        if features["structure"] < BLANK:
            found["blank"] = "no structure is visible above the noise: do not interpret the restored image"
        if self.seen is None:
            low, high = self.range
            ends = (features["least"], features["greatest"])
            if beyond := [value for value in ends if not 2 * low - high <= value <= 2 * high - low]:
                found["intensity"] = self._intensity("extreme", beyond[0], low, high)
            return found
        outside = [
            name for name in self.seen.outside(features) if not self._is_harmless(name, features[name])
        ]
        for name, words in INTENSITIES.items():
            if name in outside:
                found.setdefault("intensity", self._intensity(words, features[name], *self._range(name)))
        if "noise" in outside:
            low, high = self._range("noise")
            above = features["noise"] > high
            ratio = features["noise"] / max(high if above else low, 1e-9)
            found["noise"] = (
                f"{ratio:.2g} times that of the {'noisiest' if above else 'cleanest'} training image"
            )
        if bands := [name for name in outside if name.startswith("power_")]:
            found["spectrum"] = self._spectrum(features, bands)
        return found

    def _is_harmless(self, name: str, value: float) -> bool:
        """Says whether a feature outside of the training range is no reason for a warning.

        With a scale of its own, the darkest pixels of an image are darker only by their noise, which is checked by
        itself; and an image without large structures is no blurred one.
        """
        below = value < min(self._range(name))
        coarse = name.startswith("power_") and BANDS[int(name.removeprefix("power_")) + 1] <= 1 / COARSE
        return below and (coarse or (name == "dark" and self.normaliser.per_image))

    @staticmethod
    def _intensity(words: str, value: float, low: float, high: float) -> str:
        return f"its {words} is at {value:.2f}, in training it was at {low:.2f} to {high:.2f} (-1 dark, 1 bright)"

    def _spectrum(self, features: dict[str, float], bands: list[str]) -> str:
        """Describes the band of the spectrum that differs most."""
        beyond = {}
        for name in bands:
            low, high = self._range(name)
            beyond[name] = features[name] - (high if features[name] > high else low)
        worst = max(bands, key=lambda name: abs(beyond[name]))
        number = int(worst.removeprefix("power_"))
        periods = f"{1 / BANDS[number + 1]:.2g} to {1 / BANDS[number]:.2g} pixels"
        more = "more" if beyond[worst] > 0 else "less"
        return f"{10 ** abs(beyond[worst]):.2g} times {more} power than in any training image at periods of {periods}"

    def _range(self, name: str) -> tuple[float, float]:
        """Returns the least and the greatest value of a feature in training."""
        values = self.seen.features[name] if self.seen else []
        return min(values), max(values)


def central_part(plane: np.ndarray) -> np.ndarray:
    """Returns the centre of a plane with shape (H, W), up to 1024 pixels wide: enough to describe it."""
    rows, columns = (max(0, (length - SIDE) // 2) for length in plane.shape)
    return plane[rows : rows + SIDE, columns : columns + SIDE]


def warnings_of_planes(found: Sequence[dict[str, str]]) -> list[str]:
    """Returns one warning for each kind of problem, with the number of planes that have it.

    Args:
        found: For each compared plane, a sentence for each kind of problem.
    """
    lines = []
    for kind in dict.fromkeys(kind for sentences in found for kind in sentences):
        affected = [sentences[kind] for sentences in found if kind in sentences]
        some = f" (in {len(affected)} of {len(found)} planes)" if len(found) > 1 else ""
        lines.append(f"{kind}: {affected[0]}{some}")
    return lines


def structure(image: np.ndarray) -> float:
    """Returns how much more the blurred image varies than blurred white noise of its noise level would.

    White noise of standard deviation s has one of s / (2 sqrt(pi) b) after a Gaussian blur of b pixels.

    Args:
        image: Image with shape (H, W), in any unit.
    """
    from scipy.ndimage import gaussian_filter  # imported here because it is slow to load

    noise = noise_level(image) / (2 * np.sqrt(np.pi) * BLUR)
    return float(gaussian_filter(image.astype(np.float64), BLUR, mode="reflect").std() / max(noise, 1e-12))
