r"""Radial power spectrum, and how much high-frequency power a restoration keeps.

With the Fourier transform :math:`F` of the image, minus its mean, multiplied by a Hann window, and rings of equal width
in :math:`q` (cycles per pixel, up to 0.5),

.. math:: P(q) = \langle |F|^2 \rangle_{\mathrm{ring}(q)}, \qquad
    \rho = \frac{\sum_{|q| \ge q_c} |F_{\hat y}|^2}{\sum_{|q| \ge q_c} |F_y|^2}

An over-smoothed restoration has :math:`\rho < 1`; one that retains noise or invents fine texture has :math:`\rho > 1`.
Against a noisy target the ratio is below 1 even for a perfect restoration, because noise is power too.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_lightning.metrics.per_image import checked_pair


class RadialSpectrum(NamedTuple):
    """Mean power on rings of spatial frequency.

    Attributes:
        frequency: Centre of each ring with shape (K,), in cycles per pixel, in (0, 0.5).
        power: Mean of the squared modulus of the Fourier transform with shape (B, K), in squared units of the
            image.
    """

    frequency: Tensor
    power: Tensor


def radial_power_spectrum(image: Tensor) -> RadialSpectrum:
    """Returns the radial power spectrum of each image, its channels averaged, in float64.

    Args:
        image: Images with shape (B, C, H, W), in any unit.
    """
    power, radius = _power_and_radius(image)
    rings = max(1, min(image.shape[-2:]) // 2)
    ring = (radius * 2 * rings).long().flatten()
    inside = ring < rings
    pixels = torch.bincount(ring[inside], minlength=rings)
    totals = power.new_zeros(len(image), rings).index_add_(1, ring[inside], power.flatten(1)[:, inside])
    frequency = (torch.arange(rings, device=image.device, dtype=torch.float64) + 0.5) / (2 * rings)
    return RadialSpectrum(frequency, totals / pixels)


def high_frequency_ratio(*, prediction: Tensor, target: Tensor, cutoff: float = 0.125) -> Tensor:
    """Returns the power of the prediction over that of the target above a cut-off, shape (B,), in float64.

    It is NaN where the target has no power there.

    Args:
        prediction: Restored images with shape (B, C, H, W), in any unit.
        target: Clean images with shape (B, C, H, W), in the unit of the prediction.
        cutoff: Lowest frequency that counts, in cycles per pixel: 0.125 means periods up to 8 pixels.
    """
    if not 0 <= cutoff < 0.5:
        raise ValueError(f"cutoff is {cutoff} cycles per pixel: it must lie in [0, 0.5)")
    checked_pair(prediction=prediction, target=target)
    predicted, radius = _power_and_radius(prediction)
    wanted, _ = _power_and_radius(target)
    high = radius >= cutoff
    reference = wanted[:, high].sum(dim=1)
    return predicted[:, high].sum(dim=1) / torch.where(reference > 0, reference, torch.nan)


def _power_and_radius(image: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the power with shape (B, H, W) and the frequency of each of its pixels with shape (H, W)."""
    image = image.double()
    height, width = image.shape[-2:]
    options = {"dtype": torch.float64, "device": image.device}
    window = torch.hann_window(height, **options)[:, None] * torch.hann_window(width, **options)
    centred = image - image.mean(dim=(-2, -1), keepdim=True)
    power = torch.fft.fft2(centred * window).abs().square().mean(dim=1) / window.square().sum()
    radius = torch.hypot(torch.fft.fftfreq(height, **options)[:, None], torch.fft.fftfreq(width, **options))
    return power, radius
