r"""The factor that gives the standard deviation of samples the size of the error of the restored image.

With the restored image :math:`m` (what is written as the result), the population standard deviation :math:`s` over
its K samples, and the true image :math:`y`,

.. math:: f = \sqrt{\frac{\overline{(m - y)^2}}{\overline{s^2}}}

where both means are over the pixels of all calibration images. The map :math:`f s` then has the size of the error of
:math:`m`, on average over images like these. The factor changes no order of pixels.

**Finite ensembles.** Even samples of the true posterior, with variance :math:`\sigma^2`, need a factor. For K
independent samples, :math:`\mathbb{E}\,(m - y)^2 = (1 + 1/K)\,\sigma^2` and :math:`\mathbb{E}\,s^2 = (1 - 1/K)\,
\sigma^2`, so the ideal factor is :math:`\sqrt{(K + 1) / (K - 1)}`: 1.73 for 2 samples, 1.07 for 15. The deviations of
an antithetic pair cancel in its mean, and both expectations are :math:`\sigma^2`: the ideal factor is 1. If the
restored image is the output of a posterior-mean network, its error does not depend on K, and the ideal factor is
:math:`\sqrt{K / (K - 1)}`; it is 1 if :math:`s` is the output of a network as well. The fitted factor contains this
correction; fitted over ideal factor is how many times too small the standard deviation is.

A factor corrects the size on average, not the shape of the distribution: with two samples, the standard deviation of a
single pixel is itself uncertain, and Gaussian intervals contain fewer pixels than their nominal level. The coverage is
therefore part of the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from torch import Tensor

from ddpm_lightning.metrics.conformal import conformal_scores

__all__ = [
    "LEVEL",
    "StdFactor",
    "StdMoments",
    "fit_std_factor",
    "ideal_factor",
    "std_coverage",
    "std_factor",
    "std_moments",
]

#: Nominal level of the Gaussian intervals of which the coverage is reported.
LEVEL = 0.9


@dataclass(frozen=True)
class StdMoments:
    """What the factor needs to know of one image.

    Attributes:
        pixels: Number of pixels.
        error: Mean squared error of the restored image, in squared units of its scale.
        variance: Mean population variance of its samples, in the same units.
        scores: Quantiles of the error in standard deviations.
    """

    pixels: int
    error: float
    variance: float
    scores: Tensor


@dataclass(frozen=True)
class StdFactor:
    """A fitted factor.

    Attributes:
        factor: What the standard deviation is multiplied by.
        ideal: What it would be for samples of the true posterior.
        coverage: Share of the pixels within the Gaussian interval of :data:`LEVEL` after scaling, mean over images.
        images: Number of images.
    """

    factor: float
    ideal: float
    coverage: float
    images: int


def std_moments(*, mean: Tensor, std: Tensor, target: Tensor) -> StdMoments:
    """Returns what the factor needs to know of one image.

    Args:
        mean: The restored image with any shape.
        std: Population standard deviation of its samples with the same shape.
        target: The true image with the same shape, in the same units.
    """
    scores = conformal_scores(mean=mean, std=std, target=target)
    error = (mean.double() - target.double()).square().mean().item()
    return StdMoments(mean.numel(), error, std.double().square().mean().item(), scores)


def ideal_factor(samples: int, antithetic: bool, network: bool = False) -> float:
    """Returns the factor of samples of the true posterior.

    Args:
        samples: Number of samples, at least 2; 0 for the standard deviation of a network.
        antithetic: Whether they come in antithetic pairs.
        network: Whether the restored image is the output of a posterior-mean network instead of their average.
    """
    if antithetic or not samples:
        return 1.0
    return sqrt((samples if network else samples + 1) / (samples - 1))


def std_factor(moments: Sequence[StdMoments]) -> float:
    """Returns the root mean square of the error divided by that of the standard deviation, over all pixels.

    Args:
        moments: Result of :func:`std_moments` for each image, all on one scale.

    Raises:
        ValueError: If there is no image, all samples are equal, or there is no error.
    """
    error = sum(image.pixels * image.error for image in moments)
    variance = sum(image.pixels * image.variance for image in moments)
    if not (error > 0 and variance > 0):
        raise ValueError("there is no image, or its samples are all equal, or there is no error")
    return sqrt(error / variance)


def std_coverage(moments: Sequence[StdMoments], factor: float) -> float:
    """Returns the share of the pixels within the Gaussian interval of :data:`LEVEL`, mean over images.

    Args:
        moments: At least one image.
        factor: What the standard deviation is multiplied by.
    """
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * factor
    return float(np.mean([(image.scores <= half).double().mean().item() for image in moments]))


def fit_std_factor(
    moments: Sequence[StdMoments], samples: int, antithetic: bool, network: bool = False
) -> StdFactor:
    """Fits the factor to calibration images.

    Args:
        moments: Result of :func:`std_moments` for each image, all on one scale.
        samples: Number of samples of each image, at least 2.
        antithetic: Whether they come in antithetic pairs.
        network: Whether the restored image is the output of a posterior-mean network instead of their average.

    Raises:
        ValueError: If there is no factor; see :func:`std_factor`.
    """
    factor = std_factor(moments)
    ideal = ideal_factor(samples, antithetic, network)
    return StdFactor(factor, ideal, std_coverage(moments, factor), len(moments))
