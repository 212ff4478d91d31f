"""Classical filters as reference methods, each with one parameter, its strength.

The strength is the value of a grid with the smallest error on the validation crops: the mean squared error after gain
and offset are fitted, as in the protocol ``affine``. Like Noise2Void, a filter returns a denoised *low* image on the
normalised scale of low images, which is mapped to intensities like the raw image.

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

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from skimage import filters, morphology, restoration
from torch import Tensor, nn

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.metrics.protocol import affine_fit
from ddpm_lightning.models.method import Apply, Batch, LossKey, Method, Reduce, apply_directly

__all__ = ["FILTERS", "Classical", "FittedFilter"]

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


class FittedFilter(Method):
    """Base of filters whose strength is chosen on the validation crops, without gradients.

    A subclass defines :meth:`filtered`.

    Args:
        strengths: Grid of strengths to choose from.

    Raises:
        ValueError: If there is no strength.
    """

    averaged = False

    def __init__(self, strengths: Sequence[float]) -> None:
        super().__init__()
        if not strengths:
            raise ValueError("model.strengths is empty; it must hold one number at least")
        self.strengths = tuple(strengths)
        self.strength = nn.Parameter(torch.tensor(float(self.strengths[0])))

    @abstractmethod
    def filtered(self, image: np.ndarray, strength: float) -> np.ndarray:
        """Returns a filtered image, for an image with shape (H, W), float32, normalised."""

    def apply_filter(self, images: Tensor, strength: float) -> Tensor:
        """Filters images one by one.

        Args:
            images: Images with shape (B, 1, H, W).
            strength: Strength of the filter.

        Returns:
            Filtered images with the shape, dtype and device of the images.
        """
        planes = images[:, 0].float().cpu().numpy()
        filtered = np.stack([self.filtered(plane, strength) for plane in planes])
        return torch.from_numpy(filtered[:, None]).to(images)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Returns no parameters: :meth:`calibrate` does all of the training."""
        return {}

    def calibrate(self, batches: Iterable[Batch], reduce: Reduce) -> Tensor:
        """Chooses the strength with the least error on the validation crops; see :meth:`Method.calibrate`.

        Returns:
            That error, a scalar in squared units of the normalised scale.
        """
        errors = reduce(self.errors(batches).to(self.strength.device), "mean")
        with torch.no_grad():
            self.strength.fill_(self.strengths[int(errors.argmin())])
        return errors.min()

    def errors(self, batches: Iterable[Batch]) -> Tensor:
        """Returns the error of each strength over batches of crops, with shape (strengths,), float32."""
        found = [
            torch.stack([self.error(batch, strength) for strength in self.strengths]) for batch in batches
        ]
        return torch.cat(found, dim=1).mean(1).float()

    def error(self, batch: Batch, strength: float) -> Tensor:
        """Returns the error of each crop of a batch, with shape (B,)."""
        return affine_error(self.apply_filter(batch["low"], strength), batch["high"])

    def loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns the error with the chosen strength; see :meth:`Method.loss`.

        Returns:
            Mean squared error after the best gain and offset, a scalar of at least 0.
        """
        return self.error(batch, self.strength.item()).mean()

    def sample(self, low: Tensor, noise: KeyedNoise, apply: Apply = apply_directly) -> Tensor:
        """Restores images; see :meth:`Method.sample`."""
        return apply(lambda images: self.apply_filter(images, self.strength.item()), low)


class Classical(FittedFilter):
    """A filter of scikit-image.

    Args:
        filter: Name in ``FILTERS``.
        strengths: Grid of strengths to choose from.

    Raises:
        ValueError: If there is no such filter, or no strength.
    """

    def __init__(self, filter: str, strengths: Sequence[float]) -> None:
        super().__init__(strengths)
        if filter not in FILTERS:
            raise ValueError(f"model.filter is {filter!r}; allowed: {', '.join(FILTERS)}")
        self.filter = filter

    @property
    def preset(self) -> str:
        """The filter and its strength."""
        return f"{self.filter} of strength {self.strength.item():g}"

    def filtered(self, image: np.ndarray, strength: float) -> np.ndarray:
        """Returns a filtered image; see :meth:`FittedFilter.filtered`."""
        return FILTERS[self.filter](image, strength)
