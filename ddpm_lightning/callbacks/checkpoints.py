"""``last.ckpt`` is the state of the last step, ``best.ckpt`` that with the best validation loss.

Lightning's own class writes the last state only at validations that were the best so far, so a run that is resumed
may start far back. Here it is written at every validation, and at the last step of a run that ends without one.
"""

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.trainer.states import TrainerFn

from ddpm_lightning.checkpoints.checkpoint_file import is_intact

__all__ = ["Checkpoints"]

#: What a checkpoint knows of the best one.
SCORES = ("best_model_score", "best_model_path", "best_k_models", "kth_best_model_path", "kth_value")


class Checkpoints(ModelCheckpoint):
    """Lightning's :class:`ModelCheckpoint`, whose last checkpoint is the last state and can be resumed to the bit.

    Args:
        settings: Settings of :class:`ModelCheckpoint`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._restored: dict[str, Any] = {}
        self._ended_at = 0

    @property
    def state_key(self) -> str:
        """Name of the state in a checkpoint: that of Lightning's class, whose runs can be resumed as well."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *arguments: Any
    ) -> None:
        """Saves the last step of a run, unless a validation follows that does.

        Callbacks of this kind come last, so a limit of time (``trainer.max_time``) has been looked at before.
        """
        super().on_train_batch_end(trainer, pl_module, *arguments)
        loop = trainer.fit_loop
        ends = trainer.global_step >= trainer.max_steps > 0 or (trainer.should_stop and loop._can_stop_early)
        if ends and not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
            self.save_last_state(trainer)
            self._ended_at = trainer.global_step

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Saves the best state if this is it, and the last one in any case.

        A run that ends inside of an epoch is validated once more. Its last state is that before, which a longer run
        has as well; its best may be the one that was validated.
        """
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        if self._ended_at == trainer.global_step:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
            return
        # Lightning passes over a step that was saved, even if it was saved before it was validated.
        self._last_global_step_saved = 0
        super().on_validation_end(trainer, pl_module)
        self.save_last_state(trainer)

    def save_last_state(self, trainer: lightning.Trainer) -> None:
        """Writes ``last.ckpt``, unless it holds this very step already; all processes call it."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def save_state_before(self, trainer: lightning.Trainer) -> None:
        """Writes ``last.ckpt`` in the midst of a step that will not be taken, as the state before that step.

        A resumed run begins the step again with its first batch. All processes call this, and the run ends with it.
        A model that steps its own optimisers may have taken half of the step: nothing is written then.
        """
        if not trainer.lightning_module.automatic_optimization:
            return
        progress = trainer.fit_loop.epoch_loop.batch_progress
        accumulated = progress.current.completed % trainer.accumulate_grad_batches
        for count in (progress.total, progress.current):
            count.ready = count.started = count.processed = count.completed = count.completed - accumulated
        self.save_last_state(trainer)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds what Lightning leaves out: the last metrics, and whether a plateau schedule has yet to see them."""
        metrics = {name: value.clone() for name, value in trainer.callback_metrics.items()}
        checkpoint["metrics"] = metrics
        seen = trainer.fit_loop.epoch_loop.batch_progress.current.processed
        checkpoint["epoch_ends"] = seen >= trainer.num_training_batches

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remembers it until the training starts; checkpoints of earlier versions do not have it.

        A limit of time is one for each start of a run: a run that used it up would end at once for ever.
        """
        checkpoint["callbacks"].pop(Timer.__qualname__, None)
        self._restored = {name: checkpoint.get(name) for name in ("metrics", "epoch_ends")}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Gives a resumed run the metrics of its last validation, and a plateau schedule the step that is due.

        Lightning writes the checkpoint of an epoch before such a schedule sees the epoch's loss, and after a resume
        it never does.
        """
        super().on_train_start(trainer, pl_module)
        if not (metrics := self._restored.get("metrics")):
            return
        here = {name: value.to(pl_module.device) for name, value in metrics.items()}
        trainer._logger_connector._callback_metrics.update(here)
        if self._restored.pop("epoch_ends"):
            trainer.fit_loop.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)
            self._restored = {}

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lets a plateau schedule see an epoch that was resumed in its midst, which Lightning leaves out, too."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._restored:
            trainer.fit_loop._restarting, self._restored = False, {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the best score, also where the folder of the run has moved, if the best checkpoint is there."""
        best = Path(self.dirpath, f"{self.filename}{self.FILE_EXTENSION}")
        if not is_intact(best):
            return
        # Its own word counts: the best may have been found after the last state was saved.
        own = torch.load(best, map_location="cpu", weights_only=True)["callbacks"].get(
            self.state_key, state_dict
        )
        state_dict = {**state_dict, **{name: own[name] for name in SCORES}}
        here = {
            str(Path(self.dirpath, Path(path).name)): s for path, s in state_dict["best_k_models"].items()
        }
        moved = {"best_model_path": str(best), "best_k_models": here, "dirpath": self.dirpath}
        for name in ("kth_best_model_path", "last_model_path"):
            moved[name] = state_dict[name] and str(Path(self.dirpath, Path(state_dict[name]).name))
        super().load_state_dict({**state_dict, **moved})
