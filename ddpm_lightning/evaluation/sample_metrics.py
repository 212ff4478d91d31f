"""Scores of restored images as predictions of a distribution: beside the other metrics of each image and estimator.

The samples behind ``average`` are scored as a distribution. An image without samples is scored as a distribution of a
single value, so that methods with and without samples can be compared: its CRPS is its mean absolute error. All are in
units of the target's range, neither clamped nor rounded, after the gain and offset that the protocol grants.
"""

from math import isfinite, nan

import torch

from ddpm_lightning.evaluation.restored_pair import Restored, windows_of
from ddpm_lightning.evaluation.uncertainty import CONSTANT, SampleUncertainty, sample_uncertainty
from ddpm_lightning.metrics.collection import SAMPLE_METRICS
from ddpm_lightning.metrics.uncertainty import sample_metrics

__all__ = ["SampleMetrics"]

ONE_IMAGE = "one image has no standard deviation"
NO_ERROR = "not defined: the mean of the samples equals the target"
NOT_FINITE = "some pixels are NaN or infinite"

#: Gain and offset.
Fit = tuple[float, float]


class SampleMetrics:
    """The scores of all versions of one image.

    Args:
        restored: All versions of the image.
        antithetic: Whether samples 2k and 2k + 1 come from antithetic noise.
        level: Nominal coverage of intervals.
        fit: Gain and offset that the main protocol grants the samples.

    Attributes:
        uncertainty: How well the samples predict their error under the main protocol, or ``None``.
        no_uncertainty: Why it is ``None``.
    """

    def __init__(self, restored: Restored, antithetic: bool, level: float, fit: Fit) -> None:
        self.restored, self.antithetic, self.level = restored, antithetic, level
        self._target = windows_of(restored.high)
        self._range = float(restored.pair.high.max()) - float(restored.pair.high.min())
        self._known: dict[tuple[str, Fit], dict[str, float]] = {}
        self.uncertainty: SampleUncertainty | None = None
        self.no_uncertainty = ""
        try:
            self.uncertainty = sample_uncertainty(
                samples=restored.kept,
                target=self._target,
                antithetic=antithetic,
                level=level,
                gain=restored.gain,
                full_range=self._range,
                fit=fit,
                predicted=restored.predicted,
            )
            self._known["average", fit] = self.uncertainty.measures.values()
        except ValueError as error:
            self.no_uncertainty = str(error)

    def of(self, estimator: str, fit: Fit) -> tuple[dict[str, float], dict[str, str]]:
        """Returns the numbers by metric, and reasons by metric where there is none.

        Args:
            estimator: ``raw``, ``single`` or ``average``.
            fit: Gain and offset that the protocol grants the estimator.
        """
        if not self._range > 0:
            return {}, dict.fromkeys(SAMPLE_METRICS, CONSTANT)
        if (estimator, fit) not in self._known:
            self._known[estimator, fit] = self._computed(estimator, fit)
        known = self._known[estimator, fit]
        values = {name: known[name] for name in SAMPLE_METRICS if isfinite(known.get(name, nan))}
        if "crps" not in values:
            reason = NOT_FINITE
        elif estimator != "average":
            reason = ONE_IMAGE
        else:
            reason = self.no_uncertainty or NO_ERROR
        return values, {name: reason for name in SAMPLE_METRICS if name not in values}

    def _computed(self, estimator: str, fit: Fit) -> dict[str, float]:
        if estimator == "average" and not self.no_uncertainty:
            samples = self.restored.kept[:: 2 if self.antithetic else 1]
        else:
            samples = windows_of(getattr(self.restored, estimator))[None]
        scaled = (fit[0] * torch.from_numpy(samples).double() + fit[1]) / self._range
        target = torch.from_numpy(self._target).double() / self._range
        return sample_metrics(samples=scaled[:, None], target=target[None], level=self.level)
