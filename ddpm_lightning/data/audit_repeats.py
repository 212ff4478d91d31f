"""Whether a clean image is the mean of the very repeats that it is paired with.

Such a target holds part of the noise of each of its inputs: 1/n of it, where n images were averaged. A method is then
scored against noise that it was shown, and the score is too good.
"""

import numpy as np

from ddpm_lightning.data.pairs import Pair

__all__ = ["Repeats"]

#: The mean of the repeats may be off its target by this share of its standard error: were the target independent of
#: them, it would be off by the whole; if three quarters of what was averaged are among them, by half.
OFF = 0.5


class Repeats:
    """Collects the noisy images of each clean one; pairs of one clean image must come one after the other."""

    def __init__(self) -> None:
        self.series = 0
        self.averaged: list[str] = []
        self._count = 0
        self._first: Pair | None = None

    def add(self, pair: Pair) -> None:
        """Takes a pair."""
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
        """Judges the repeats of the last clean image."""
        if self._count < 2:
            return
        self.series += 1
        high = self._first.high.astype(np.float64)
        noise = self._squares.mean() / (self._count - 1) / self._count
        # The scale of the target may be another one.
        gain, offset = np.polyfit(high.ravel(), self._mean.ravel(), 1)
        if np.mean((self._mean - gain * high - offset) ** 2) < OFF**2 * noise:
            self.averaged.append(self._first.field)
        self._count = 0

    def remarks(self) -> list[str]:
        """Returns what was found, as sentences."""
        self.end()
        if not self.averaged:
            return []
        return [
            f"the clean image is the mean of its own noisy repeats in {len(self.averaged)} of {self.series} series"
            f" ({self.averaged[0]}{', …' * (len(self.averaged) > 1)}): it holds a part of their noise, and scores"
            " against it are too good; average images that are not among the repeats"
        ]
