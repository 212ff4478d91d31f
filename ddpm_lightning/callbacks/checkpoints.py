"""``last.ckpt`` is the state of the last step, ``best.ckpt`` the one with the best validation loss.

Lightning's class writes the last state only at validations that were the best so far, so a resumed run may lose many
steps. Here it is written at every validation, and at the last step of a run that ends without one.
"""

from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.trainer.states import TrainerFn

from ddpm_lightning.checkpoints.checkpoint_file import is_intact

__all__ = ["Checkpoints"]

#: What a checkpoint stores about the best one.
SCORES = ("best_model_score", "best_model_path", "best_k_models", "kth_best_model_path", "kth_value")


class Checkpoints(ModelCheckpoint):
    """Lightning's :class:`ModelCheckpoint`, but ``last.ckpt`` is the last state, from which a run resumes bit for bit.

    Args:
        settings: Settings of :class:`ModelCheckpoint`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._ended_at = 0

    @property
    def state_key(self) -> str:
        """Key of the state in a checkpoint: that of Lightning's class, whose runs can be resumed as well."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves the last step of a run, unless a validation follows, which saves it.

        Checkpoint callbacks are called last, so a time limit (``trainer.max_time``) has been checked before.
        """
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        loop = trainer.fit_loop
        ends = trainer.global_step >= trainer.max_steps > 0 or (trainer.should_stop and loop._can_stop_early)
        if ends and not loop.epoch_loop._should_check_val_fx(cast(Any, loop._data_fetcher)):
            self.save_last_state(trainer)
            self._ended_at = trainer.global_step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the best state if this is it, and the last one in any case.

        A run that ends within an epoch is validated once more. Its last state is the one before that validation, which
        a longer run has as well; its best state may be the one that was validated.
        """
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        if self._ended_at == trainer.global_step:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
            return
        # Lightning skips a step that was saved, even if it was saved before it was validated.
        self._last_global_step_saved = 0
        super().on_validation_end(trainer, pl_module)
        self.save_last_state(trainer)

    def save_last_state(self, trainer: Trainer) -> None:
        """Writes ``last.ckpt``, unless it already holds this step; all processes must call it."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def save_state_before(self, trainer: Trainer) -> None:
        """Writes ``last.ckpt`` within a step that will not be completed, as the state before that step.

        A resumed run starts the step again with its first batch. All processes must call this, and the run must end
        after it. A model that steps its own optimisers may have taken half of the step: nothing is written then.
        """
        if not trainer.lightning_module.automatic_optimization:
            return
        progress = trainer.fit_loop.epoch_loop.batch_progress
        accumulated = progress.current.completed % trainer.accumulate_grad_batches
        for count in (cast(_ProcessedTracker, part) for part in (progress.total, progress.current)):
            count.ready = count.started = count.processed = count.completed = count.completed - accumulated
        self.save_last_state(trainer)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Removes the elapsed time, because a time limit applies to each start of a run.

        Otherwise a run that has used it up would end immediately whenever it is resumed.
        """
        checkpoint["callbacks"].pop(Timer.__qualname__, None)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best score if the best checkpoint is there, even if the folder of the run has moved."""
        folder = Path(self.dirpath or "")
        best = folder / f"{self.filename}{self.FILE_EXTENSION}"
        if not is_intact(best):
            return
        # The best checkpoint itself is decisive: it may have been found after the last state was saved.
        own = torch.load(best, map_location="cpu", weights_only=True)["callbacks"].get(
            self.state_key, state_dict
        )
        state_dict = {**state_dict, **{name: own[name] for name in SCORES}}
        here = {str(folder / Path(path).name): score for path, score in state_dict["best_k_models"].items()}
        moved = {"best_model_path": str(best), "best_k_models": here, "dirpath": self.dirpath}
        for name in ("kth_best_model_path", "last_model_path"):
            moved[name] = state_dict[name] and str(folder / Path(state_dict[name]).name)
        super().load_state_dict({**state_dict, **moved})
