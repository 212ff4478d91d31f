"""The LightningModule that trains any method: optimisers, schedules, keyed randomness, logs, and the card.

In its checkpoints, weights have the names of the method, without a prefix; everything else is in plain containers.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ddpm_lightning.models.method import Batch, LossKey, Method
from ddpm_lightning.networks.mp_layers import force_unit_weights
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Seed

__all__ = ["LightningMethod"]

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
ScheduleFactory = Callable[[Optimizer, int], dict[str, Any]]


class LightningMethod(lightning.LightningModule):
    """Trains a method.

    Args:
        method: What is trained.
        optimizer: Makes an optimiser from parameters; not needed for methods without parameters to optimise.
        lr_schedule: Makes Lightning's scheduler description from an optimiser and the number of steps.
        seed: Seed of everything random in training, keyed by step and process.

    Attributes:
        card: What a reader of the checkpoint needs: model, normalisation, data, versions; plain containers only.
    """

    def __init__(
        self,
        method: Method,
        optimizer: OptimizerFactory | None = None,
        lr_schedule: ScheduleFactory | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.method = method
        self.optimizer, self.lr_schedule, self.seed = optimizer, lr_schedule, seed
        self.card: dict[str, Any] = {}
        self.automatic_optimization = len(method.parameter_groups()) == 1
        self._calibrated: Tensor | None = None
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    @property
    def step_key(self) -> LossKey:
        """Key of everything random in the current training step."""
        return LossKey.of_step(self.seed, self.trainer.global_step, self.global_rank)

    def configure_optimizers(self) -> Any:
        """Makes an optimiser for each parameter group of the method, and its schedule over the whole run."""
        groups = self.method.parameter_groups()
        if not groups:
            # Lightning counts the steps of optimisers: this one changes nothing.
            return SGD(self.method.parameters(), lr=0.0)
        if self.optimizer is None:
            raise UserError(
                "model.optimizer",
                "is not given",
                allowed="a description of an optimiser",
                remedy="add model.optimizer",
            )
        optimizers = [self.optimizer(parameters) for parameters in groups.values()]
        if self.lr_schedule is None:
            return optimizers
        total_steps = int(self.trainer.estimated_stepping_batches)
        schedules = [self.lr_schedule(optimizer, total_steps) for optimizer in optimizers]
        if len(groups) > 1 and any(schedule["interval"] != "step" for schedule in schedules):
            raise UserError(
                "model.lr_schedule",
                "changes with epochs",
                allowed="linear_fall, cosine: these change with steps",
            )
        return optimizers, schedules

    def on_fit_start(self) -> None:
        """Lets the method measure properties of the validation crops; see :meth:`Method.calibrate`."""
        self._calibrated = self.method.calibrate(self._validation_batches(), self.trainer.strategy.reduce)

    def _validation_batches(self) -> Iterator[Batch]:
        """Yields the validation batches of this process; the loader is made only if one is requested."""
        trainer: Any = self.trainer  # whose attribute datamodule is not declared
        yield from trainer.datamodule.val_dataloader()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds the global generator (dropout), so that a resumed run uses the same random numbers."""
        torch.manual_seed(self.step_key.stream)

    def training_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT:
        """Returns the loss of a batch; methods with several optimisers, or none, take their step here."""
        if self.automatic_optimization:
            losses = {"loss": self.method.loss(batch, self.step_key)}
        else:
            losses = self._alternate(batch) if self.method.parameter_groups() else self._only_step()
        *others, last = losses
        # Mean over all processes, so that curves do not depend on their number.
        mean = {"batch_size": len(batch["low"]), "sync_dist": True}
        self.log("train/loss", losses[last], prog_bar=True, **mean)
        for name in others:
            self.log(f"train/{name}", losses[name], **mean)
        return losses[last]

    def _alternate(self, batch: Batch) -> dict[str, Tensor]:
        """Takes a step with each optimiser, and returns their losses; the last is that of the run."""
        optimizers = dict(zip(self.method.parameter_groups(), self._optimizers(), strict=True))
        last, losses = list(optimizers)[-1], {}
        for name, loss in self.method.alternating_losses(batch, self.step_key):
            self.manual_backward(loss)
            if name == last:
                optimizers[name].step()
            else:
                # Not by Lightning's wrapper, which would count this step: N steps are N batches for any method.
                self.trainer.strategy.optimizer_step(optimizers[name].optimizer, closure=lambda: None)
            optimizers[name].zero_grad()
            losses[name] = loss.detach()
        force_unit_weights(self.method)
        for schedule in self._schedules():
            schedule.step()
        return losses

    def _only_step(self) -> dict[str, Tensor]:
        """Counts the one step of a method that :meth:`on_fit_start` has trained."""
        if self._calibrated is None:
            raise TypeError(
                f"{type(self.method).__name__} has no parameter groups, and calibrate returned no error"
            )
        for optimizer in self._optimizers():
            optimizer.step()
        return {"loss": self._calibrated}

    def _optimizers(self) -> list[LightningOptimizer]:
        found = self.optimizers()
        return found if isinstance(found, list) else [found]

    def _schedules(self) -> list[Any]:
        found = self.lr_schedulers()
        return found if isinstance(found, list) else [] if found is None else [found]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the validation loss, with the same random numbers in every epoch."""
        loss = self.method.validation_loss(batch, LossKey.of_validation(batch_idx))
        self.log("val/loss", loss, prog_bar=True, batch_size=len(batch["low"]), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Steps schedules that follow a metric, such as a plateau schedule, once for each validation.

        Before the checkpoint of this validation is written, so that a resumed run continues with the same rate.
        """
        if self.trainer.sanity_checking:
            return
        metrics = self.trainer.callback_metrics
        for schedule in self.trainer.lr_scheduler_configs:
            if schedule.reduce_on_plateau and schedule.monitor in metrics:
                cast(ReduceLROnPlateau, schedule.scheduler).step(metrics[schedule.monitor])

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Leaves schedules that follow a metric to :meth:`on_validation_epoch_end`.

        Lightning steps these after each epoch with the last value, whether or not it is new: the rate then falls after
        epochs without a validation.
        """
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def optimizer_step(self, *arguments: Any, **keywords: Any) -> None:
        """Takes an optimiser step, then resets magnitude-preserving weights to unit length."""
        super().optimizer_step(*arguments, **keywords)
        force_unit_weights(self.method)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the gradients.

        Lightning refuses to do so with fused optimisers, because those undo the loss scaling of float16 themselves,
        after the clipping. Without loss scaling (float32, bfloat16) there is no reason to refuse.
        """
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            by_value = gradient_clip_algorithm == "value"
            clip = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
            clip(parameters, gradient_clip_val)

    def on_train_batch_end(self, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int) -> None:
        """Ends the run after its last step, with a final validation if that is within an epoch."""
        if not self.method.parameter_groups() or 0 < self.trainer.max_steps <= self.trainer.global_step:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the card."""
        checkpoint["card"] = self.card


def _without_prefix(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    """Names the weights in a state as the method names them."""
    for name in [name for name in state if name.startswith(f"{prefix}method.")]:
        state[prefix + name.removeprefix(f"{prefix}method.")] = state.pop(name)


def _with_prefix(module: nn.Module, state: dict[str, Tensor], prefix: str, *arguments: Any) -> None:
    """Names the weights in a state as this module names them."""
    for name in [name for name in state if name.startswith(prefix)]:
        state[f"{prefix}method.{name.removeprefix(prefix)}"] = state.pop(name)
