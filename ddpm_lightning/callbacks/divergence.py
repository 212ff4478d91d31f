"""Stops a run whose gradient is not finite, before the optimiser step that would destroy the weights.

Gradients are checked after they were averaged over the processes, so all processes decide alike: a NaN in the loss of
one process is a NaN in the gradients of all.
"""

import math
from collections import deque
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from ddpm_lightning.callbacks.checkpoints import Checkpoints
from ddpm_lightning.callbacks.processes import gathered
from ddpm_lightning.checkpoints.checkpoint_file import save_atomically
from ddpm_lightning.utils.errors import UserError

__all__ = ["Divergence"]

ACTIONS = ("stop", "skip")
#: Maximum number of steps that may be skipped in a row: more are not caused by a single bad batch.
PATIENCE = 20
#: Maximum number of images that an error names.
SHOWN = 8


class Divergence(Callback):
    """Checks the gradient before each optimiser step.

    Args:
        folder: Folder of the run, which gets ``diverged_STEP.pt``: images and names of the batch, loss, weights.
        action: ``stop`` the run, or ``skip`` the step and continue.

    Raises:
        ValueError: If the action is unknown.
    """

    def __init__(self, folder: str, action: str = "stop") -> None:
        if action not in ACTIONS:
            raise ValueError(f"callbacks.divergence.action is {action!r}; allowed: {', '.join(ACTIONS)}")
        self.folder, self.action = Path(folder), action
        self.skipped = 0
        self._in_a_row = 0
        self._loss: Tensor | None = None
        self._batches: deque[dict] = deque(maxlen=1)

    def state_dict(self) -> dict[str, int]:
        """Returns the numbers of skipped steps."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restores the numbers of skipped steps."""
        self.skipped, self._in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes room for all batches of a step."""
        self._batches = deque(maxlen=trainer.accumulate_grad_batches)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict, batch_idx: int
    ) -> None:
        """Remembers the batch."""
        self._batches.append(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Remembers the loss."""
        self._loss = loss.detach()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Stops the run, or removes the gradient, if it is not finite.

        Raises:
            UserError: If it is not finite, and the action is ``stop`` or too many steps in a row were skipped.
        """
        # With loss scaling, infinite gradients are normal, and the scaler skips their steps.
        if trainer.precision == "16-mixed":
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if get_total_norm([p.grad for p in parameters if p.grad is not None]).isfinite():
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self.skipped += 1
        if self.action == "skip" and self._in_a_row <= PATIENCE:
            for parameter in parameters:
                parameter.grad = None
            pl_module.log("train/skipped", float(self.skipped))
            return
        self._stop(trainer, pl_module)

    def _stop(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = trainer.global_step
        loss = math.nan if self._loss is None else float(self._loss)
        mine = [name for batch in self._batches for name in batch["name"]]
        path = self.folder / f"diverged_{step:07d}.pt"
        named = list(pl_module.named_parameters())
        broken = [name for name, p in named if p.grad is not None and not p.grad.norm().isfinite()]
        if trainer.is_global_zero:
            dump = {
                "step": step,
                "loss": loss,
                "name": mine,
                **{role: torch.cat([b[role].cpu() for b in self._batches]) for role in ("low", "high")},
                "gradients": broken,
                "state_dict": pl_module.state_dict(),
            }
            save_atomically(dump, path)
        if isinstance(trainer.checkpoint_callback, Checkpoints):
            trainer.checkpoint_callback.save_state_before(trainer)
        names = sorted(gathered(mine))
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        again = f", {self._in_a_row} times in a row," if self._in_a_row > 1 else ""
        raise UserError(
            "train/loss",
            f"is {loss:g} at step {step}{again} and the gradient of {len(broken)} tensors is not finite"
            f" (the first is {next(iter(broken), 'none alone')}); images: {', '.join(names[:SHOWN])}{more}",
            remedy=f"set a smaller model.optimizer.lr, inspect {path}, or set callbacks.divergence.action=skip",
        )
