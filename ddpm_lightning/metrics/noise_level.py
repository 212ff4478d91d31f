r"""The noise level of an image, from its diagonal details.

The diagonal detail of 2 x 2 pixels (that of the Haar wavelet) has a standard deviation of :math:`\sigma` under white
noise of standard deviation :math:`\sigma`, and structure that the optics have blurred adds little to it. The estimate
is its mean absolute value, converted to a standard deviation; a few sharp edges hardly change it:

.. math:: \hat\sigma = \sqrt{\pi / 2}\; \langle |x_{00} - x_{01} - x_{10} + x_{11}| / 2 \rangle

References:
    Ideal spatial adaptation by wavelet shrinkage (Donoho and Johnstone, 1994), https://doi.org/10.1093/biomet/81.3.425,
    which takes the median of the details of the finest scale instead of their mean.
"""

from typing import TypeVar, overload

import numpy as np
from torch import Tensor

__all__ = ["noise_level"]

Image = TypeVar("Image", np.ndarray, Tensor)


@overload
def noise_level(image: np.ndarray) -> float: ...
@overload
def noise_level(image: Tensor) -> Tensor: ...
def noise_level(image: np.ndarray | Tensor) -> float | Tensor:
    """Returns the standard deviation of the noise, in the unit of the image.

    Args:
        image: Image with shape (…, H, W). Differences are computed in its floating-point dtype.

    Returns:
        A number for an array (0 if it has only one row or column), a scalar tensor for a tensor.
    """
    if isinstance(image, Tensor):
        return _diagonal(image).abs().mean() * (np.pi / 8) ** 0.5
    detail = _diagonal(image if image.dtype.kind == "f" else image.astype(np.float64))
    return float(np.sqrt(np.pi / 8) * np.abs(detail).mean(dtype=np.float64)) if detail.size else 0.0


def _diagonal(x: Image) -> Image:
    return x[..., :-1, :-1] - x[..., :-1, 1:] - x[..., 1:, :-1] + x[..., 1:, 1:]
