r"""pix2pix: a conditional GAN whose only noise is its dropout.

A discriminator learns to distinguish clean from generated images, given the low image; the generator learns to deceive
it and to stay close to the clean image (mean absolute error, weight 100). Dropout remains active after training:
samples differ by their dropout masks, which are keyed like all noise here, and can be averaged.

The generator ends in tanh. Its range is mapped to the range of the clean images of the training set, so that the
brightest pixels can be reached; losses are computed on the normalised scale, on which most pixels are in [-1, 1].

References:
    Isola et al. *Image-to-image translation with conditional adversarial networks* (2017),
    https://arxiv.org/abs/1611.07004
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.models.losses import pix2pix_discriminator_loss, pix2pix_generator_loss
from ddpm_lightning.models.method import Apply, Batch, LossKey, Method, apply_directly
from ddpm_lightning.networks.pix2pix import Pix2PixGenerator

__all__ = ["Pix2Pix", "canvas_channels", "level_noise"]

TEST_MODES = ("dropout_only", "eval", "train")


class Pix2Pix(Method):
    """Generator and discriminator with an optimiser each.

    A step of the run is one batch, in which the discriminator takes a step first, then the generator. The checkpoint
    with the best validation loss is the one with the least absolute error of a sample; the authors take the last.

    Args:
        generator: Maps low images and dropout noise to images in [-1, 1].
        discriminator: Maps low images and images to logits.
        l1_weight: Weight of the absolute error.
        test_mode: What is random after training: ``dropout_only``; nothing (``eval``); or dropout, with batch
            statistics of the image itself as in training (``train``, the authors' script).

    Raises:
        ValueError: If the mode is unknown.
    """

    averaged = False  # batch normalisation

    def __init__(
        self,
        generator: Pix2PixGenerator,
        discriminator: nn.Module,
        l1_weight: float = 100.0,
        test_mode: str = "dropout_only",
    ) -> None:
        super().__init__()
        if test_mode not in TEST_MODES:
            raise ValueError(f"model.test_mode is {test_mode!r}; allowed: {', '.join(TEST_MODES)}")
        self.generator, self.discriminator = generator, discriminator
        self.l1_weight, self.test_mode = l1_weight, test_mode
        self.size_divisor = generator.size_divisor

    @property
    def deterministic(self) -> bool:
        """Only dropout makes samples differ."""
        return self.test_mode == "eval" or not self.generator.dropout_levels

    @property
    def preset(self) -> str:
        """What is random, in words."""
        return {"dropout_only": "dropout", "eval": "one pass", "train": "dropout and batch statistics"}[
            self.test_mode
        ]

    def stretch(self, images: Tensor) -> Tensor:
        """Maps the range of tanh to that of clean images, float32."""
        low, high = self.bounds
        return low + (high - low) * (images.float() + 1) / 2

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Returns the parameters of the discriminator and of the generator, in this order."""
        networks = {"discriminator": self.discriminator, "generator": self.generator}
        return {name: list(network.parameters()) for name, network in networks.items()}

    def alternating_losses(self, batch: Batch, key: LossKey) -> Iterator[tuple[str, Tensor]]:
        """Yields the loss of the discriminator, then that of the generator; see :meth:`Method.alternating_losses`.

        Yields:
            ``discriminator`` with half its cross-entropy, then ``generator`` with its cross-entropy and the weighted
            mean absolute error; scalars of at least 0.
        """
        low, high = batch["low"], batch["high"]
        restored = self.stretch(self.generator(low))
        real, fake = self.discriminator(low, high).float(), self.discriminator(low, restored.detach()).float()
        yield "discriminator", pix2pix_discriminator_loss(real, fake)
        with frozen(self.discriminator):
            fake = self.discriminator(low, restored).float()
            yield "generator", pix2pix_generator_loss(fake, restored, high, l1_weight=self.l1_weight)

    def loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns the error of one sample of each crop; see :meth:`Method.loss`.

        Returns:
            Mean absolute error, a scalar of at least 0.
        """
        return functional.l1_loss(self.sample(batch["low"], key.noise(batch["name"])), batch["high"])

    def sample(self, low: Tensor, noise: KeyedNoise, apply: Apply = apply_directly) -> Tensor:
        """Restores images; see :meth:`Method.sample`."""
        if self.test_mode == "eval":
            return self.stretch(apply(self.generator, low))
        shape = canvas_channels(self.generator), *low.shape[-2:]
        canvas = noise.uniform_field(0, shape, low.device).float()

        def generate(low: Tensor, canvas: Tensor) -> Tensor:
            return self.generator(low, level_noise(self.generator, canvas))

        if self.test_mode == "dropout_only":
            return self.stretch(apply(generate, low, canvas))
        with batch_statistics(self.generator):
            rows = zip(low.split(1), canvas.split(1), strict=True)
            return self.stretch(torch.cat([apply(generate, *row) for row in rows]))


def canvas_channels(generator: Pix2PixGenerator) -> int:
    """Returns the number of channels that a canvas of noise needs for the dropout noise of all levels."""
    return sum(_channels(*level) for level in _levels(generator))


def level_noise(generator: Pix2PixGenerator, canvas: Tensor) -> list[Tensor]:
    """Folds a canvas of noise into the shapes of the generator's levels.

    A canvas of noise can be cut into tiles like an image, so that each pixel keeps its noise.

    Args:
        generator: The generator.
        canvas: Uniform numbers with shape (B, K, H, W), with K from :func:`canvas_channels`.

    Returns:
        Numbers with shape (B, C, h, w) for each level with dropout.
    """
    noise, first = [], 0
    for channels, level in _levels(generator):
        used = _channels(channels, level)
        folded = functional.pixel_unshuffle(canvas[:, first : first + used], 2**level)
        noise.append(folded[:, :channels])
        first += used
    return noise


def _levels(generator: Pix2PixGenerator) -> Iterator[tuple[int, int]]:
    return zip(generator.noise_channels, generator.dropout_levels, strict=True)


def _channels(channels: int, level: int) -> int:
    """Channels of the canvas that hold `channels` channels of a level: one holds 4^level of them."""
    return -(-channels // 4**level)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Lets gradients pass through a network without reaching its parameters."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Lets batch normalisation use the statistics of its input without updating its running ones."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [(layer.training, layer.momentum) for layer in layers]
    for layer in layers:
        layer.training, layer.momentum = True, 0.0
    try:
        yield
    finally:
        for layer, (training, momentum) in zip(layers, before, strict=True):
            layer.training, layer.momentum = training, momentum
