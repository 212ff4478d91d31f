"""Trains a method: from typed settings to a run folder with checkpoints.

run = start_run(TrainSettings.of({"model": {...}, "data": {...}, "trainer": {...}, "run_folder": "runs/first"}))
run.best  # runs/first/checkpoints/best.ckpt
"""

import time
from dataclasses import dataclass
from pathlib import Path

import lightning

from ddpm_lightning.callbacks.max_time import MaxTime, ended_by
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.models.method import FirstStage, Method
from ddpm_lightning.training import consistency, finetune, two_stage
from ddpm_lightning.training.card import make_card
from ddpm_lightning.training.module import LightningMethod
from ddpm_lightning.training.processes import is_first, is_lost_process
from ddpm_lightning.training.resume import intact_checkpoint, resumed_settings, use_normalisation
from ddpm_lightning.training.run_config import check_classes, check_places, check_weights
from ddpm_lightning.training.run_folder import begin, claim, hold_run
from ddpm_lightning.training.settings import Run, TrainSettings
from ddpm_lightning.training.std_calibration import calibrate_default_preset
from ddpm_lightning.training.trainer import lightning_method, make_trainer, trainer_arguments
from ddpm_lightning.utils import signals
from ddpm_lightning.utils.allowed_classes import OWN, Trust
from ddpm_lightning.utils.errors import UserError, is_out_of_memory, printable
from ddpm_lightning.utils.instantiate import build
from ddpm_lightning.utils.paths import command_of

__all__ = ["Run", "TrainSettings", "resume", "start_run", "train"]


def start_run(settings: TrainSettings, *, force: bool = False) -> Run:
    """Trains a method in a new run folder.

    Args:
        settings: Settings of the run; they may name any class that can be imported.
        force: Whether to take a folder in which a run on another machine seems to be active.

    Returns:
        The paths of its checkpoints, and how far it was trained.

    Raises:
        UserError: If the settings or the data cannot be used, or the folder belongs to another run.
    """
    with claim(Path(settings.run_folder), force=force):
        return train(settings, OWN)


def resume(
    folder: Path,
    *,
    max_steps: int | None = None,
    changes: dict[str, object] | None = None,
    trust: tuple[str, ...] = (),
    force: bool = False,
) -> Run:
    """Resumes a run with its own settings, from its last checkpoint.

    Args:
        folder: Folder of the run; it and its data may have moved.
        max_steps: Steps of the whole run, to train it longer.
        changes: New values by dotted name: ``trainer.max_time``, ``trainer.devices``, ``trainer.num_nodes`` and
            ``data.root`` may change.
        trust: Top-level packages whose classes the folder may name.
        force: Whether to take a folder in which a run on another machine seems to be active.

    Returns:
        The paths of its checkpoints, and how far it was trained.

    Raises:
        UserError: If there is nothing to resume, or the folder, the data or the changes do not fit.
    """
    given = {**({} if max_steps is None else {"trainer.max_steps": max_steps}), **(changes or {})}
    with hold_run(folder, force):
        settings = resumed_settings(folder, given)
        check_places(settings)
        # The user who resumes the run decides which packages to trust, not the run folder.
        return train(settings.model_copy(update={"trust": list(trust)}), trust)


@dataclass
class _Prepared:
    """A run before its first step.

    Attributes:
        settings: Settings of the run.
        trust: Whose classes they may name.
        checkpoint: Checkpoint from which the run is resumed, if it is.
        data: The data, its normalisation fitted.
        module: The method with its card.
    """

    settings: TrainSettings
    trust: Trust
    checkpoint: Path | None
    data: PairDataModule
    module: LightningMethod

    @property
    def method(self) -> Method:
        """The method."""
        return self.module.method

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return Path(self.settings.run_folder)


def train(settings: TrainSettings, trust: Trust, data: PairDataModule | None = None) -> Run:
    """Builds data, method and trainer, and trains, in a folder that this process holds.

    Args:
        settings: Settings of the run.
        trust: Whose classes the settings may name.
        data: The data, if this is the first stage of a run, which has built them.

    Returns:
        The paths of its checkpoints, and how far it was trained.

    Raises:
        UserError: If the data or the settings cannot be used; a new folder is then left empty.
    """
    lightning.seed_everything(settings.seed, workers=True, verbose=False)
    run = _prepared(settings, trust, data)
    stage = run.method.first_stage
    first = two_stage.first_settings(settings, stage) if stage else None
    _load_trained_weights(run, stage)
    trainer, timer = _trainer(run, first)
    _warn_of_memory(trainer, run)
    if is_first():  # after all checks: nothing is written for a run that is refused
        begin(run.folder, settings, run.module.card["provenance"], anew=not settings.resume)
    if stage and first is not None:
        if run.checkpoint is None:
            _train_first_stage(run, first, stage, timer)
        _record_first_stage(run)
    for logger in trainer.loggers:
        logger.log_hyperparams(settings.model_dump())
    began = time.monotonic()
    _fit(trainer, run)
    seconds = time.monotonic() - began
    if (ended := ended_by(trainer)) and is_first():
        _explain_end(trainer, ended, run.folder, is_first_stage=data is not None)
    best, last = (run.folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    reached = settings.trainer["max_steps"] if trainer.global_step >= trainer.max_steps else None
    finished = Run(settings, best if best.is_file() else last, last, run.data.paired("val"), reached)
    _calibrate(trainer, run, finished, seconds)
    return finished


def _prepared(settings: TrainSettings, trust: Trust, built: PairDataModule | None) -> _Prepared:
    """Builds data and method, checks them against each other, and fits the normalisation.

    Checks that need no data come first, because preparing the data may take long.
    """
    check_classes(settings, trust)
    folder = Path(settings.run_folder)
    checkpoint = intact_checkpoint(folder, verbose=is_first()) if settings.resume else None
    if checkpoint is not None:
        check_weights(settings.model, checkpoint, trust)
    data: PairDataModule = built or build(settings.data, ("data",), trust)
    module = lightning_method(settings.model, trust)
    consistency.check(settings, data.crop, module.method.size_divisor)
    data.setup("fit")
    for split in ("train", "val") if is_first() else ():
        for text in data.notes(split):
            print(printable(f"{split}: {text}"))
    if checkpoint is not None:
        use_normalisation(checkpoint, folder, data, settings.data, verbose=is_first())
    consistency.check_partners(settings, data, module.method)
    module.method.bounds = data.normalisation.target_bounds
    module.card = make_card(settings, data)
    return _Prepared(settings, trust, checkpoint, data, module)


def _load_trained_weights(run: _Prepared, stage: FirstStage | None) -> None:
    """Gives a new run the weights of the trained models that its settings name."""
    if run.checkpoint is not None:
        return
    settings = run.settings
    if settings.finetune:
        run.module.card["finetune"] = finetune.take_weights(run.method, settings.finetune, settings.trust)
    if stage and stage.checkpoint is not None:
        two_stage.take_first(run.method, stage, stage.checkpoint, run.data, settings.trust)


def _trainer(run: _Prepared, first: TrainSettings | None) -> tuple[lightning.Trainer, MaxTime | None]:
    """Returns the trainer, and its time limit if it has one; notes in the card how many steps it will take."""
    arguments = trainer_arguments(run.settings.trainer, run.module, run.trust)
    if first is not None:
        arguments["max_steps"] -= first.trainer["max_steps"]
    run.module.card["training"] = {"steps": arguments["max_steps"]}
    return make_trainer(run.settings, arguments, run.method.averaged, run.trust)


def _warn_of_memory(trainer: lightning.Trainer, run: _Prepared) -> None:
    if is_first() and trainer.strategy.root_device.type == "cpu":
        pixels = run.settings.data["batch_size"] * run.data.crop**2
        if text := consistency.memory_warning(run.method, pixels):
            print(text)


def _train_first_stage(
    run: _Prepared, first: TrainSettings, stage: FirstStage, timer: MaxTime | None
) -> None:
    """Trains the method that this one builds on, and takes its weights."""
    if is_first():
        steps = first.trainer["max_steps"], run.module.card["training"]["steps"]
        print("two stages: the regressor, {} steps, then the second stage, {} steps".format(*steps))
    began = time.monotonic()
    two_stage.take_first(run.method, stage, train(first, run.trust, run.data).best, run.data, run.trust)
    if timer:
        timer.spend(time.monotonic() - began, stage.share)


def _record_first_stage(run: _Prepared) -> None:
    """Notes in the card how far the first stage was trained."""
    run.module.card["training"]["regressor"] = record = two_stage.progress(run.folder, run.checkpoint)
    if run.checkpoint is not None and record.get("step", 0) < record.get("steps", 0) and is_first():
        at = "step {step} of {steps}".format(**record)
        print(f"the regressor is kept as it was ({at}): only the second stage is trained further")


def _fit(trainer: lightning.Trainer, run: _Prepared) -> None:
    """Trains, from the state of a checkpoint if there is one.

    Raises:
        UserError: If that state does not fit this run, or another process of the run has ended.
    """
    try:
        # Lightning answers Ctrl-C before the first step with an exit code of its own.
        with signals.raised("SIGINT"):
            trainer.fit(run.module, datamodule=run.data, ckpt_path=run.checkpoint, weights_only=True)
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
        if is_lost_process(error):
            raise UserError(
                run.folder,
                "has lost one of its processes",
                remedy=f"resume it with {command_of('train', resume=run.folder)}; if memory ran out, with a smaller"
                " data.batch_size in a new run",
            ) from error
        # Lightning forgets the checkpoint as soon as all of it has been loaded.
        restoring = getattr(trainer._checkpoint_connector, "_loaded_checkpoint", None)
        if not restoring or is_out_of_memory(error):
            raise
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UserError(
            run.checkpoint,
            f"contains no state from which this run can be resumed: {found}",
            remedy="restore the file from a backup, or start the run again",
        ) from error


def _calibrate(trainer: lightning.Trainer, run: _Prepared, finished: Run, seconds: float) -> None:
    """Calibrates the standard deviation of the best checkpoint in the first process; the others wait for it."""
    try:
        if trainer.is_global_zero and finished.best.is_file():
            device = trainer.strategy.root_device
            calibrate_default_preset(finished.best, run.method, run.data, device, seconds, run.trust)
    finally:
        trainer.strategy.barrier()


def _explain_end(trainer: lightning.Trainer, ended: str, folder: Path, is_first_stage: bool) -> None:
    """Prints what ended a training before its last step, and how to resume it."""
    at = f"at step {trainer.global_step} of {trainer.max_steps}"
    if is_first_stage:
        print(f"the regressor was stopped {at} by trainer.max_time, and the second stage starts from it")
    else:
        print(f"stopped {ended} {at}; resume with: {command_of('train', resume=folder)}")
        print(
            "the same limit holds then; trainer.max_time=DD:HH:MM:SS sets another, trainer.max_time=null none"
        )
    if trainer.global_step < trainer.max_steps // 2:
        print(
            "warning: this is less than half of the steps, at a learning rate that is still high; the model is far"
        )
        print("  from trained, and so is its uncertainty map: set trainer.max_steps to what the time allows")
