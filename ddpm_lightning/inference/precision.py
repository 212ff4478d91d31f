r"""Estimates the precision of the mean of the samples, and decides when enough samples have been computed.

The precision of an image is the median, over its foreground, of the standard error of the mean, as a fraction of the
image's range. The foreground is the pixels above the mean intensity; the range is that from the 0.1 to the 99.9
percentile. The two samples of an antithetic pair are not independent, so pairs are counted instead of samples.

The gain of more samples follows from the law MSE(N) = a + b / N (:mod:`ddpm_lightning.metrics.averaging_law`). The
variance b of a sample is known; the error a, which averaging does not remove, is unknown without the clean image.
Samples of the true posterior have a = b, and those of trained models vary less, so the reported gain is an upper
bound.
"""

from collections.abc import Iterable
from math import log10, sqrt

import torch
from torch import Tensor

from ddpm_lightning.diffusion.ensemble import Ensemble

__all__ = ["Precision", "least_precise"]

#: Maximum number of pixels from which the precision is estimated; larger images are sampled on a regular grid.
MOST_PIXELS = 2**18
#: Minimum number of pairs or samples for a meaningful standard error.
FEWEST = 3


class Precision:
    """Estimates the precision while samples are added.

    Args:
        ensemble: Statistics of the samples, to which each sample is added.
        together: Number of samples that are not independent: 2 for antithetic pairs, else 1.
    """

    def __init__(self, ensemble: Ensemble, together: int = 1) -> None:
        self.ensemble, self.together = ensemble, together
        self._units = ensemble if together == 1 else Ensemble()
        self._half: Tensor | None = None

    def update(self, sample: Tensor) -> None:
        """Adds a sample with shape (H, W)."""
        self.ensemble.update(sample)
        if self.together == 1:
            return
        if self._half is None:
            self._half = sample
        else:
            self._units.update((self._half + sample) / 2)
            self._half = None

    @property
    def units(self) -> int:
        """Number of independent samples or pairs."""
        return self._units.count

    @property
    def standard_error(self) -> float | None:
        """Median standard error in the foreground as a fraction of the range; ``None`` if there are too few samples."""
        if self.units < FEWEST or self._units.mean is None:
            return None
        stride = max(1, round(sqrt(self._units.mean.numel() / MOST_PIXELS)))
        mean, error = (image[::stride, ::stride] for image in (self._units.mean, self._units.standard_error))
        low, high = torch.quantile(mean, torch.tensor([0.001, 0.999], dtype=mean.dtype))
        foreground = error[mean > mean.mean()]
        if not high > low or not foreground.numel():
            return None
        # The variance of few numbers has a skewed distribution (chi-squared), whose median is too low, by the factor
        # (1 - 2 / 9k)³ for k degrees of freedom (Wilson and Hilferty).
        skewness = (1 - 2 / (9 * (self.units - 1))) ** 3
        return (foreground.median() / (high - low)).item() / sqrt(skewness)

    def suffices(self, tolerance: float | None) -> bool:
        """Returns whether the standard error is below a tolerance; never so after the first sample of a pair."""
        if tolerance is None or self._half is not None:
            return False
        error = self.standard_error
        return error is not None and error < tolerance

    def record(self) -> dict[str, float | None]:
        """Returns the standard error, and the maximum gain of more samples in dB, for the records of results."""
        twice = endless = None
        if self.units >= 2:
            of_units, of_samples = (e.std.square().mean().item() for e in (self._units, self.ensemble))
            # Error that averaging would still remove, as a fraction of a, assuming a = b.
            remains = of_units / max(of_samples, 1e-30) / self.units
            twice = round(10 * log10((1 + remains) / (1 + remains / 2)), 3)
            endless = round(10 * log10(1 + remains), 3)
        error = self.standard_error
        return {
            "standard_error": None if error is None else round(error, 6),
            "gain_of_twice_as_many_samples_db": twice,
            "gain_of_endless_samples_db": endless,
        }


def least_precise(found: Iterable[dict[str, float | None] | None]) -> dict[str, float | None] | None:
    """Returns the record with the largest standard error among those of planes; ``None`` if there is none."""
    return max((one for one in found if one), key=lambda one: one["standard_error"] or 0.0, default=None)
