r"""pix2pix: a conditional GAN whose only noise is its dropout.

A discriminator learns to tell clean images from generated ones, beside the low image; the generator learns to deceive
it and to stay near the clean image (mean absolute error, weight 100). Dropout stays on after training: samples differ
by their dropout masks, which are keyed like all noise here, and can be averaged.

The generator ends in tanh. Its range is stretched over the bounds of the clean images of the training set, so that the
brightest pixels can be reached; losses are computed on the scale on which most pixels fill [-1, 1].

References:
    Isola et al. *Image-to-image translation with conditional adversarial networks* (2017),
    https://arxiv.org/abs/1611.07004
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.models.learner import Learner
from ddpm_lightning.models.losses import pix2pix_discriminator_loss, pix2pix_generator_loss
from ddpm_lightning.models.protocol import Apply, whole
from ddpm_lightning.networks.pix2pix import Pix2PixGenerator
from ddpm_lightning.utils.errors import UserError

__all__ = ["Pix2Pix", "canvas_channels", "level_noise"]

TEST_MODES = ("dropout_only", "eval", "train")


class Pix2Pix(Learner):
    """Generator and discriminator with an optimiser each, stepped by hand.

    A step of the run is one batch: both optimisers step in it, the discriminator first, but only the generator's step
    is counted. The checkpoint with the best validation loss is the one with the least absolute error of a sample; the
    authors take the last.

    Args:
        generator: Maps low images and dropout noise to images in [-1, 1].
        discriminator: Maps low images and images to logits.
        l1_weight: Weight of the absolute error.
        test_mode: What is random after training: ``dropout_only``; nothing (``eval``); or dropout, with batch
            statistics of the image itself as in training (``train``, the authors' script).
        settings: Settings of :class:`Learner`; optimiser and schedule are made once for each network.

    Raises:
        ValueError: If the mode is unknown.
    """

    evaluations = 1
    averaged = False  # batch normalisation

    def __init__(
        self,
        generator: Pix2PixGenerator,
        discriminator: nn.Module,
        l1_weight: float = 100.0,
        test_mode: str = "dropout_only",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if test_mode not in TEST_MODES:
            raise ValueError(f"model.test_mode is {test_mode!r}; allowed: {', '.join(TEST_MODES)}")
        self.generator, self.discriminator = generator, discriminator
        self.l1_weight, self.test_mode = l1_weight, test_mode
        self.size_divisor = generator.size_divisor
        self.deterministic = test_mode == "eval" or not generator.dropout_levels
        self.automatic_optimization = False

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

    def configure_optimizers(self) -> Any:
        """Makes an optimiser and a schedule for the discriminator and for the generator, in this order."""
        optimizers = [self.optimizer(net.parameters()) for net in (self.discriminator, self.generator)]
        if self.lr_schedule is None:
            return optimizers
        steps = int(self.trainer.estimated_stepping_batches)
        schedules = [self.lr_schedule(optimizer, total_steps=steps) for optimizer in optimizers]
        if any(schedule["interval"] != "step" for schedule in schedules):
            raise UserError(
                "model.lr_schedule", "goes by epochs", allowed="linear_fall, cosine: these go by steps"
            )
        return optimizers, schedules

    def training_step(self, batch: dict, batch_idx: int) -> Tensor:
        """Steps the discriminator, then the generator, and returns the loss of the latter."""
        low, high = batch["low"], batch["high"]
        for_discriminator, for_generator = self.optimizers()
        restored = self.stretch(self.generator(low))

        self.toggle_optimizer(for_discriminator)
        real, fake = self.discriminator(low, high).float(), self.discriminator(low, restored.detach()).float()
        discriminator_loss = pix2pix_discriminator_loss(real, fake)
        self.manual_backward(discriminator_loss)
        # Around Lightning's wrapper, which would count this step: a run of N steps is N batches for every method.
        self.trainer.strategy.optimizer_step(for_discriminator.optimizer, closure=lambda: None)
        for_discriminator.zero_grad()
        self.untoggle_optimizer(for_discriminator)

        self.toggle_optimizer(for_generator)
        fake = self.discriminator(low, restored).float()
        loss = pix2pix_generator_loss(fake, restored, high, l1_weight=self.l1_weight)
        self.manual_backward(loss)
        for_generator.step()
        for_generator.zero_grad()
        self.untoggle_optimizer(for_generator)

        for schedule in self.lr_schedulers() or ():
            schedule.step()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(low))
        self.log("train/discriminator", discriminator_loss, batch_size=len(low))
        return loss.detach()

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        """Logs the mean absolute error of one sample of each crop, with the same dropout in every epoch."""
        names = batch["name"]
        restored = self.sample(batch["low"], KeyedNoise(0, names, [0] * len(names)))
        loss = functional.l1_loss(restored, batch["high"])
        self.log("val/loss", loss, prog_bar=True, batch_size=len(names), sync_dist=True)

    def sample(self, low: Tensor, noise: KeyedNoise, apply: Apply = whole) -> Tensor:
        """Restores images; see :meth:`ddpm_lightning.models.protocol.Method.sample`."""
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
    """Returns the channels that a canvas of noise needs to hold the dropout noise of all levels."""
    return sum(_channels(*level) for level in _levels(generator))


def level_noise(generator: Pix2PixGenerator, canvas: Tensor) -> list[Tensor]:
    """Folds a canvas of noise into the shapes of the generator's levels.

    Noise that lives on the canvas can be cut into tiles like an image, and pixels keep theirs.

    Args:
        generator: The generator.
        canvas: Uniform numbers with shape (B, K, H, W), K as :func:`canvas_channels` says.

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
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Lets batch normalisation use the statistics of what it sees, and learn nothing from them."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [(layer.training, layer.momentum) for layer in layers]
    for layer in layers:
        layer.training, layer.momentum = True, 0.0
    try:
        yield
    finally:
        for layer, (training, momentum) in zip(layers, before, strict=True):
            layer.training, layer.momentum = training, momentum
