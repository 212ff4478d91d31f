"""Saves the run when it is told to stop, and every few minutes in long epochs.

Clusters stop jobs by SIGTERM (SLURM sends SIGUSR1 first if requested), people by Ctrl-C, and a closing terminal by
SIGHUP. Interrupting a step would leave a state that no undisturbed run has, so a signal only sets a flag. At the end of
the step all processes agree on it, the checkpoint is written, and the run ends with exit code 128 + signal. A second
signal, a second or more after the first, ends the run immediately without saving (within two seconds if a computation
cannot be interrupted).
"""

import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import distributed

from ddpm_lightning.utils import lock, signals
from ddpm_lightning.utils.errors import Interrupted
from ddpm_lightning.utils.paths import command_of
from ddpm_lightning.utils.settings import Positive

__all__ = ["Preemption"]

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
#: Decisions of the processes: do nothing (0), save and continue (SAVE), or save and end (SAVE + signal number).
SAVE = 1
#: Steps between two exchanges of decisions: each one makes the GPUs wait.
AGREE_EVERY = 5


class Preemption(Callback):
    """Writes ``last.ckpt`` between two validations when the run is asked to stop, and regularly in long epochs.

    Args:
        folder: Folder of the checkpoints.
        every_minutes: Minutes after which the run is saved within an epoch; ``None`` for only when it is asked to stop.
    """

    def __init__(self, folder: str, every_minutes: Positive | None = 30.0) -> None:
        self.path = Path(folder) / "last.ckpt"
        self.seconds = float("inf") if every_minutes is None else 60 * every_minutes
        self.received = 0
        self._saved_step = -1
        self._handlers = ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handles the signals instead of Lightning, which would stop at once and save nothing."""
        self.received, self._saved_at = 0, time.monotonic()
        self._saved_step = trainer.global_step or -1
        self._handlers.close()
        if threading.current_thread() is not threading.main_thread():
            return
        numbers = signals.named(*SIGNALS)
        self._handlers.enter_context(signals.taken(numbers, self._note))

        def first(number: int) -> None:
            if trainer.is_global_zero:
                name = signal.Signals(number).name
                say = "the run saves and stops after this step; a second signal stops it immediately, without saving"
                print(f"{name}: {say}", file=sys.stderr, flush=True)

        def second(number: int) -> None:
            for process in getattr(trainer.strategy.launcher, "procs", []):
                process.kill()
            lock.give_back()

        self._handlers.callback(signals.Alarm(numbers, first, second).close)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received, self._told_at = number, time.monotonic()
        elif time.monotonic() - self._told_at > signals.ECHO:
            raise Interrupted(
                number, f"{signal.Signals(number).name}: stopped immediately, nothing was saved"
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stops if asked to, once the checkpoint of this step has been written, here or by a validation.

        Raises:
            Interrupted: If any process was told to stop.
        """
        # The step that loggers use for their rows: Lightning's count is off by one after some resumes.
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        if trainer.global_step == self._saved_step and (agreed := self._agreed(trainer)) > SAVE:
            number = agreed - SAVE
            folder = self.path.parent.parent
            # The first of two stages is resumed as part of its run.
            folder = folder.parent if (folder.parent / "config.yaml").is_file() else folder
            message = f"{signal.Signals(number).name} at step {trainer.global_step}: saved"
            raise Interrupted(number, f"{message}; resume with: {command_of('train', resume=folder)}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves if it is time; at the end of an epoch, its validation does."""
        ends = trainer.is_last_batch or trainer.global_step >= trainer.max_steps > 0
        # Between the batches of an accumulated gradient, that gradient would be lost.
        if ends or not self._agreed(trainer) or trainer.fit_loop._should_accumulate():
            return
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path)
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the step: a validation is followed by a checkpoint."""
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restores the signal handlers if the run ends with an error or because it was asked to stop."""
        self._handlers.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restores the signal handlers."""
        self._handlers.close()

    def _agreed(self, trainer: Trainer) -> int:
        """Returns the decision of all processes, from received signals and the time since the last checkpoint."""
        decision = SAVE if time.monotonic() - self._saved_at > self.seconds else 0
        if self.received:
            decision = SAVE + self.received
        if trainer.world_size == 1:
            return decision
        if trainer.global_step % AGREE_EVERY and trainer.global_step != self._saved_step:
            return 0
        decisions = torch.tensor(decision, device=trainer.strategy.root_device)
        distributed.all_reduce(decisions, distributed.ReduceOp.MAX)
        return int(decisions)
