r"""How much averaging more samples helps.

For independent samples, the error of their mean falls as

.. math:: \mathrm{MSE}(N) = a + b / N

where :math:`a` is the error that no averaging removes (that of the posterior mean) and :math:`b` the variance of a
sample. If the samples come from the true posterior, :math:`b = a`: one sample has twice the error of the posterior
mean, and averaging improves the PSNR by at most 3.01 dB, of which 15 samples achieve 2.73 dB. A ratio :math:`b / a`
below 1 means that the samples are too similar, a ratio above 1 that they vary too much. The test has no free parameter.

For :math:`n` given samples, the average over all subsets of size :math:`N` has a closed form, in terms of the mean
:math:`m` and the unbiased variance :math:`u^2` of each pixel:

.. math:: \overline{\mathrm{MSE}}(N) = \overline{(m - y)^2} + \overline{u^2} \left( \frac{1}{N} - \frac{1}{n}
\right)

so :func:`averaging_law` obtains :math:`a` and :math:`b` without a fit and without bias. :func:`fit_averaging_law` fits
errors that were measured, where clamping, rounding or dependent samples may violate the law; the residual of the fit
shows whether they do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, log10, nan

import numpy as np
from torch import Tensor

from ddpm_lightning.metrics.calibration import checked_samples


@dataclass(frozen=True)
class AveragingLaw:
    """MSE(N) = a + b / N.

    Attributes:
        a: Squared error as N goes to infinity, in the squared unit of the image.
        b: Variance of one sample, in the squared unit of the image.
        residual: Largest relative deviation of the measured errors from the law; 0 where it was not fitted.
    """

    a: float
    b: float
    residual: float = 0.0

    @property
    def ratio(self) -> float:
        """Ratio b / a: 1 for samples from the true posterior; NaN where the estimate of a is not positive."""
        return self.b / self.a if self.a > 0 else nan

    def error(self, number: float) -> float:
        """Returns the mean squared error of the mean of some samples.

        Args:
            number: How many samples are averaged; may be ``math.inf``.
        """
        return self.a + self.b / number

    def gain(self, number: float) -> float:
        """Returns what averaging gains over one sample, in dB of PSNR; NaN where the law has no positive error.

        Args:
            number: How many samples are averaged; may be ``math.inf``.
        """
        return _decibel(self.error(1), self.error(number))

    def remaining(self, number: float) -> float:
        """Returns what endless averaging would still gain, in dB of PSNR; NaN where a is not positive.

        Args:
            number: How many samples are averaged already.
        """
        return _decibel(self.error(number), self.a)

    def needed(self, tolerance: float = 0.1) -> float:
        """Returns how many samples come within a tolerance of the limit; infinite where a is not positive.

        Args:
            tolerance: What may remain to be gained, in dB.
        """
        if not self.a > 0:
            return inf
        return max(1, ceil(self.b / self.a / (10 ** (tolerance / 10) - 1) - 1e-9))

    def suffices(self, number: int, tolerance: float = 0.1) -> bool:
        """Returns whether a number of samples comes within a tolerance of the limit.

        Args:
            number: How many samples are averaged.
            tolerance: What may remain to be gained, in dB.
        """
        return number >= self.needed(tolerance)


def averaging_law(*, samples: Tensor, target: Tensor) -> AveragingLaw:
    """Returns the law of one image from its samples.

    The estimate of ``a`` is unbiased, so for few pixels it may be negative by chance. The law of a data set
    is the mean of ``a`` and the mean of ``b`` over its images.

    Args:
        samples: Independent restorations of one image with shape (N, C, H, W).
        target: The clean image with shape (C, H, W), in the unit of the samples.
    """
    samples, truth = checked_samples(samples=samples, target=target)
    b = samples.var(dim=0).mean().item()
    return AveragingLaw((samples.mean(dim=0) - truth).square().mean().item() - b / len(samples), b)


def fit_averaging_law(numbers: Sequence[float], errors: Sequence[float]) -> AveragingLaw:
    """Fits the law to measured errors by least squares.

    Args:
        numbers: How many samples were averaged, at least two different numbers.
        errors: Mean squared error for each of them.
    """
    inverse, measured = 1 / np.asarray(numbers, dtype=float), np.asarray(errors, dtype=float)
    if inverse.shape != measured.shape or len(np.unique(inverse)) < 2:
        raise ValueError(
            "the law has two parameters: give the errors of at least two different numbers of samples"
        )
    b, a = np.polyfit(inverse, measured, 1)
    residual = np.abs(measured - a - b * inverse).max() / np.abs(measured).max() if measured.any() else 0.0
    return AveragingLaw(float(a), float(b), float(residual))


def _decibel(before: float, after: float) -> float:
    return 10 * log10(before / after) if before > 0 and after > 0 else nan
