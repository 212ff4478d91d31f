"""Checks of settings that are valid by themselves but do not fit together, made before a training is started."""

import torch

from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.inference.memory import available_bytes, training_bytes
from ddpm_lightning.metrics.ssim import minimum_side
from ddpm_lightning.models.method import Method
from ddpm_lightning.training.settings import TrainSettings
from ddpm_lightning.utils.errors import UserError

__all__ = ["check", "check_partners", "memory_warning"]

#: Activations of each pixel that a network holds at once when it makes samples, in units of the channels of its first
#: level: not measured, but good enough to tell 1 GB from 100.
ACTIVATIONS = 40
#: Most pixels of samples that are computed together (:func:`ddpm_lightning.models.sampling.samples_of`).
PIXELS_AT_ONCE = 2**20


def check(settings: TrainSettings, crop: int, size_divisor: int) -> None:
    """Checks settings against each other.

    Args:
        settings: Settings of a run.
        crop: Side of the training crops in pixels.
        size_divisor: Number by which the sides of images must be divisible.

    Raises:
        UserError: For the first pair of settings that do not fit together; it names both.
    """
    if crop % size_divisor:
        near = max(crop // size_divisor, 1) * size_divisor
        raise UserError(
            "data.crop",
            f"is {crop}; the levels of this network need multiples of {size_divisor}",
            remedy=f"set data.crop={near}",
        )
    _check_batch(settings)
    _check_memory(settings)
    _check_monitor(settings)


def check_partners(settings: TrainSettings, data: PairDataModule, method: Method) -> None:
    """Checks that there are clean images if they are needed.

    Args:
        settings: Settings of a run.
        data: The data.
        method: The method.

    Raises:
        UserError: If the model, or what chooses its best checkpoint, needs clean images and there are none.
    """
    alone = [split for split in ("train", "val") if not data.paired(split)]
    if data.noisy_split is not None and method.needs_clean:
        raise UserError(
            "data.noisy_split",
            f"is {data.noisy_split}, and model={settings.names['model']} learns from clean images",
            remedy="leave it out, or choose model=noise2void_small, n2v2_small or struct_n2v_small",
        )
    if alone and method.needs_clean:
        raise UserError(
            f"data set {data.name}",
            f"has no clean images in its split {alone[0]!r}, and model={settings.names['model']} learns from them",
            allowed="folders low/ and high/",
            remedy="add them, or choose model=noise2void_small, n2v2_small or struct_n2v_small",
        )
    monitor = (settings.callbacks.get("checkpoint") or {}).get("monitor")
    if "val" in alone and monitor not in (None, "val/loss"):
        raise UserError(
            "callbacks.checkpoint.monitor",
            f"is {monitor}, and there are no clean images for validation",
            remedy="leave it out: val/loss needs none",
        )


def memory_warning(method: Method, pixels: int) -> str:
    """Returns a warning if training on the CPU needs more than half of the free memory; else an empty text.

    Args:
        method: The method.
        pixels: Pixels of all crops of a batch.
    """
    needed, free = training_bytes(method, pixels), available_bytes(torch.device("cpu"))
    if needed < free / 2:
        return ""
    return (
        f"warning: this training needs about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; "
        "a smaller data.batch_size or data.crop, or a model whose name ends in _small, needs less"
    )


def _check_batch(settings: TrainSettings) -> None:
    trainer, batch = settings.trainer, settings.data["batch_size"]
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    if devices in (-1, "-1", "auto"):
        on_gpu = trainer.get("accelerator") in ("gpu", "cuda", "auto") and torch.cuda.is_available()
        devices = torch.cuda.device_count() if on_gpu else 1
    if not isinstance(devices, int) or not isinstance(nodes, int) or devices < 1:
        return
    if batch % (devices * nodes):
        raise UserError(
            "data.batch_size",
            f"is {batch}, to be shared by {devices * nodes} processes (trainer.devices x trainer.num_nodes)",
            allowed=f"a multiple of {devices * nodes}; the batch is that of all processes together",
            remedy=f"set data.batch_size={max(batch // (devices * nodes), 1) * devices * nodes}",
        )


def _check_memory(settings: TrainSettings) -> None:
    """Checks that the GPU can hold the samples that the callback ``images`` computes together."""
    images = settings.callbacks.get("images")
    if not images or not torch.cuda.is_available():
        return
    area = images["crop"] ** 2
    pixels = area * max(min(images["samples"], PIXELS_AT_ONCE // area), 1)
    needed = 4 * ACTIVATIONS * (settings.model.get("network") or {}).get("base", 64) * pixels
    available = torch.cuda.get_device_properties(0).total_memory
    if needed > available:
        raise UserError(
            "callbacks.images.samples",
            f"is {images['samples']}, of {images['crop']} pixels on a side (callbacks.images.crop): that needs about"
            f" {needed / 1e9:.0f} GB, and the GPU has {available / 1e9:.0f}",
            remedy="set callbacks.images.samples=2, or callbacks.images.crop=192",
        )


def _check_monitor(settings: TrainSettings) -> None:
    """Checks that the metric by which the best checkpoint is chosen is computed in every epoch."""
    checkpoint = settings.callbacks.get("checkpoint") or {}
    monitor, images = checkpoint.get("monitor"), settings.callbacks.get("images")
    if monitor in (None, "val/loss") or not str(monitor).startswith("val/"):
        return
    if not images:
        raise UserError(
            "callbacks.checkpoint.monitor",
            f"is {monitor}, which callbacks.images computes, and that is switched off",
            remedy="set callbacks.checkpoint.monitor=val/loss, or leave callbacks.images on",
        )
    if "ms_ssim" in monitor and images["crop"] < (least := minimum_side()):
        raise UserError(
            "callbacks.images.crop",
            f"is {images['crop']}, and {monitor} (callbacks.checkpoint.monitor) needs {least} pixels",
            remedy=f"set callbacks.images.crop={least} or more, or monitor val/loss",
        )
    if images["budget"] < 1:
        raise UserError(
            "callbacks.images.budget",
            f"is {images['budget']}, so short epochs may have no {monitor} (callbacks.checkpoint.monitor)",
            remedy="set callbacks.images.budget=1, or monitor val/loss",
        )
