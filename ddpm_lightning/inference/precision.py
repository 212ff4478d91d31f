r"""How precise the mean of the samples is, and when there are enough of them.

The precision of an image is the median, over its foreground, of the standard error of the mean, as a share of the
image's range. Foreground are the pixels above the mean intensity; the range reaches from the 0.1 to the 99.9
percentile. Samples in pairs of antithetic noise are not independent of each other, so pairs are counted, not samples.

What more samples would bring follows from the law MSE(N) = a + b / N (:mod:`ddpm_lightning.metrics.averaging_law`). The
variance b of a sample is seen; the error a that no averaging removes is not, without the truth. Samples of the true
posterior have a = b and those of trained models scatter less, so what is said is the most that can be gained.
"""

from collections.abc import Iterable
from math import log10, sqrt

import torch
from torch import Tensor

from ddpm_lightning.diffusion.ensemble import Ensemble

__all__ = ["Precision", "least_precise"]

#: Pixels from which the precision is estimated; larger images are thinned on a regular grid.
SEEN_PIXELS = 2**18
#: Pairs or samples without which there is no standard error to speak of.
FEWEST = 3


class Precision:
    """Watches samples as they come.

    Args:
        ensemble: Statistics of the samples, to which each sample is added.
        together: Samples that count as one: 2 for pairs of antithetic noise, else 1.
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
        """Number of independent parts of the mean."""
        return self._units.count

    @property
    def standard_error(self) -> float | None:
        """Median standard error in the foreground as a share of the range; ``None`` for too few samples."""
        if self.units < FEWEST or self._units.mean is None:
            return None
        stride = max(1, round(sqrt(self._units.mean.numel() / SEEN_PIXELS)))
        mean, error = (image[::stride, ::stride] for image in (self._units.mean, self._units.standard_error))
        low, high = torch.quantile(mean, torch.tensor([0.001, 0.999], dtype=mean.dtype))
        foreground = error[mean > mean.mean()]
        if not high > low or not foreground.numel():
            return None
        # The variance of few numbers has a skew distribution (chi-squared), whose median lies below what it estimates;
        # Wilson and Hilferty's (1 - 2 / 9k)³ for k degrees of freedom undoes that.
        skewness = (1 - 2 / (9 * (self.units - 1))) ** 3
        return (foreground.median() / (high - low)).item() / sqrt(skewness)

    def suffices(self, tolerance: float | None) -> bool:
        """Says whether the standard error is below a tolerance; half of a pair is waited for."""
        if tolerance is None or self._half is not None:
            return False
        error = self.standard_error
        return error is not None and error < tolerance

    def record(self) -> dict[str, float | None]:
        """Returns what results say: the standard error, and the gain in dB that more samples bring at most."""
        twice = endless = None
        if self.units >= 2:
            of_units, of_samples = (e.std.square().mean().item() for e in (self._units, self.ensemble))
            # Of what remains, as a share of a when a = b.
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
    """Returns the record with the largest standard error, of records of planes; nothing where there is none."""
    return max((one for one in found if one), key=lambda one: one["standard_error"] or 0.0, default=None)
