"""BM3D behind a variance-stabilising transform, as a row of the benchmark.

Needs the package ``bm3d`` (the extra ``benchmarks``), whose licence allows non-commercial use only; without it, the
benchmark has no such row.
"""

from collections.abc import Sequence

import numpy as np

from ddpm_lightning.models.classical import FittedFilter
from experiments.vst_bm3d import vst_bm3d

__all__ = ["VstBm3d"]

#: Grey values of a unit of the normalised image, on which the noise is fitted.
GREY_VALUES = 1000


class VstBm3d(FittedFilter):
    """BM3D of the stabilised image; noise is fitted to each image, on the normalised scale.

    Args:
        strengths: Standard deviations that BM3D is told to remove, in those of the stabilised noise. 1 is what the
            theory says; others let the filter make up for an error of the fit.
    """

    def __init__(self, strengths: Sequence[float] = (0.6, 0.8, 1.0, 1.25)) -> None:
        super().__init__(strengths)

    @property
    def preset(self) -> str:
        """The filter and its strength."""
        return f"BM3D of strength {self.strength.item():g} behind a variance-stabilising transform"

    def filtered(self, image: np.ndarray, strength: float) -> np.ndarray:
        """Returns the denoised image, for an image with shape (H, W), normalised; at least 32 pixels wide and high."""
        return (vst_bm3d(GREY_VALUES * (image + 1), strength) / GREY_VALUES - 1).astype(np.float32)
