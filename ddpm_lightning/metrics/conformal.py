r"""Intervals with a guaranteed coverage, even if the standard deviation is wrong.

Split-conformal calibration: on images that the model was not trained on, the error in units of the predicted
standard deviation is :math:`e = |m - y| / (u + \epsilon)`, and the interval of a pixel is :math:`m \pm
\lambda (u + \epsilon)`.

Pixels of one image are not independent, whereas images are exchangeable. The controlled risk is therefore defined per
image: the fraction of its pixels outside their intervals. :math:`\lambda` is the smallest value for which

.. math:: \frac{n}{n + 1} \hat R(\lambda) + \frac{1}{n + 1} \le \alpha

where :math:`\hat R` is the mean of this fraction over :math:`n` calibration images. A fresh image then has an
expected coverage of at least :math:`1 - \alpha`, whatever the model, as long as it resembles the calibration
images; and at most about :math:`1 - \alpha + 2 / (n + 1)`. It takes :math:`n \ge 1 / \alpha - 1` images.

References:
    Conformal risk control (Angelopoulos, Bates, Fisch, Lei and Schuster, 2022),
    https://arxiv.org/abs/2208.02814 Image-to-image regression with distribution-free uncertainty
    quantification (Angelopoulos et al., 2022), https://arxiv.org/abs/2202.05265
"""

from collections.abc import Sequence
from math import ceil, floor

import torch
from torch import Tensor

from ddpm_lightning.utils.settings import Count, Fraction, NonNegative, Settings

QUANTILES = 10_000


class Conformal(Settings):
    """Factor that turns a standard deviation into an interval.

    Attributes:
        factor: Half-width of the interval in standard deviations.
        level: Expected fraction of the pixels of a fresh image inside their intervals.
        epsilon: What is added to the standard deviation, in the unit of the images.
        images: Number of calibration images.
    """

    factor: NonNegative
    level: Fraction
    epsilon: NonNegative
    images: Count

    def interval(self, *, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Returns lower and upper bound of every pixel.

        Args:
            mean: Mean of the samples with any shape, in the unit of the calibration images.
            std: Standard deviation of the samples with the same shape.
        """
        half = self.factor * (std + self.epsilon)
        return mean - half, mean + half

    def coverage(self, *, mean: Tensor, std: Tensor, target: Tensor) -> float:
        """Returns the fraction of the pixels of one image inside their intervals.

        Args:
            mean: Mean of the samples with any shape.
            std: Standard deviation of the samples with the same shape.
            target: The clean image with the same shape.
        """
        low, high = self.interval(mean=mean, std=std)
        return ((low <= target) & (target <= high)).double().mean().item()


def conformal_scores(*, mean: Tensor, std: Tensor, target: Tensor, epsilon: float = 0.0) -> Tensor:
    """Returns the error in standard deviations of one image as 10 000 quantiles, smallest first.

    All images have the same number of quantiles, so that each counts once whatever its size.

    Args:
        mean: Mean of the samples with any shape.
        std: Standard deviation of the samples with the same shape.
        target: The clean image with the same shape, in the unit of the mean.
        epsilon: What is added to the standard deviation, so that pixels without spread do not decide
            everything: a thousandth of the data range, for one.
    """
    if not mean.shape == std.shape == target.shape:
        shapes = ", ".join(str(tuple(image.shape)) for image in (mean, std, target))
        raise ValueError(f"mean, std and target must have one shape, got {shapes}")
    error = (mean.double() - target.double()).abs().flatten()
    width = std.double().flatten() + epsilon
    # Without spread an interval has no width: it holds the exact value and nothing else.
    scores = torch.where(error > 0, error / width, 0.0).sort().values
    index = torch.linspace(0, 1, QUANTILES, dtype=torch.float64, device=scores.device) * (len(scores) - 1)
    return scores[index.ceil().long()].cpu()


def calibrate(scores: Sequence[Tensor], *, level: float = 0.9, epsilon: float = 0.0) -> Conformal:
    """Returns the factor for a coverage from the scores of the calibration images.

    Args:
        scores: Result of :func:`conformal_scores` for each calibration image.
        level: Wanted coverage in (0, 1).
        epsilon: The same as for the scores.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: it must lie between 0 and 1")
    images, alpha = len(scores), 1 - level
    # Rounding must not ask for an image more: 1 / (1 - 0.9) is 10.000000000000002.
    least = ceil(1 / alpha - 1 - 1e-9)
    if images < least:
        raise ValueError(f"a coverage of {level:g} needs at least {least} calibration images, got {images}")
    pooled = torch.cat(list(scores)).sort().values
    allowed = max(0.0, ((images + 1) * alpha - 1) / images)
    outside = floor(allowed * len(pooled) + 1e-9)
    factor = pooled[len(pooled) - 1 - outside].item()
    return Conformal(factor=factor, level=level, epsilon=epsilon, images=images)
