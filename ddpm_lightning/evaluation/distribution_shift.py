"""Compares the inputs of an evaluation with the training images.

Single images are compared by :class:`ddpm_lightning.metrics.input_statistics.SeenInputs`, which is not sensitive if the
training images vary much. A set of images as a whole is tested more sensitively, by the two-sample Kolmogorov-Smirnov
test of each feature, with Holm's correction. Neither detects another kind of structure with the same brightness, noise
and spectrum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.evaluation.statistics import holm
from ddpm_lightning.metrics.input_statistics import BANDS, SeenInputs, describe_input

__all__ = ["BANDS", "InputReference", "describe_input"]

#: Training images that inputs are compared with.
REFERENCES = 32


@dataclass(frozen=True)
class InputReference(SeenInputs):
    """Features of training images, and the comparisons that an evaluation makes with them.

    Attributes:
        features: The value of each training image by feature.
    """

    @classmethod
    def of_split(
        cls, data: PairDataModule, images: int = REFERENCES, split: str = "train"
    ) -> "InputReference":
        """Returns the reference of some images of a data set, evenly spaced, as its normalisation maps them.

        Raises:
            UserError: If the images cannot be read.
        """
        pairs, scaling = data.pairs(split), data.normalisation.input
        chosen = np.unique(np.linspace(0, len(pairs) - 1, images).round().astype(int))
        lows = (pairs[int(index)].low for index in chosen)
        return cls.of(scaling.scale(low).normalise(low) for low in lows)

    def shifted(self, described: Sequence[dict[str, float]], level: float = 0.01) -> list[str]:
        """Returns the features in which a set of images as a whole is unlike the training images, worst first.

        Args:
            described: Features of each image.
            level: Probability of finding any feature for images of the same kind.
        """
        tests: dict[str, Any] = {
            name: stats.ks_2samp([features[name] for features in described], values)
            for name, values in self.features.items()
        }
        corrected = holm([test.pvalue for test in tests.values()])
        found = [name for name, p in zip(tests, corrected, strict=True) if p is not None and p < level]
        return sorted(found, key=lambda name: -tests[name].statistic)
