"""Losses of the methods that the diffusion model is compared with, as pure functions.

Here y is the target, ŷ the prediction, and every loss is a mean over the batch.

    CARE, probabilistic   Laplace likelihood of mean μ and scale σ:  |μ - y| / σ + log 2σ
    UNet-RCAN             Σ over both stages of  rmse(ŷ - y) + 0.05 rmse(Δŷ - Δy),  Δ the Laplacian
    pix2pix               D: ½ BCE(D(x, y), 1) + ½ BCE(D(x, G(x)), 0)
                          G: BCE(D(x, G(x)), 1) + 100 mean |G(x) - y|
    Noise2Void            mean error over the blind spots of the whole batch

References:
    Content-aware image restoration (Weigert et al., 2018), https://doi.org/10.1038/s41592-018-0216-7
    Deep learning enables fast, gentle STED microscopy (Ebrahimi et al., 2023),
    https://doi.org/10.1038/s42003-023-05054-z
    Image-to-image translation with conditional adversarial networks (Isola et al., 2017),
    https://arxiv.org/abs/1611.07004
    Noise2Void (Krull, Buchholz, Jug, 2019), https://arxiv.org/abs/1811.10980
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

RMSE_FLOOR = 1e-6


def laplace_nll(mean: Tensor, scale: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of the target under a Laplace distribution for each pixel, averaged.

    The standard deviation of the distribution is √2 times its scale.

    Args:
        mean: Predicted location with shape (B, C, H, W).
        scale: Predicted scale, positive, with the shape of the mean.
        target: Clean image with the shape of the mean.

    Returns:
        Mean over all pixels, in nats, a scalar.
    """
    return ((mean - target).abs() / scale + scale.log()).mean() + math.log(2)


def laplacian(images: Tensor) -> Tensor:
    """Five-point Laplacian of the inner pixels.

    Args:
        images: Images with shape (B, C, H, W), H and W at least 3.

    Returns:
        Sum of the four neighbours minus four times the pixel, with shape (B, C, H - 2, W - 2).
    """
    centre = images[..., 1:-1, 1:-1]
    vertical = images[..., :-2, 1:-1] + images[..., 2:, 1:-1]
    horizontal = images[..., 1:-1, :-2] + images[..., 1:-1, 2:]
    return vertical + horizontal - 4 * centre


def edge_rmse_loss(
    prediction: Tensor, target: Tensor, *, edge_weight: float = 0.05, norm_factor: float = 1.0
) -> Tensor:
    """Root mean square error of each image and of its Laplacian: rmse(ŷ - y) + w rmse(Δŷ - Δy).

    With n = C H W values in an image, rmse(e) = sqrt(Σ e² / (c n) + 1e-6). The sum for the Laplacian misses
    the border, but is divided by the same c n, as the authors do.

    Args:
        prediction: Restored images with shape (B, C, H, W).
        target: Clean images with the shape of the prediction.
        edge_weight: Weight w of the Laplacian.
        norm_factor: The factor c; 1 in the authors' original code, 2 in their notebook.

    Returns:
        Mean over the images, a scalar.
    """
    error = prediction - target
    count = norm_factor * error[0].numel()

    def rmse(difference: Tensor) -> Tensor:
        return (difference.square().sum(dim=(1, 2, 3)) / count + RMSE_FLOOR).sqrt()

    return (rmse(error) + edge_weight * rmse(laplacian(error))).mean()


def unet_rcan_loss(
    stages: Sequence[Tensor], target: Tensor, *, edge_weight: float = 0.05, norm_factor: float = 1.0
) -> Tensor:
    """Deep supervision: the sum of :func:`edge_rmse_loss` over all stages, each against the target.

    Args:
        stages: Outputs of the stages, each with shape (B, C, H, W).
        target: Clean images with the same shape.
        edge_weight: Weight of the Laplacian.
        norm_factor: Divides the squared errors.

    Returns:
        The loss, a scalar.
    """
    losses = [
        edge_rmse_loss(stage, target, edge_weight=edge_weight, norm_factor=norm_factor) for stage in stages
    ]
    return torch.stack(losses).sum()


def gan_loss(logits: Tensor, real: bool) -> Tensor:
    """Binary cross-entropy of the discriminator's logits against one label, averaged over patches and batch.

    Args:
        logits: Logits of "real" with shape (B, 1, h, w).
        real: The label.
    """
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def pix2pix_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Half the sum of the cross-entropies of real images against 1 and of generated images against 0.

    Args:
        real_logits: D(x, y) with shape (B, 1, h, w).
        fake_logits: D(x, G(x)) with the same shape; G(x) detached, so that only D learns.
    """
    return 0.5 * (gan_loss(real_logits, True) + gan_loss(fake_logits, False))


def pix2pix_generator_loss(
    fake_logits: Tensor, prediction: Tensor, target: Tensor, *, l1_weight: float = 100.0
) -> Tensor:
    """Cross-entropy of generated images against 1, plus the weighted mean absolute error.

    Args:
        fake_logits: D(x, G(x)) with shape (B, 1, h, w).
        prediction: G(x) with shape (B, C, H, W).
        target: Clean images with the shape of the prediction.
        l1_weight: Weight of the absolute error.
    """
    return gan_loss(fake_logits, True) + l1_weight * F.l1_loss(prediction, target)


def blind_spot_loss(
    prediction: Tensor, target: Tensor, mask: Tensor, kind: Literal["mse", "mae"] = "mse"
) -> Tensor:
    """Mean error over the blind spots of the whole batch; 0 if there is none.

    Args:
        prediction: Restored images with shape (B, C, H, W).
        target: Noisy images as recorded, with the shape of the prediction.
        mask: True (or 1) at the blind spots, with the shape of the prediction.
        kind: Squared or absolute error.
    """
    error = prediction - target
    if kind == "mse":
        error = error.square()
    elif kind == "mae":
        error = error.abs()
    else:
        raise ValueError(f"kind must be 'mse' or 'mae', not {kind!r}")
    return (error * mask).sum() / mask.sum().clamp(min=1)
