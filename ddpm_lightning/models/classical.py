"""Classical filters: anchors of the comparison that learn nothing but one number.

The strength of a filter is chosen from a grid by the least error on the validation crops: the mean over the crops of
the squared error that is left after gain and offset are fitted, as the protocol ``affine`` does. Like Noise2Void, a
filter gives a denoised *low* image on the normalised scale of low images, which is mapped to intensities as the raw one
is.

=====================  ==========================================================  ==================================
filter                 scikit-image                                                strength
=====================  ==========================================================  ==================================
``gaussian``           ``filters.gaussian``                                        standard deviation in pixels
``median``             ``filters.median`` over a disk                              radius of the disk in pixels
``non_local_means``    ``restoration.denoise_nl_means``                            ``h``, on the normalised scale
``total_variation``    ``restoration.denoise_tv_chambolle``                        ``weight``, on the normalised scale
``wavelet``            ``restoration.denoise_wavelet`` (BayesShrink)               ``sigma``, on the normalised scale
=====================  ==========================================================  ==================================
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from skimage import filters, morphology, restoration
from torch import Tensor, nn

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.metrics.protocol import affine_fit
from ddpm_lightning.models.learner import Learner
from ddpm_lightning.models.protocol import Apply, whole

__all__ = ["FILTERS", "Classical"]

Filter = Callable[[np.ndarray, float], np.ndarray]

#: Maps an image with shape (H, W) and a strength to a filtered image.
FILTERS: dict[str, Filter] = {
    "gaussian": lambda image, strength: filters.gaussian(image, strength, mode="nearest"),
    "median": lambda image, strength: filters.median(image, morphology.disk(strength), mode="nearest"),
    "non_local_means": lambda image, strength: restoration.denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=strength, fast_mode=True
    ),
    "total_variation": lambda image, strength: restoration.denoise_tv_chambolle(image, weight=strength),
    "wavelet": lambda image, strength: restoration.denoise_wavelet(
        image, sigma=strength, method="BayesShrink"
    ),
}


def apply_filter(name: str, images: Tensor, strength: float) -> Tensor:
    """Filters images one by one.

    Args:
        name: Name in ``FILTERS``.
        images: Images with shape (B, 1, H, W).
        strength: Strength of the filter.

    Returns:
        Filtered images with the shape, dtype and device of the images.
    """
    planes = images[:, 0].float().cpu().numpy()
    filtered = np.stack([FILTERS[name](plane, strength) for plane in planes])
    return torch.from_numpy(filtered[:, None]).to(images)


def affine_error(restored: Tensor, high: Tensor) -> Tensor:
    """Returns the mean squared error of each image after the best offset and gain of at least 0, with shape (B,).

    Args:
        restored: Restored images with shape (B, 1, H, W).
        high: Clean images with shape (B, 1, H, W).
    """
    pairs = zip(restored.double(), high.double(), strict=True)
    fitted = ((affine_fit(image, target), image, target) for image, target in pairs)
    return torch.stack(
        [(gain * image + offset - target).square().mean() for (gain, offset), image, target in fitted]
    )


class Classical(Learner):
    """A filter with its strength.

    Fitting is the one and only step of its training, and no gradient is involved.

    Args:
        filter: Name in ``FILTERS``.
        strengths: Grid of strengths to choose from.
        settings: Settings of :class:`Learner`.

    Raises:
        ValueError: If there is no such filter, or no strength.
    """

    size_divisor = 1
    evaluations = 1
    averaged = False

    def __init__(self, filter: str, strengths: Sequence[float], **settings: Any) -> None:
        super().__init__(optimizer=partial(torch.optim.SGD, lr=0.0), **settings)
        if filter not in FILTERS:
            raise ValueError(f"model.filter is {filter!r}; allowed: {', '.join(FILTERS)}")
        if not strengths:
            raise ValueError("model.strengths is empty; it must hold one number at least")
        self.filter, self.strengths = filter, tuple(strengths)
        self.strength = nn.Parameter(torch.tensor(float(self.strengths[0])))
        self.automatic_optimization = False

    @property
    def preset(self) -> str:
        """The filter and its strength."""
        return f"{self.filter} of strength {self.strength.item():g}"

    def training_step(self, batch: dict, batch_idx: int) -> None:
        """Chooses the strength with the least error on the validation crops."""
        errors = self.errors(self.trainer.datamodule.val_dataloader())
        errors = self.trainer.strategy.reduce(errors.to(self.device), reduce_op="mean")
        with torch.no_grad():
            self.strength.fill_(self.strengths[int(errors.argmin())])
        self.optimizers().step()
        self.log("train/loss", errors.min(), prog_bar=True, batch_size=1)

    def errors(self, batches: Iterable[dict]) -> Tensor:
        """Returns the error of each strength over batches of crops, with shape (strengths,), float32."""
        found = [
            torch.stack([self.error(batch, strength) for strength in self.strengths]) for batch in batches
        ]
        return torch.cat(found, dim=1).mean(1).float()

    def error(self, batch: dict, strength: float) -> Tensor:
        """Returns the error of each crop of a batch, with shape (B,)."""
        return affine_error(apply_filter(self.filter, batch["low"], strength), batch["high"])

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Ends the run: there is nothing more to learn."""
        self.trainer.should_stop = True

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        """Logs the error."""
        error = self.error(batch, self.strength.item()).mean()
        self.log("val/loss", error, prog_bar=True, batch_size=len(batch["low"]), sync_dist=True)

    def sample(self, low: Tensor, noise: KeyedNoise, apply: Apply = whole) -> Tensor:
        """Restores images; see :meth:`ddpm_lightning.models.protocol.Method.sample`."""
        return apply(lambda images: apply_filter(self.filter, images, self.strength.item()), low)
