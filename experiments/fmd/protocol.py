"""The published protocol of FMD: 8 bit, range 255, no fit."""

import numpy as np
import torch

from ddpm_lightning.metrics.protocol import PROTOCOLS
from ddpm_lightning.metrics.psnr import psnr
from ddpm_lightning.metrics.ssim import ssim
from experiments import common

__all__ = ["METRICS", "crops", "scores"]

METRICS = ("psnr", "psnr_crops", "ssim", "psnr_affine")
#: Side of the authors' crops in pixels.
CROP = 256


def scores(image: np.ndarray, high: np.ndarray) -> dict[str, float]:
    """Returns the scores of a restored image.

    ``psnr`` and ``ssim`` (Gaussian window of 11 x 11) are of the whole image, clipped to 0…255 and rounded;
    ``psnr_crops`` is the mean over the authors' crops; ``psnr_affine`` is that of the protocol ``affine``: after a fit
    of gain and offset, with the range of the reference.

    Args:
        image: Restored image with shape (H, W), in grey values of the reference.
        high: Reference with shape (H, W), 8 bit.
    """
    prediction, target = (
        torch.from_numpy(np.asarray(plane, np.float32))[None, None] for plane in (image, high)
    )
    pair = PROTOCOLS["paper"].apply(prediction, target, full_scale=(0, 255))
    images = {"prediction": pair.prediction, "target": pair.target, "data_range": 255.0}
    parts = [
        psnr(
            prediction=pair.prediction[..., rows, columns],
            target=pair.target[..., rows, columns],
            data_range=255.0,
        )
        for rows, columns in crops(high.shape)
    ]
    return {
        "psnr": psnr(**images).item(),
        "psnr_crops": torch.stack(parts).mean().item(),
        "ssim": ssim(**images).item(),
        "psnr_affine": common.psnr_of(image, high),
    }


def crops(shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Returns the crops at the four corners: the first four of the five that the authors' FiveCrop(256) makes.

    Args:
        shape: Height and width in pixels, at least 256 each.
    """
    ends = [(slice(0, CROP), slice(length - CROP, length)) for length in shape]
    return [(rows, columns) for rows in ends[0] for columns in ends[1]]
