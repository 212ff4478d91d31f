"""Scores of restored images as predictions of a distribution: beside the other metrics of each image and estimator.

The samples behind ``average`` are scored as a distribution. An image without samples is scored as a distribution of a
single value, so that methods with and without samples can be compared: its CRPS is its mean absolute error. All are in
units of the target's range, neither clamped nor rounded, after the gain and offset that the protocol grants.
"""

from math import isfinite

import numpy as np
import torch

from ddpm_lightning.evaluation.restored_pair import Restored, windows_of
from ddpm_lightning.evaluation.uncertainty import CONSTANT, SampleUncertainty, sample_uncertainty
from ddpm_lightning.metrics.calibration import crps
from ddpm_lightning.metrics.collection import SAMPLE_METRICS
from ddpm_lightning.metrics.energy_score import energy_score

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
    """

    def __init__(self, restored: Restored, antithetic: bool, level: float) -> None:
        self.restored, self.antithetic, self.level = restored, antithetic, level
        self._target = windows_of(restored.high)
        self._range = float(restored.pair.high.max()) - float(restored.pair.high.min())
        self._known: dict[Fit, SampleUncertainty | str] = {}

    def uncertainty(self, fit: Fit) -> SampleUncertainty | str:
        """Returns how well the samples predict their error, or the reason why that cannot be said.

        Args:
            fit: Gain and offset that the protocol grants the samples.
        """
        if fit not in self._known:
            try:
                self._known[fit] = sample_uncertainty(
                    samples=self.restored.kept,
                    target=self._target,
                    antithetic=self.antithetic,
                    level=self.level,
                    gain=self.restored.gain,
                    full_range=self._range,
                    fit=fit,
                )
            except ValueError as error:
                self._known[fit] = str(error)
        return self._known[fit]

    def of(self, estimator: str, fit: Fit) -> tuple[dict[str, float], dict[str, str]]:
        """Returns the numbers by metric, and reasons by metric where there is none.

        Args:
            estimator: ``raw``, ``single`` or ``average``.
            fit: Gain and offset that the protocol grants the estimator.
        """
        found = self.uncertainty(fit) if estimator == "average" else ONE_IMAGE
        if isinstance(found, str):
            values, reason = self._of_image(getattr(self.restored, estimator), fit), found
        else:
            values, reason = found.measures.values(), NO_ERROR
        values = {name: values[name] for name in SAMPLE_METRICS if isfinite(values.get(name, np.nan))}
        if "crps" not in values:
            reason = NOT_FINITE if self._range > 0 else CONSTANT
        return values, {name: reason for name in SAMPLE_METRICS if name not in values}

    def _of_image(self, image: np.ndarray, fit: Fit) -> dict[str, float]:
        if not self._range > 0:
            return {}
        prediction, target = (
            torch.from_numpy(plane.astype(np.float64))[None] for plane in (windows_of(image), self._target)
        )
        samples = fit[0] * prediction[None] + fit[1]
        scores = {"crps": crps, "energy_score": energy_score}
        return {name: score(samples=samples, target=target) / self._range for name, score in scores.items()}
