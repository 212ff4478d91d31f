"""Lightning's Trainer and the module that it trains, from the settings of a run."""

from collections.abc import Mapping
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import DDPStrategy

from ddpm_lightning.callbacks.max_time import MaxTime
from ddpm_lightning.checkpoints.checkpoint_file import AtomicCheckpointIO
from ddpm_lightning.inference.bfloat16 import is_native
from ddpm_lightning.models.build import TRAINING, build_method
from ddpm_lightning.training.module import LightningMethod
from ddpm_lightning.training.processes import is_first
from ddpm_lightning.training.settings import TrainSettings
from ddpm_lightning.utils.allowed_classes import Trust
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.instantiate import build

__all__ = ["lightning_method", "make_trainer", "precision", "trainer_arguments"]


def lightning_method(model: Mapping[str, Any], trust: Trust = ()) -> LightningMethod:
    """Builds a method and the module that trains it from the description of both."""
    training = {key: model[key] for key in TRAINING if key in model}
    built = build(training, ("optimizer", "lr_schedule"), trust)
    # Convolutions run faster with channels last: 1.5 times on CPUs.
    return LightningMethod(build_method(model, trust), **built).to(memory_format=torch.channels_last)


def make_trainer(
    settings: TrainSettings, arguments: Mapping[str, Any], averaged: bool, trust: Trust
) -> tuple[lightning.Trainer, MaxTime | None]:
    """Builds Lightning's Trainer, its loggers and its callbacks.

    Args:
        settings: Settings of the run.
        arguments: Arguments of the Trainer, see :func:`trainer_arguments`.
        averaged: Whether the moving average of the weights may be used: without it, the callback ``ema`` is left out.
        trust: Whose classes the settings may name.

    Returns:
        The Trainer, and its limit of time if it has one.

    Raises:
        UserError: If the Trainer does not accept its arguments.
    """
    arguments, timer = dict(arguments), None
    callbacks = {name: node for name, node in settings.callbacks.items() if name != "ema" or averaged}
    own = {
        "max_epochs": -1,
        "default_root_dir": settings.run_folder,
        "logger": [build(node, ("logger",), trust) for node in settings.logger.values() if node],
        "callbacks": [build(node, ("callback",), trust) for node in callbacks.values() if node],
        "plugins": [AtomicCheckpointIO()],
    }
    if taken := sorted(own.keys() & arguments.keys()):
        raise UserError(
            f"trainer.{taken[0]}", "is set by this program", remedy=f"leave out trainer.{taken[0]}"
        )
    try:
        if (duration := arguments.pop("max_time", None)) is not None:
            timer = MaxTime(duration)
            own["callbacks"].append(timer)
        return lightning.Trainer(**arguments, **own), timer
    except (TypeError, ValueError, AttributeError, MisconfigurationException) as error:
        remedy = "choose a trainer that this machine has, such as trainer=cpu, or correct the setting"
        raise UserError("trainer", " ".join(str(error).split()), remedy=remedy) from error


def trainer_arguments(
    trainer: Mapping[str, Any], module: LightningMethod, trust: Trust = ()
) -> dict[str, Any]:
    """Returns the arguments of Lightning's Trainer that suit a method.

    Raises:
        UserError: If gradients shall be accumulated for a method with several optimisers.
    """
    arguments = {**build(trainer, ("strategy", "profiler"), trust), "precision": precision(trainer)}
    if not module.automatic_optimization:
        # Each optimiser is stepped apart: Lightning can neither clip, nor know which parameters a step leaves out.
        arguments["gradient_clip_val"] = None
        if arguments.get("accumulate_grad_batches", 1) != 1:
            raise UserError(
                "trainer.accumulate_grad_batches",
                f"is {arguments['accumulate_grad_batches']}, but this model steps its own optimisers",
                allowed="1",
                remedy="raise data.batch_size instead",
            )
        if arguments.get("strategy") == "ddp" or isinstance(arguments.get("strategy"), DDPStrategy):
            arguments["strategy"] = "ddp_find_unused_parameters_true"
    return arguments


def precision(trainer: Mapping[str, Any]) -> str:
    """Returns the trainer's precision; ``auto`` is bfloat16 where the processor computes in it, else float32."""
    on_gpu = trainer["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    native = is_native(torch.device("cuda" if on_gpu else "cpu"))
    if trainer["precision"] == "auto":
        return "bf16-mixed" if native else "32-true"
    if str(trainer["precision"]).startswith("bf16") and not native and is_first():
        print(
            f"trainer.precision={trainer['precision']}: this processor does not support bfloat16, and emulating it is"
            " about ten times slower than float32; use trainer.precision=auto"
        )
    return trainer["precision"]
