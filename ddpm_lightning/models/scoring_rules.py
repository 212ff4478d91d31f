r"""Proper scoring rules of two samples: losses that are smallest for samples of the posterior itself.

For two independent samples with errors :math:`e_1, e_2` (sample minus truth), the almost fair score is

.. math:: \frac{1}{2} \left( |e_1| + |e_2| - (1 - \epsilon) |e_1 - e_2| \right), \quad \epsilon = \frac{1 - \alpha}{2}.

The first two terms pull both samples towards the truth, the last one pushes them apart. With :math:`\alpha = 1` the
expectation is the continuous ranked probability score (CRPS) of the distribution of the samples, without the bias of
their small number ("fair"). However, the loss of a single pair then does not depend on how far apart the samples are,
as long as the truth lies between them; a slightly smaller :math:`\alpha` prevents this.

The score of single pixels ignores how pixels vary together: samples with the right distribution in each pixel may still
look grainy. Therefore averages over squares, differences between neighbouring pixels, and whole windows are scored as
well; the score of a window has the Euclidean norm in place of the absolute value (energy score).

References:
    Gneiting, Raftery. *Strictly proper scoring rules, prediction, and estimation* (2007),
    doi 10.1198/016214506000001437.
    Lang et al. *AIFS-CRPS* (2024), arXiv 2412.15832 (almost fair).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["almost_fair", "multiscale_score"]

#: Share α of the fair score in the almost fair one. For a Gaussian it makes the standard deviation of the samples 1 %
#: too small; 0.95, as in AIFS-CRPS, 5 %.
ALPHA = 0.99
#: Smallest squared norm of a window, so that the norm has a gradient at 0.
SMALLEST = 1e-8


def almost_fair(first: Tensor, second: Tensor, apart: Tensor, alpha: float = ALPHA) -> Tensor:
    """Returns the almost fair score from the sizes of two errors and of their difference, of any one shape.

    Args:
        first: Absolute value or norm of the error of the first sample.
        second: The same of the second sample.
        apart: The same of the difference between the samples.
        alpha: Share of the fair score, in [0, 1].
    """
    return (first + second - (1 - (1 - alpha) / 2) * apart) / 2


def multiscale_score(first: Tensor, second: Tensor, scales: Sequence[int], window: int) -> Tensor:
    """Returns the mean of the scores of averages, differences and windows, a scalar.

    Args:
        first: Errors of one sample of each image with shape (B, C, H, W).
        second: Errors of another, independent sample with the same shape.
        scales: Sides in pixels of the squares over which errors are averaged; 1 for single pixels. Squares larger than
            the images are left out.
        window: Side in pixels of the windows of the energy score.
    """
    scores = list(_scores(first, second, scales, window))
    return torch.stack(scores).mean()


def _scores(first: Tensor, second: Tensor, scales: Sequence[int], window: int) -> Iterator[Tensor]:
    fits = min(first.shape[-2:])
    for scale in scales:
        if scale <= fits:
            yield _crps(functional.avg_pool2d(first, scale), functional.avg_pool2d(second, scale))
    yield (
        _crps(first.diff(dim=-1), second.diff(dim=-1)) + _crps(first.diff(dim=-2), second.diff(dim=-2))
    ) / 2
    if window <= fits:
        yield almost_fair(_norm(first, window), _norm(second, window), _norm(first - second, window)).mean()


def _crps(first: Tensor, second: Tensor) -> Tensor:
    return almost_fair(first.abs(), second.abs(), (first - second).abs()).mean()


def _norm(error: Tensor, window: int) -> Tensor:
    """Returns the root mean square of each window with shape (B, C, H / window, W / window)."""
    return (functional.avg_pool2d(error.square(), window) + SMALLEST).sqrt()
