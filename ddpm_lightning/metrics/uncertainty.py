"""Computes all measures of the standard deviation of the samples of one image.

Each measure has its own file: ``calibration.py`` (is the standard deviation as large as the error?),
``energy_score.py`` (do the pixels of a sample vary together as they should?), ``sparsification.py`` (is the standard
deviation large in the right places?), ``averaging_law.py`` (how much does averaging help?), ``conformal.py``
(intervals with a guaranteed coverage). The numbers of a data set are the means over its images; curves and histograms
average as well.
"""

from dataclasses import dataclass

from torch import Tensor

from ddpm_lightning.metrics.averaging_law import AveragingLaw, averaging_law
from ddpm_lightning.metrics.calibration import (
    BinnedCalibration,
    Interval,
    SpreadSkill,
    binned_calibration,
    checked_samples,
    coverage_curve,
    crps,
    prediction_interval,
    quantile_calibration_error,
    rank_divergence,
    rank_histogram,
    spread_skill,
)
from ddpm_lightning.metrics.energy_score import energy_score
from ddpm_lightning.metrics.sparsification import Association, Sparsification, association, sparsification


@dataclass(frozen=True)
class Uncertainty:
    """How good the standard deviation of the samples of one image is.

    Attributes:
        samples: Number of samples.
        level: Nominal coverage of the interval.
        interval: Coverage, width and score of that interval.
        coverage: Empirical coverage at the levels of ``calibration.LEVELS`` with shape (19,).
        binned: Error against standard deviation in bins of equal count, with UCE and ENCE.
        crps: Fair continuous ranked probability score, in the unit of the image.
        energy_score: Fair energy score of windows, in the unit of the image.
        ranks: Rank histogram with shape (samples + 1,).
        spread_skill: Standard deviation and error of the whole image.
        sparsification: Curves with AUSE and AURG.
        association: Correlation of error and standard deviation over the pixels.
        law: Averaging law.
    """

    samples: int
    level: float
    interval: Interval
    coverage: Tensor
    binned: BinnedCalibration
    crps: float
    energy_score: float
    ranks: Tensor
    spread_skill: SpreadSkill
    sparsification: Sparsification
    association: Association
    law: AveragingLaw

    def values(self) -> dict[str, float]:
        """Returns the single numbers by their names in a table; NaN where one is not defined."""
        return {
            "coverage": self.interval.coverage,
            "interval_width": self.interval.width,
            "interval_score": self.interval.score,
            "ece": quantile_calibration_error(self.coverage),
            "uce": self.binned.uce,
            "ence": self.binned.ence,
            "crps": self.crps,
            "energy_score": self.energy_score,
            "rank_divergence": rank_divergence(self.ranks),
            "spread": self.spread_skill.spread,
            "skill": self.spread_skill.skill,
            "spread_skill": self.spread_skill.ratio,
            "ause": self.sparsification.ause,
            "aurg": self.sparsification.aurg,
            "spearman": self.association.spearman,
            "pearson": self.association.pearson,
            "law_a": self.law.a,
            "law_b": self.law.b,
            "law_ratio": self.law.ratio,
        }


def sample_metrics(*, samples: Tensor, target: Tensor, level: float = 0.9) -> dict[str, float]:
    """Returns the metrics of ``SAMPLE_METRICS``; of a single sample only CRPS and energy score.

    Args:
        samples: Independent restorations of one image with shape (N, C, H, W).
        target: The clean image with shape (C, H, W), in the unit of the samples.
        level: Nominal coverage of the interval.
    """
    found = {
        "crps": crps(samples=samples, target=target),
        "energy_score": energy_score(samples=samples, target=target),
    }
    if len(samples) > 1:
        found |= {
            "spread_skill": spread_skill(samples=samples, target=target).ratio,
            "coverage": prediction_interval(samples=samples, target=target, level=level).coverage,
            "rank_divergence": rank_divergence(rank_histogram(samples=samples, target=target)),
        }
    return found


def assess_samples(
    *,
    samples: Tensor,
    target: Tensor,
    level: float = 0.9,
    mean: Tensor | None = None,
    std: Tensor | None = None,
) -> Uncertainty:
    """Assesses the samples of one image by every measure.

    Args:
        samples: Independent restorations of one image with shape (N, C, H, W), N at least 2, finite.
        target: The clean image with shape (C, H, W), in the unit of the samples, finite.
        level: Nominal coverage of the interval.
        mean: The restored image if it is not the mean of the samples, with the shape of the target.
        std: The standard deviation if it is not that of the samples, with the same shape; it is compared with the
            error of the restored image in place, not in size.
    """
    checked, truth = checked_samples(samples=samples, target=target)
    if not (checked.isfinite().all() and truth.isfinite().all()):
        raise ValueError("samples or target have pixels that are NaN or infinite")
    images = {"samples": samples, "target": target}
    maps = {
        "error": ((checked.mean(dim=0) if mean is None else mean.flatten().to(truth)) - truth).abs(),
        "uncertainty": checked.std(dim=0) if std is None else std.flatten().to(truth),
    }
    return Uncertainty(
        samples=len(samples),
        level=level,
        interval=prediction_interval(samples=samples, target=target, level=level),
        coverage=coverage_curve(samples=samples, target=target),
        binned=binned_calibration(samples=samples, target=target),
        crps=crps(**images),
        energy_score=energy_score(samples=samples, target=target),
        ranks=rank_histogram(**images),
        spread_skill=spread_skill(**images),
        sparsification=sparsification(**maps),
        association=association(**maps),
        law=averaging_law(**images),
    )
