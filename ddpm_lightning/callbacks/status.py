"""``status.json`` of a run: whether it is running, finished or failed, on which machine, and at which step.

It is written before the first step and at every validation. If the state is ``running`` but the process does not exist,
the run was killed.
"""

import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ddpm_lightning.callbacks.max_time import ended_by
from ddpm_lightning.utils.atomic import write_json
from ddpm_lightning.utils.errors import Interrupted, UserError

__all__ = ["Status"]


class Status(Callback):
    """Updates ``status.json``.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "status.json"
        self.began = time.time()

    def _write(self, trainer: Trainer, state: str, **more: Any) -> None:
        if not trainer.is_global_zero:
            return
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        write_json(
            self.path,
            {
                "state": state,
                "step": trainer.global_step,
                "steps": trainer.max_steps,
                "epoch": trainer.current_epoch,
                "seconds": round(time.time() - self.began, 1),
                "objective": _objective(trainer),
                "metrics": {key: value for key, value in metrics.items() if abs(value) < float("inf")},
                "process": os.getpid(),
                "machine": platform.node(),
                **more,
            },
        )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the state at the start."""
        self._write(trainer, "running")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the state after a validation."""
        if not trainer.sanity_checking:
            self._write(trainer, "running")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the state of a run that ended without an error."""
        ended = ended_by(trainer)
        more = {"ended": ended} if ended else {}
        self._write(trainer, "interrupted" if trainer.interrupted else "finished", **more)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Writes the state of a run that was stopped or failed."""
        interrupted = isinstance(exception, KeyboardInterrupt | SIGTERMException | Interrupted)
        state = "interrupted" if interrupted else "failed"
        # The original error must be reported, even if this file cannot be written, for example to a full disk.
        with suppress(UserError, OSError):
            self._write(trainer, state, error=f"{type(exception).__name__}: {exception}")


def _objective(trainer: Trainer) -> float | None:
    """Returns the best value of the metric that chooses the best checkpoint."""
    best = getattr(trainer.checkpoint_callback, "best_model_score", None)
    return float(best) if best is not None and best.isfinite() else None
