r"""Mean and standard deviation of many samples, streamed: one sample in memory at a time.

The paper's DDPM-avg is the mean of N = 15 samples; its uncertainty maps are the population standard deviation over the
samples and the entropy of their 8-bit values (arXiv 2409.12078, section 3.3).

References:
    Welford. *Note on a method for calculating corrected sums of squares and products* (1962).
"""

import torch
from torch import Tensor

__all__ = ["Ensemble"]


class Ensemble:
    """Running statistics of samples of the same images.

    Args:
        entropy_range: Range of intensities that is cut into 256 values for the entropy map; ``None`` keeps no values
            and offers no entropy. The values cost one byte for each pixel and sample.

    Attributes:
        count: Number of samples seen.
        mean: Mean of the samples, with the shape of one sample.
    """

    def __init__(self, entropy_range: tuple[float, float] | None = None) -> None:
        self.count = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self._squares = self.mean
        self._entropy_range = entropy_range
        self._values: list[Tensor] = []

    def update(self, sample: Tensor) -> None:
        """Adds one sample of the images, with shape (B, C, H, W) or any other that stays the same."""
        sample = sample.to(torch.float64)
        if not self.count:
            self.mean, self._squares = torch.zeros_like(sample), torch.zeros_like(sample)
        elif sample.shape != self.mean.shape:
            raise ValueError(
                f"a sample has shape {tuple(sample.shape)}, those before {tuple(self.mean.shape)}"
            )
        self.count += 1
        delta = sample - self.mean
        self.mean = self.mean + delta / self.count
        self._squares = self._squares + delta * (sample - self.mean)
        if self._entropy_range is not None:
            low, high = self._entropy_range
            self._values.append(((sample - low) / (high - low) * 255).round().clamp(0, 255).to(torch.uint8))

    @property
    def std(self) -> Tensor:
        """Population standard deviation over the samples (the paper's form, divided by N)."""
        return (self._squares / self._at_least(1)).sqrt()

    @property
    def standard_error(self) -> Tensor:
        """Standard error of the mean: sample standard deviation over the square root of N; needs two samples."""
        return (self._squares / (self._at_least(2) - 1) / self.count).sqrt()

    @property
    def entropy(self) -> Tensor:
        """Entropy in nats of the distinct 8-bit values of each pixel: 0 if all samples agree, log N if none do."""
        if self._entropy_range is None:
            raise ValueError("the ensemble was made without entropy_range and kept no values")
        values = torch.stack(self._values)
        # Each sample stands for its value once per equal sample, so the mean over samples of -log p is the entropy.
        share = torch.stack([(values == value).sum(0) for value in values]).double() / self._at_least(1)
        return 0.0 - share.log().mean(0)  # not -0.0 where all agree

    def _at_least(self, needed: int) -> int:
        if self.count < needed:
            raise ValueError(f"{self.count} samples seen, at least {needed} needed")
        return self.count
