"""What all methods share while they learn: optimiser, keyed randomness, checkpoints of plain containers."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning
import torch
from torch import nn
from torch.optim import Optimizer

from ddpm_lightning.models.presets import ONE_PASS, Preset
from ddpm_lightning.networks.mp_layers import force_unit_weights
from ddpm_lightning.utils.settings import Seed

__all__ = ["Learner"]

OptimizerFactory = Callable[[Iterator[nn.Parameter]], Optimizer]
ScheduleFactory = Callable[[Optimizer, int], dict]


class Learner(lightning.LightningModule):
    """Base of the methods that are trained.

    Args:
        optimizer: Makes the optimiser from parameters.
        lr_schedule: Makes Lightning's scheduler description from the optimiser and the number of steps.
        seed: Seed of everything random in training, keyed by step and process.

    Attributes:
        bounds: Range of clean images on the normalised scale; set by whoever knows the data.
        card: What a reader of the checkpoint needs: model, normalisation, data, versions; plain containers only.
        deterministic: Whether all samples are equal.
        averaged: Whether the average of the weights over the steps (EMA) may stand for them. Networks with batch
            normalisation say no: their running statistics belong to the weights of the moment.
        needs_clean: Whether it learns from clean images, and is validated with them.
        tta: Whether each sample sees the image turned another way; set by whoever knows that training did so.
    """

    deterministic = True
    tta = False
    averaged = True
    needs_clean = True

    def __init__(
        self, optimizer: OptimizerFactory, lr_schedule: ScheduleFactory | None = None, seed: Seed = 0
    ) -> None:
        super().__init__()
        self.optimizer, self.lr_schedule, self.seed = optimizer, lr_schedule, seed
        self.bounds: tuple[float, float] = (-1.0, 1.0)
        self.card: dict[str, Any] = {}

    @property
    def antithetic(self) -> bool:
        """Whether samples come in pairs of antithetic noise: as the sampler says, where there is one."""
        return getattr(getattr(self, "sampler", None), "antithetic", False)

    @property
    def presets(self) -> dict[str, Preset]:
        """Named ways of drawing, the default first."""
        return (
            ONE_PASS if self.deterministic else {"one_pass": Preset(15, "samples of the only kind there is")}
        )

    @property
    def step_seed(self) -> int:
        """Seed of what is drawn in the training step at hand, keyed by seed, step and process."""
        # Each factor is a prime beyond the range of the others, so that nearby runs, steps and ranks do not meet.
        return (self.seed * 1_000_003 + self.trainer.global_step) * 65_537 + self.global_rank

    def configure_optimizers(self) -> Any:
        """Makes the optimiser over all parameters that learn, and its schedule over the whole run."""
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        if self.lr_schedule is None:
            return optimizer
        total_steps = int(self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": self.lr_schedule(optimizer, total_steps=total_steps)}

    def log(self, name: str, value: Any, **settings: Any) -> None:
        """Logs a number as the mean over all processes: curves do not depend on how many there are."""
        super().log(name, value, **{"sync_dist": True, **settings})

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds what is drawn from the global generator (dropout), so that a resumed run draws the same."""
        torch.manual_seed(self.step_seed)

    def optimizer_step(self, *arguments: Any, **keywords: Any) -> None:
        """Steps the optimiser, then forces the weights of magnitude-preserving layers back to unit length."""
        super().optimizer_step(*arguments, **keywords)
        force_unit_weights(self)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the gradients.

        Lightning refuses to with fused optimisers, because those undo the scaling of float16 by themselves, after the
        clipping. Where nothing is scaled (float32, bfloat16) there is nothing to refuse.
        """
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            by_value = gradient_clip_algorithm == "value"
            clip = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
            clip(parameters, gradient_clip_val)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Asks for a last validation when the run ends inside of an epoch."""
        if 0 < self.trainer.max_steps <= self.trainer.global_step:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the card."""
        checkpoint["card"] = self.card
