r"""Protocols: on which scale prediction and target are compared.

The choice of protocol often affects scores more than the choice of model, so each protocol has a name, which is stored
with every score.

``paper``
    Both images are mapped from a declared full scale (0 to 255 for 8 bit, 0 to 65535 for 16 bit) to 0..255,
    clamped and rounded to 8 bit. Data range 255; NRMSE by the mean of the target (arXiv 2409.12078).
``range``
    Values as produced, neither clamped nor rounded. Data range :math:`R = y_{\max} - y_{\min}` of the target;
    NRMSE by that range.
``affine``
    Gain (at least 0) and offset are first fitted to the target by least squares. All methods are fitted, because some
    return values in the unit of their input:

    .. math::
        \hat y \leftarrow \alpha \hat y + \beta, \quad
        \alpha = \max\left(0, \frac{\mathrm{cov}(\hat y, y)}{\mathrm{var}(\hat y)}\right), \quad
        \beta = \bar y - \alpha \bar{\hat y}

    Data range: the 99.9 less the 0.1 percentile of the target. NRMSE by the standard deviation of the target,
    and then :math:`\mathrm{NRMSE} = \sqrt{1 - \max(0, r)^2}` with the Pearson correlation :math:`r`: after
    such a fit, the two are equivalent if :math:`r > 0`.

MS-SSIM and LPIPS need a bounded scale: :meth:`Scored.unit` maps both images by the scale of the *target* to
[0, 1] and clamps them there.

References:
    Content-aware image restoration: pushing the limits of fluorescence microscopy (Weigert et al., 2018),
    https://www.nature.com/articles/s41592-018-0216-7 (percentiles and affine fit).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ddpm_lightning.metrics.align import realign
from ddpm_lightning.metrics.nrmse import Denominator

Fact = str | float | list[float]
Scale = Literal["declared", "range", "percentiles"]

EIGHT_BIT = 255.0
PERCENTILES = (0.1, 99.9)


@dataclass(frozen=True)
class Scored:
    """One pair of images, ready for metrics.

    Attributes:
        prediction: Restored image with shape (1, C, H, W), float64, on the scale of the protocol.
        target: Clean image with shape (1, C, H, W), float64, on the scale of the protocol.
        low: Value of the target's scale that counts as black.
        data_range: Width of the target's scale; 0 where the target is constant and the protocol takes its
            range.
        nrmse_by: Name of the denominator of the NRMSE.
        facts: What a reader needs beside the numbers: name of the protocol, range, gain, offset, shift, crop.
    """

    prediction: Tensor
    target: Tensor
    low: float
    data_range: float
    nrmse_by: Denominator
    facts: dict[str, Fact]

    def width(self) -> float:
        """Returns the data range where it is positive; otherwise raises a ``ValueError`` with the reason."""
        if not self.data_range > 0:
            raise ValueError(
                f"the target is constant on the scale of the protocol {self.facts['protocol']}: no range"
            )
        return self.data_range

    def unit(self) -> tuple[Tensor, Tensor]:
        """Returns prediction and target in [0, 1]: by the scale of the target, clamped.

        Both have shape (1, C, H, W). A target without a range raises a ``ValueError``.
        """
        scaled = ((image - self.low) / self.width() for image in (self.prediction, self.target))
        prediction, target = (image.clamp(0, 1) for image in scaled)
        return prediction, target


@dataclass(frozen=True)
class Protocol:
    """A named way to bring prediction and target to the scale on which they are compared.

    Attributes:
        name: Name that is written next to every number.
        scale: Where the data range comes from: a declared full scale mapped to 8 bit, the target's minimum
            and maximum, or its 0.1 and 99.9 percentiles.
        fit: Whether the prediction is first fitted to the target by a gain and an offset.
        nrmse_by: Denominator of the NRMSE.
    """

    name: str
    scale: Scale
    fit: bool
    nrmse_by: Denominator

    def apply(
        self,
        prediction: Tensor,
        target: Tensor,
        *,
        full_scale: tuple[float, float] | None = None,
        align: bool = False,
    ) -> Scored:
        """Returns the pair on the scale of the protocol.

        Args:
            prediction: Restored image with shape (1, C, H, W), finite, in the unit of the target (any under
                ``affine``).
            target: Clean image with shape (1, C, H, W), finite.
            full_scale: Black and white of the target's unit, such as (0, 255) or (0, 65535); only ``paper``
                needs it.
            align: Whether to undo a shift of the prediction first (see ``align.py``).
        """
        if prediction.shape != target.shape or prediction.dim() != 4 or len(prediction) != 1:
            raise ValueError(
                f"a protocol takes one pair of images with shape (1, C, H, W), got a prediction with shape "
                f"{tuple(prediction.shape)} and a target with shape {tuple(target.shape)}"
            )
        prediction, target = prediction.detach().double(), target.detach().double()
        facts: dict[str, Fact] = {"protocol": self.name}
        if align:
            prediction, target, shift, crop = realign(prediction, target)
            facts |= {"shift": list(shift), "crop": crop}
        if self.scale == "declared":
            prediction, target = (_eight_bit(image, full_scale) for image in (prediction, target))
        if self.fit:
            alpha, beta = affine_fit(prediction, target)
            prediction = alpha * prediction + beta
            facts |= {"alpha": alpha, "beta": beta}
        low, high = self._scale_of(target)
        facts |= {"low": low, "data_range": high - low, "nrmse_by": self.nrmse_by}
        return Scored(prediction, target, low, high - low, self.nrmse_by, facts)

    def _scale_of(self, target: Tensor) -> tuple[float, float]:
        """Returns the values of the target that count as black and white."""
        if self.scale == "declared":
            return 0.0, EIGHT_BIT
        if self.scale == "range":
            return target.min().item(), target.max().item()
        low, high = np.percentile(target.cpu().numpy(), PERCENTILES)
        return float(low), float(high)


def affine_fit(prediction: Tensor, target: Tensor) -> tuple[float, float]:
    """Returns the gain of at least 0 and the offset that bring the prediction closest to the target.

    A negative gain would reward an inverted image. Where the prediction falls as the target rises, or is constant, the
    best that is allowed is gain 0: the mean of the target everywhere.

    Args:
        prediction: Restored image with any shape, in any unit.
        target: Clean image with the same shape.
    """
    if (prediction == prediction.flatten()[0]).all():
        return 0.0, target.mean().item()
    centred = prediction - prediction.mean()
    alpha = ((centred * target).mean() / centred.square().mean()).clamp(min=0)
    return alpha.item(), (target.mean() - alpha * prediction.mean()).item()


def _eight_bit(image: Tensor, full_scale: tuple[float, float] | None) -> Tensor:
    if full_scale is None or not full_scale[1] > full_scale[0]:
        raise ValueError(
            "the protocol 'paper' needs full_scale=(black, white) with black < white, such as (0, 255) "
            f"for 8 bit or (0, 65535) for 16 bit; got {full_scale}"
        )
    black, white = full_scale
    return torch.round(((image - black) / (white - black)).clamp(0, 1) * EIGHT_BIT)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("paper", scale="declared", fit=False, nrmse_by="mean"),
        Protocol("range", scale="range", fit=False, nrmse_by="range"),
        Protocol("affine", scale="percentiles", fit=True, nrmse_by="std"),
    )
}
