r"""The Gaussian forward process and its posterior, in closed form.

With :math:`\bar\alpha_t` of a schedule and standard normal :math:`\epsilon`:

.. math::
    y_t &= \sqrt{\bar\alpha_t}\, y_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon \\
    q(y_s | y_t, y_0) &= N(\mu, \sigma^2 I), \quad s < t

Every function takes levels with shape (B,) for images with shape (B, C, H, W). Coefficients are computed in the
dtype of the levels (float64 from a schedule) and only the result takes the dtype of the images.

References:
    Ho, Jain, Abbeel (2020), arXiv 2006.11239, equations 4, 7 and 15.
"""

import torch
from torch import Tensor

__all__ = ["noise_from_start", "posterior", "q_sample", "start_from_noise"]


def per_image(level: Tensor, like: Tensor) -> Tensor:
    """Shapes levels (B,) to (B, 1, 1, 1) on the device of the images."""
    return level.to(like.device).reshape(-1, *([1] * (like.ndim - 1)))


def _combine(a: Tensor, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """Returns a · x + b · y in the dtype of x, with coefficients of shape (B,)."""
    return per_image(a, x).to(x.dtype) * x + per_image(b, x).to(x.dtype) * y


def q_sample(y_0: Tensor, alpha_bar: Tensor, noise: Tensor) -> Tensor:
    """Diffuses clean images to a level (equation 4).

    Args:
        y_0: Clean images with shape (B, C, H, W).
        alpha_bar: Levels in [0, 1] with shape (B,).
        noise: Standard normal noise with shape (B, C, H, W).
    """
    return _combine(alpha_bar.sqrt(), y_0, (1 - alpha_bar).sqrt(), noise)


def start_from_noise(y_t: Tensor, alpha_bar: Tensor, noise: Tensor) -> Tensor:
    """Returns the clean image that, with this noise, gives y_t; levels must be above 0 (equation 15)."""
    return _combine(alpha_bar.rsqrt(), y_t, -(1 / alpha_bar - 1).sqrt(), noise)


def noise_from_start(y_t: Tensor, alpha_bar: Tensor, y_0: Tensor) -> Tensor:
    """Returns the noise that, with this clean image, gives y_t; levels must be below 1."""
    sigma = (1 - alpha_bar).rsqrt()
    return _combine(sigma, y_t, -alpha_bar.sqrt() * sigma, y_0)


def posterior(y_0: Tensor, y_t: Tensor, alpha_bar_s: Tensor, alpha_bar_t: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and variance of q(y_s | y_t, y_0) for any s < t (equation 7, strided).

    Args:
        y_0: Clean images with shape (B, C, H, W).
        y_t: Noisy images with shape (B, C, H, W).
        alpha_bar_s: Levels at s, with shape (B,); 1 at s = 0, where the posterior is y_0 itself.
        alpha_bar_t: Levels at t, with shape (B,), below ``alpha_bar_s``.

    Returns:
        The mean with shape (B, C, H, W), and the variance with shape (B, 1, 1, 1).
    """
    alpha = alpha_bar_t / alpha_bar_s
    beta = 1 - alpha
    towards_start = alpha_bar_s.sqrt() * beta / (1 - alpha_bar_t)
    towards_state = alpha.sqrt() * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    variance = beta * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    return _combine(towards_start, y_0, towards_state, y_t), per_image(variance, y_t).to(y_t.dtype)


def velocity(y_0: Tensor, alpha_bar: Tensor, noise: Tensor) -> Tensor:
    r"""Returns :math:`v = \sqrt{\bar\alpha}\,\epsilon - \sqrt{1-\bar\alpha}\,y_0` (Salimans and Ho 2022)."""
    return _combine(alpha_bar.sqrt(), noise, -(1 - alpha_bar).sqrt(), y_0)


def start_from_velocity(y_t: Tensor, alpha_bar: Tensor, v: Tensor) -> Tensor:
    """Returns the clean image that belongs to a velocity; well conditioned at every level, pure noise included."""
    return _combine(alpha_bar.sqrt(), y_t, -(1 - alpha_bar).sqrt(), v)


def snr(alpha_bar: Tensor) -> Tensor:
    """Returns the signal-to-noise ratio of levels; infinite at 1."""
    return alpha_bar / (1 - alpha_bar).clamp(min=torch.finfo(alpha_bar.dtype).tiny)
