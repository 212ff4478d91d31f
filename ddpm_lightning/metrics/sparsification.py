r"""Is the uncertainty large where the error is large?

An uncertainty map may *rank* pixels correctly even if its values are too large or too small. Ranking is therefore
measured separately from calibration. Removing the fraction :math:`f` of pixels with the largest uncertainty should
lower the error of the rest as much as removing those with the largest error (the oracle):

.. math:: \mathrm{AUSE} = \int_0^1 \frac{S_u(f) - S_o(f)}{S(0)}\, df, \qquad
    \mathrm{AURG} = \int_0^1 \left( 1 - \frac{S_u(f)}{S(0)} \right) df

with the mean absolute error :math:`S(f)` of the pixels that are left. AUSE is 0 for a perfect ranking; AURG is the gain
over removing pixels at random; it is 0 or negative for a useless map.

References:
    Uncertainty estimates and multi-hypotheses networks for optical flow (Ilg et al., 2018),
    https://arxiv.org/abs/1802.07095
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

FRACTIONS = 100
MOST_PIXELS = 100_000


class Sparsification(NamedTuple):
    """Error of the pixels that are left, divided by the error of all pixels.

    Attributes:
        fraction: Removed fractions with shape (100,): 0, 0.01, ..., 0.99.
        by_uncertainty: Relative error with shape (100,) when the most uncertain pixels are removed.
        by_error: Relative error with shape (100,) when the worst pixels are removed.
        ause: Area between the two curves; 0 is ideal.
        aurg: Area below 1 of the first curve; larger is better.
    """

    fraction: Tensor
    by_uncertainty: Tensor
    by_error: Tensor
    ause: float
    aurg: float


class Association(NamedTuple):
    """Correlation of error and uncertainty over pixels or over images.

    Attributes:
        spearman: Rank correlation in [-1, 1]; NaN where either is constant.
        pearson: Linear correlation in [-1, 1]; NaN where either is constant.
    """

    spearman: float
    pearson: float


def sparsification(*, error: Tensor, uncertainty: Tensor) -> Sparsification:
    """Returns the sparsification curves and their areas; NaN where there is no error at all.

    Args:
        error: Absolute error of each pixel with any shape.
        uncertainty: Predicted uncertainty of each pixel with the same shape, in any unit.
    """
    errors, uncertainties = error.detach().double().flatten(), uncertainty.detach().double().flatten()
    pixels = len(errors)
    fraction = torch.arange(FRACTIONS, dtype=torch.float64, device=errors.device) / FRACTIONS
    left = (pixels - torch.floor(fraction * pixels)).long().clamp(min=1)

    def remaining(order: Tensor) -> Tensor:
        return errors[order].cumsum(dim=0)[left - 1] / left / errors.mean()

    by_uncertainty = remaining(torch.argsort(uncertainties, stable=True))
    by_error = remaining(torch.argsort(errors, stable=True))
    ause, aurg = (by_uncertainty - by_error).mean().item(), (1 - by_uncertainty).mean().item()
    return Sparsification(fraction, by_uncertainty, by_error, ause, aurg)


def association(*, error: Tensor, uncertainty: Tensor) -> Association:
    """Returns the correlations of error and uncertainty, over at most 100 000 pixels (a fixed random choice).

    Args:
        error: Absolute error of each pixel, or of each image, with any shape.
        uncertainty: Predicted uncertainty with the same shape.
    """
    pairs = (
        torch.stack([error.detach().double().flatten(), uncertainty.detach().double().flatten()])
        .cpu()
        .numpy()
    )
    if pairs.shape[1] > MOST_PIXELS:
        pairs = pairs[:, np.random.default_rng(0).choice(pairs.shape[1], MOST_PIXELS, replace=False)]
    if (pairs == pairs[:, :1]).all(axis=1).any():
        return Association(float("nan"), float("nan"))
    ranks = rankdata(pairs, axis=1)
    return Association(float(np.corrcoef(ranks)[0, 1]), float(np.corrcoef(pairs)[0, 1]))
