"""Detects clean images that are the mean of the same repeats that they are paired with.

Such a target contains part of the noise of each of its inputs: 1/n of it if n images were averaged. The score is then
too good, because the method has seen part of the noise that it is compared with.
"""

import numpy as np
import torch

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.metrics.protocol import affine_fit

__all__ = ["Repeats"]

#: Largest difference between the mean of the repeats and its target, as a fraction of the standard error of the mean.
#: For an independent target it is 1 or more; if three quarters of the averaged images are among the repeats, 0.5.
OFF = 0.5


class Repeats:
    """Collects the noisy images of each clean one; pairs of one clean image must be consecutive."""

    def __init__(self) -> None:
        self.series = 0
        self.averaged: list[str] = []
        self._count = 0
        self._first: Pair | None = None

    def add(self, pair: Pair) -> None:
        """Adds a pair."""
        if not pair.paired:
            return
        low = pair.low.astype(np.float64)
        first = self._first
        if first is None or first.field != pair.field or not np.array_equal(first.high, pair.high):
            self.end()
            self._first, self._count = pair, 0
            self._mean, self._squares = np.zeros(low.shape), np.zeros(low.shape)
        self._count += 1
        step = low - self._mean
        self._mean += step / self._count
        self._squares += step * (low - self._mean)

    def end(self) -> None:
        """Evaluates the repeats of the last clean image."""
        if self._first is None or self._count < 2:
            return
        self.series += 1
        high = self._first.high.astype(np.float64)
        noise = self._squares.mean() / (self._count - 1) / self._count
        # The target may have another intensity scale.
        gain, offset = affine_fit(torch.from_numpy(high), torch.from_numpy(self._mean))
        if np.mean((self._mean - gain * high - offset) ** 2) < OFF**2 * noise:
            self.averaged.append(self._first.field)
        self._count = 0

    def warnings(self) -> list[str]:
        """Returns warnings on the averaged images, as sentences."""
        self.end()
        if not self.averaged:
            return []
        return [
            f"the clean image is the mean of its own noisy repeats in {len(self.averaged)} of {self.series} series"
            f" ({self.averaged[0]}{', …' * (len(self.averaged) > 1)}): it contains part of their noise, so scores"
            " are too good; average images that are not among the repeats instead"
        ]
