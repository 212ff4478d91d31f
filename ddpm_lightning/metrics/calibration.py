r"""Is the standard deviation of the samples as large as their error?

For :math:`n` samples :math:`s_1, \dots, s_n` of a pixel with the true value :math:`y`, the mean :math:`m` and
the unbiased variance :math:`u^2`: if truth and samples come from the same distribution, then

.. math:: \mathbb{E}\,(m - y)^2 = (1 + 1/n)\, \mathbb{E}\, u^2

The factor :math:`1 + 1/n` is the error of a mean of finitely many samples, and every measure here has it. For a
Gaussian :math:`(y - m) / (u \sqrt{1 + 1/n})` follows Student's distribution with :math:`n - 1` degrees of
freedom, so an interval from its quantiles has exactly its nominal coverage for any :math:`n`. For other shapes it is
close: 89 to 94 % instead of 90 % for exponential, Laplace, uniform and log-normal distributions and :math:`n = 15`.
Quantiles of the samples are not: the range of 15 samples covers 14/16 of any distribution, and the 5 and 95 %
quantiles, interpolated as usual, 80 %.

The rank histogram and the CRPS assume no shape of the distribution. Binning by :math:`u^2` (ENCE, UCE) has a
floor above zero even for perfect samples, because the variance of few samples is itself uncertain: compare it
between methods at equal :math:`n`.

If the target is noisy its noise enters every error: calibration then describes noisy targets.

References:
    Accurate uncertainties for deep learning using calibrated regression (Kuleshov, Fenner and Ermon, 2018),
    https://arxiv.org/abs/1807.00263
    Evaluating and calibrating uncertainty prediction in regression tasks (Levi, Gispan, Giladi and Fetaya,
    2022), https://arxiv.org/abs/1905.11659
    Strictly proper scoring rules, prediction, and estimation (Gneiting and Raftery, 2007),
    https://doi.org/10.1198/016214506000001437
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))


class Interval(NamedTuple):
    """Central prediction interval of every pixel, assessed over one image.

    Attributes:
        coverage: Fraction of pixels inside, ideally the nominal level.
        width: Mean width in the unit of the image.
        score: Interval score in the unit of the image, smaller is better: width plus 2 / (1 - level) times
            the mean distance of the pixels outside.
    """

    coverage: float
    width: float
    score: float


class BinnedCalibration(NamedTuple):
    """Error against predicted standard deviation in bins of equal count, smallest first.

    Attributes:
        spread: Root of the mean predicted variance of each bin with shape (K,), in the unit of the image.
        error: Root-mean-square error of each bin with shape (K,), in the unit of the image.
        uce: Mean of the absolute difference of the two, in the unit of the image; 0 is ideal.
        ence: Mean of that difference divided by the predicted standard deviation; 0 is ideal, NaN where that of a
            bin is zero.
    """

    spread: Tensor
    error: Tensor
    uce: float
    ence: float


class SpreadSkill(NamedTuple):
    """Standard deviation and error of a whole image in its unit.

    Attributes:
        spread: Root of the mean of (1 + 1/n) times the variance of the samples.
        skill: Root-mean-square error of the mean of the samples.
    """

    spread: float
    skill: float

    @property
    def ratio(self) -> float:
        """Spread–skill ratio, ideally 1; NaN without an error."""
        return self.spread / self.skill if self.skill > 0 else float("nan")


def check_samples(samples: Tensor, target: Tensor, least: int = 2) -> None:
    """Raises a ``ValueError`` unless there are enough samples, of the size of the target.

    Args:
        samples: Restorations of one image with shape (N, C, H, W).
        target: The clean image with shape (C, H, W), or (1, C, H, W).
        least: Number of samples that are needed.
    """
    if len(samples) < least:
        raise ValueError(f"the standard deviation needs at least {least} samples, got {len(samples)}")
    if samples[0].numel() != target.numel() or target.shape[-2:] != samples.shape[-2:]:
        raise ValueError(
            f"samples have shape {tuple(samples.shape)}, target {tuple(target.shape)}: images differ"
        )


def checked_samples(*, samples: Tensor, target: Tensor, least: int = 2) -> tuple[Tensor, Tensor]:
    """Returns samples with shape (N, P) and target with shape (P,), both in float64.

    Args:
        samples: Independent restorations of one image with shape (N, C, H, W).
        target: The clean image with shape (C, H, W), or (1, C, H, W), in the unit of the samples.
        least: Number of samples that are needed.
    """
    check_samples(samples, target, least)
    return samples.detach().double().flatten(1), target.detach().double().flatten()


def prediction_interval(*, samples: Tensor, target: Tensor, level: float = 0.9) -> Interval:
    """Assesses the central interval m ± t u √(1 + 1/n) with Student's quantile t.

    Args:
        samples: Independent restorations of one image with shape (N, C, H, W).
        target: The clean image with shape (C, H, W), in the unit of the samples.
        level: Nominal coverage in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: it must lie between 0 and 1")
    error, spread, number = _error_and_spread(samples, target)
    half = float(student.ppf((1 + level) / 2, number - 1)) * spread
    outside = (error - half).clamp(min=0)
    score = 2 * half.mean() + 2 / (1 - level) * outside.mean()
    return Interval((error <= half).double().mean().item(), 2 * half.mean().item(), score.item())


def coverage_curve(*, samples: Tensor, target: Tensor, levels: tuple[float, ...] = LEVELS) -> Tensor:
    """Returns the empirical coverage of the central intervals of several levels, with shape (len(levels),).

    Args:
        samples: Independent restorations of one image with shape (N, C, H, W).
        target: The clean image with shape (C, H, W), in the unit of the samples.
        levels: Nominal coverages in (0, 1).
    """
    error, spread, number = _error_and_spread(samples, target)
    halves = (float(student.ppf((1 + level) / 2, number - 1)) * spread for level in levels)
    return torch.stack([(error <= half).double().mean() for half in halves])


def quantile_calibration_error(coverage: Tensor, *, levels: tuple[float, ...] = LEVELS) -> float:
    """Returns the mean absolute difference of empirical and nominal coverage; 0 is ideal, at most about 0.5.

    Args:
        coverage: Empirical coverage with shape (len(levels),), of one image or averaged over images.
        levels: Nominal coverages.
    """
    return (coverage - torch.tensor(levels, dtype=coverage.dtype, device=coverage.device)).abs().mean().item()


def binned_calibration(*, samples: Tensor, target: Tensor, bins: int = 15) -> BinnedCalibration:
    """Compares error and predicted standard deviation in bins of equal count.

    Args:
        samples: Independent restorations of one image with shape (N, C, H, W).
        target: The clean image with shape (C, H, W), in the unit of the samples.
        bins: Number of bins.
    """
    error, spread, _ = _error_and_spread(samples, target)
    order = torch.argsort(spread, stable=True)
    parts = order.tensor_split(min(bins, len(order)))
    spreads = torch.stack([spread[part].square().mean().sqrt() for part in parts])
    errors = torch.stack([error[part].square().mean().sqrt() for part in parts])
    weights = torch.tensor([len(part) for part in parts], dtype=torch.float64, device=error.device) / len(
        order
    )
    difference = (errors - spreads).abs()
    relative = (weights * difference / torch.where(spreads > 0, spreads, torch.nan)).sum()
    return BinnedCalibration(spreads, errors, (weights * difference).sum().item(), relative.item())


def spread_skill(*, samples: Tensor, target: Tensor) -> SpreadSkill:
    """Returns standard deviation and error of one image; equal for calibrated samples.

    Args:
        samples: Independent restorations of one image with shape (N, C, H, W).
        target: The clean image with shape (C, H, W), in the unit of the samples.
    """
    error, spread, _ = _error_and_spread(samples, target)
    return SpreadSkill(spread.square().mean().sqrt().item(), error.square().mean().sqrt().item())


def crps(*, samples: Tensor, target: Tensor) -> float:
    r"""Returns the fair continuous ranked probability score, mean over pixels, in the unit of the image.

    .. math:: \frac{1}{n} \sum_i |s_i - y| - \frac{1}{2 n (n - 1)} \sum_{i \ne j} |s_i - s_j|

    Fair: its expectation does not depend on the number of samples. Smaller is better. That of a single sample is its
    mean absolute error.

    Args:
        samples: Independent restorations of one image with shape (N, C, H, W).
        target: The clean image with shape (C, H, W), in the unit of the samples.
    """
    samples, truth = checked_samples(samples=samples, target=target, least=1)
    number = len(samples)
    distance = (samples - truth).abs().mean()
    # The sum over pairs of sorted values is a weighted sum of the values.
    ranks = torch.arange(1, number + 1, dtype=torch.float64, device=samples.device)
    # NumPy sorts many short columns several times faster than torch.
    in_order = torch.from_numpy(np.sort(samples.cpu().numpy(), axis=0)).to(samples.device)
    pairs = ((2 * ranks - number - 1)[:, None] * in_order).sum(dim=0).mean()
    return (distance - pairs / (number * max(1, number - 1))).item()


def rank_histogram(*, samples: Tensor, target: Tensor) -> Tensor:
    """Returns how often the truth has each rank among the samples, as fractions with shape (N + 1,).

    Flat for calibrated samples, a valley if their standard deviation is too small, a hill if it is too large, a slope
    for a bias. A truth that equals some samples counts evenly for all ranks that it could have.

    Args:
        samples: Independent restorations of one image with shape (N, C, H, W).
        target: The clean image with shape (C, H, W), in the unit of the samples.
    """
    samples, truth = checked_samples(samples=samples, target=target)
    below = (samples < truth).sum(dim=0)
    ties = (samples == truth).sum(dim=0)
    share = 1 / (ties + 1).double()
    # Each pixel is a box from its lowest to its highest possible rank: a step up and a step down, then a
    # running sum.
    steps = torch.zeros(len(samples) + 2, dtype=torch.float64, device=samples.device)
    steps.index_add_(0, below, share).index_add_(0, below + ties + 1, -share)
    return steps.cumsum(dim=0)[:-1] / len(truth)


def rank_divergence(histogram: Tensor) -> float:
    """Returns the Kullback-Leibler divergence of a rank histogram from the flat one, in nats; 0 is ideal.

    Args:
        histogram: Fractions with shape (N + 1,), of one image or averaged over images.
    """
    return torch.special.xlogy(histogram, histogram * len(histogram)).sum().item()


def _error_and_spread(samples: Tensor, target: Tensor) -> tuple[Tensor, Tensor, int]:
    """Returns |m - y| and its predicted standard deviation with shape (P,), and the number of samples."""
    samples, truth = checked_samples(samples=samples, target=target)
    number = len(samples)
    return (samples.mean(dim=0) - truth).abs(), samples.std(dim=0) * sqrt(1 + 1 / number), number
