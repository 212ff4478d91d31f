r"""Learned perceptual image patch similarity (LPIPS v0.1, AlexNet), smaller is better.

With the features :math:`\hat f_l` of the five ReLU layers of AlexNet, each pixel's feature vector divided by
its norm, and non-negative weights :math:`w_l` learned from human judgements,

.. math::
    \mathrm{LPIPS}(x, x_0) = \sum_l \frac{1}{H_l W_l} \sum_{h, w}
    w_l^\top \left( \hat f_l(x) - \hat f_l(x_0) \right)^2

Inputs are in [-1, 1]; values outside are clamped. Grey images are repeated to three channels, which the authors
consider reasonable. The network was trained on photographs only, so use LPIPS to compare images, not as an absolute
score. It is not computed below 64 pixels, where the deeper layers are too coarse.

The weights of the backbone are not included in any package: see ``backbone.py``. They must never enter a checkpoint or
an EMA copy, so :class:`Lpips` is a plain object and not an ``nn.Module`` that a model would register.

References:
    The unreasonable effectiveness of deep features as a perceptual metric (Zhang, Isola, Efros, Shechtman and
    Wang, 2018), https://arxiv.org/abs/1801.03924
"""

import warnings
from pathlib import Path

import lpips as lpips_package
import torch
from torch import Tensor

from ddpm_lightning.metrics.backbone import find_backbone, fingerprint, read_backbone
from ddpm_lightning.metrics.per_image import MetricUndefined, checked_pair
from ddpm_lightning.utils.errors import UserError

MINIMUM_SIDE = 64


class Lpips:
    """The perceptual distance with genuine weights.

    Args:
        features: Weights of the five convolutions of AlexNet, ``features.{0,3,6,8,10}.{weight,bias}``.

    Attributes:
        sha256: Hash of these weights, written next to every number; it does not depend on the kind of file.
    """

    def __init__(self, features: dict[str, Tensor]) -> None:
        self.sha256 = fingerprint(features)
        # The package draws a random backbone first: without the fork it would move everybody's random
        # numbers.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._network = lpips_package.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
        layers = {name.split(".", 1)[1]: name for name in self._network.net.state_dict()}
        renamed = {layers[name.removeprefix("features.")]: tensor for name, tensor in features.items()}
        self._network.net.load_state_dict(renamed, strict=True)
        self._network.requires_grad_(False).eval()

    @classmethod
    def load(cls, backbone: Path | str | None = None) -> "Lpips":
        """Returns the metric with the weights of a file.

        Args:
            backbone: A ``.safetensors`` file or torchvision's ``alexnet-*.pth``; ``None`` looks where
                ``ddpm-lightning prepare lpips`` puts it.
        """
        path = find_backbone(backbone)
        if path is None:
            raise UserError(
                "metrics.lpips.backbone",
                "the AlexNet backbone of LPIPS is not on this machine",
                remedy="run `ddpm-lightning prepare lpips`, or pass metrics.lpips.backbone=FILE",
            )
        return cls(read_backbone(path))

    @torch.no_grad()
    def __call__(self, *, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns the distance of each image, shape (B,), in float64.

        Args:
            prediction: Restored images with shape (B, C, H, W), C 1 or 3, in [-1, 1].
            target: Clean images with the same shape, in [-1, 1].
        """
        checked_pair(prediction=prediction, target=target)
        channels, height, width = target.shape[1:]
        if min(height, width) < MINIMUM_SIDE:
            raise MetricUndefined(f"needs at least {MINIMUM_SIDE} px, image is {height} x {width}")
        if channels not in (1, 3):
            raise MetricUndefined(f"takes grey or RGB images, this one has {channels} channels")
        self._network.to(target.device)
        pair = (image.clamp(-1, 1).float().expand(-1, 3, -1, -1) for image in (prediction, target))
        # Under the mixed precision of a training run the features would lose their last digits.
        with torch.autocast(target.device.type, enabled=False):
            return self._network(*pair).flatten().double()
