r"""Proper scoring rules of two samples: losses that are smallest for samples of the posterior itself.

For two independent samples with errors :math:`e_1, e_2` (sample minus truth), the almost fair score is

.. math:: \frac{1}{2} \left( |e_1| + |e_2| - (1 - \epsilon) |e_1 - e_2| \right), \quad \epsilon = \frac{1 - \alpha}{2}.

The first two terms pull both samples towards the truth, the last one pushes them apart. With :math:`\alpha = 1` the
expectation is the continuous ranked probability score (CRPS) of the distribution of the samples, without the bias of
their small number ("fair"). However, the loss of a single pair then does not depend on how far apart the samples are,
as long as the truth lies between them; a slightly smaller :math:`\alpha` prevents this.

The score of single pixels ignores how pixels vary together: samples with the right distribution in each pixel may still
look grainy. Therefore the Fourier coefficients of square windows are scored as well. Where the errors of a restoration
are stationary, the variances of these coefficients are its power spectrum, hence its covariance between pixels. (A
cosine transform would not do: it cannot tell a diagonal from its mirror image.)

References:
    Gneiting, Raftery. *Strictly proper scoring rules, prediction, and estimation* (2007),
    doi 10.1198/016214506000001437.
    Lang et al. *AIFS-CRPS* (2024), arXiv 2412.15832 (almost fair).
"""

import torch
from torch import Tensor

__all__ = ["almost_fair", "score_of_pair"]

#: Share α of the fair score in the almost fair one. For a Gaussian it makes the standard deviation of the samples 1 %
#: too small; 0.95, as in AIFS-CRPS, 5 %.
ALPHA = 0.99


def almost_fair(first: Tensor, second: Tensor, apart: Tensor, alpha: float = ALPHA) -> Tensor:
    """Returns the almost fair score from the sizes of two errors and of their difference, of any one shape.

    Args:
        first: Absolute value or norm of the error of the first sample.
        second: The same of the second sample.
        apart: The same of the difference between the samples.
        alpha: Share of the fair score, in [0, 1].
    """
    return (first + second - (1 - (1 - alpha) / 2) * apart) / 2


def score_of_pair(first: Tensor, second: Tensor, window: int, generator: torch.Generator) -> Tensor:
    """Returns the mean of the scores of pixels and of the Fourier coefficients of windows, a scalar.

    Args:
        first: Errors of one sample of each image with shape (B, C, H, W).
        second: Errors of another, independent sample with the same shape.
        window: Side of the windows in pixels. Smaller images are scored as one window.
        generator: Where the grid of windows starts, so that no pixel is always at the border of a window.
    """
    side = min(window, *first.shape[-2:])
    # A start beyond `spare` would leave no window in images of less than two windows.
    spare = [min(side, length - side + 1) for length in first.shape[-2:]]
    row, column = (int(torch.randint(limit, (), generator=generator)) for limit in spare)
    pixels = _crps(first, second)
    spectra = [_spectra(errors[..., row:, column:], side) for errors in (first, second)]
    return (pixels + _crps(*spectra)) / 2


def _crps(first: Tensor, second: Tensor) -> Tensor:
    return almost_fair(first.abs(), second.abs(), (first - second).abs()).mean()


def _spectra(errors: Tensor, side: int) -> Tensor:
    """Returns real and imaginary parts of the Fourier coefficients of adjacent windows."""
    windows = errors.unfold(-2, side, side).unfold(-2, side, side)
    return torch.view_as_real(torch.fft.rfft2(windows.float(), norm="ortho"))
