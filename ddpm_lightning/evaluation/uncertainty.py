r"""How well the samples of one image predict their own error, and the effect of averaging them.

Everything is in units of the target's range, so that images of different brightness have the same weight.

Samples from pairs of antithetic noise (``antithetic``) are not independent of each other. Their standard deviation
is taken from every second sample. The effect of averaging is counted in pairs: :math:`\mathrm{MSE}(K) = a + b / K`
for K pairs.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ddpm_lightning.metrics.averaging_law import averaging_law
from ddpm_lightning.metrics.conformal import conformal_scores
from ddpm_lightning.metrics.uncertainty import Uncertainty, assess_samples

__all__ = ["CONSTANT", "EPSILON", "SampleUncertainty", "sample_uncertainty"]

#: Added to standard deviations on the normalised scale, a thousandth of [-1, 1]: no interval has width zero.
EPSILON = 0.002
CONSTANT = "the target is constant: there is no range to measure in"


@dataclass(frozen=True)
class SampleUncertainty:
    """How well the samples of one image predict their error.

    Attributes:
        measures: All measures, in units of the target's range; the averaging law as well.
        together: Samples that the law counts as one: 2 for pairs of antithetic noise, else 1.
        error: Squared error of the mean of the first N samples by N, in squared units of the target's range.
        scores: Errors in standard deviations, as conformal calibration needs them, on the normalised scale.
        concentration: Smallest share of the pixels that holds half of the variance of the samples.
    """

    measures: Uncertainty
    together: int
    error: dict[int, float]
    scores: Tensor
    concentration: float


def sample_uncertainty(
    *,
    samples: np.ndarray,
    target: np.ndarray,
    antithetic: bool,
    level: float,
    gain: float,
    full_range: float,
    fit: tuple[float, float] = (1.0, 0.0),
    predicted: tuple[np.ndarray, np.ndarray] | None = None,
) -> SampleUncertainty:
    """Compares the samples of one image with their error.

    Args:
        samples: Samples with shape (N, H, W), in intensities.
        target: Clean image with shape (H, W), in intensities.
        antithetic: Whether samples 2k and 2k + 1 come from antithetic noise.
        level: Nominal coverage of intervals.
        gain: Intensities for each unit of the normalised scale.
        full_range: Range of the target in intensities.
        fit: Gain and offset that the protocol grants the samples. The scores are without them: intervals are for
            restored files, whose target nobody has.
        predicted: Mean and standard deviation with shape (H, W) if they are those of networks, in intensities. Ranking
            of errors and scores are then those of the predicted ones.

    Raises:
        ValueError: If the comparison is not possible; the message says why.
    """
    if not full_range > 0:
        raise ValueError(CONSTANT)
    together = 2 if antithetic else 1
    if len(samples) < 2 * together:
        raise ValueError(f"at least {2 * together} samples are needed, got {len(samples)}")
    unfitted = torch.from_numpy(samples).double()[:, None] / full_range
    fitted = fit[0] * unfitted + fit[1] / full_range
    truth = torch.from_numpy(target.astype(np.float64))[None] / full_range
    mean, std = unfitted.mean(dim=0), unfitted.std(dim=0, correction=0)
    maps: dict[str, Tensor] = {}
    if predicted is not None:
        mean, std = (torch.from_numpy(each).double()[None] / full_range for each in predicted)
        maps = {"mean": fit[0] * mean + fit[1] / full_range, "std": std}
    uncertainty = assess_samples(samples=fitted[::together], target=truth, level=level, **maps)
    if antithetic:
        pairs = fitted[: len(samples) // 2 * 2].unflatten(0, (-1, 2)).mean(dim=1)
        uncertainty = replace(uncertainty, law=averaging_law(samples=pairs, target=truth))
    means = fitted.cumsum(dim=0) / torch.arange(1, len(samples) + 1).view(-1, 1, 1, 1)
    errors = (means - truth).square().mean(dim=(1, 2, 3))
    scores = conformal_scores(mean=mean, std=std, target=truth, epsilon=EPSILON * gain / full_range)
    variance = std.square().flatten().sort(descending=True).values.cumsum(dim=0)
    half = int((variance < variance[-1] / 2).sum()) + 1
    return SampleUncertainty(
        uncertainty,
        together,
        {number: errors[number - 1].item() for number in range(1, len(samples) + 1)},
        scores,
        half / len(variance),
    )
