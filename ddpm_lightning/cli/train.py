"""Trains a model.

Examples:
  ddpm-lightning train                                       a small model on simulated microtubules
  ddpm-lightning train model=pmrf_small data=folder data.root=DIR trainer=cpu
                                                             on your own DIR/{train,val,test}/{low,high}/*.tif
  ddpm-lightning train experiment=paper data=microtubules trainer=gpu
  ddpm-lightning train trainer.max_steps=500 seed=1 run_folder=runs/try
  ddpm-lightning train resume=runs/try                       resumes that run
  ddpm-lightning train resume=NEW/try data.root=DIR          the same, if its folder and its data have moved
  ddpm-lightning train resume=runs/try trainer.devices=2     the same, with another number of processes
  ddpm-lightning train finetune=default data=folder data.root=DIR trainer=cpu
                                                             starts from a trained model, here the shipped one
  ddpm-lightning train --multirun seed=0,1,2                 a run for each value
  ddpm-lightning train sweep=optuna experiment=demo trainer.max_steps=60 data.counts.train=64
                                                             searches for the best learning rate, in minutes

Leaves in the run folder: config.yaml, checkpoints/{last,best}.ckpt, metrics.csv, figures/, status.json.
"""

from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.arguments import escaped
from ddpm_lightning.training import finetune
from ddpm_lightning.training.fit import Run, TrainSettings, resume, start_run
from ddpm_lightning.training.processes import is_first
from ddpm_lightning.training.run_folder import choose_folder
from ddpm_lightning.utils.errors import printable
from ddpm_lightning.utils.paths import command_of, expanded
from ddpm_lightning.utils.settings import Settings, Text


class StartSettings(Settings):
    """How a run starts: checked before a checkpoint or a folder is opened.

    Attributes:
        run_folder: Folder of a new run; by default one is named after date, model and data.
        resume: Folder of the run that is resumed.
        finetune: Checkpoint, or name of a shipped model, that a new run starts from.
        trust: Packages whose classes checkpoints and the resumed run may use.
        force: Whether to take over a locked folder whose owner cannot be checked, such as a job on another machine.
    """

    run_folder: Text | None
    resume: Text | None
    finetune: Text | None
    trust: list[str]
    force: bool


def spelled_out(arguments: list[str]) -> list[str]:
    """Allows some keys with a plus or without: ``trainer.max_time`` anywhere, others beside ``resume=``."""
    resumes = any(argument.startswith("resume=") for argument in arguments)
    free = {"trainer.max_time", *(["data.root", "trainer.num_nodes"] if resumes else [])}
    bare = [(one, one.lstrip("+")) for one in arguments]
    return [f"++{key}" if "=" in key and key.partition("=")[0] in free else one for one, key in bare]


def run(config: DictConfig) -> int:
    """Trains as the configuration says, and prints where the result is."""
    hydra, start = HydraConfig.get(), compose.some_settings(config, StartSettings)
    if start.resume is not None:
        changes = _given(config, hydra.overrides.task)
        finished = resume(
            expanded(start.resume), changes=changes, trust=tuple(start.trust), force=start.force
        )
    else:
        choices = {kind: hydra.runtime.choices.get(kind) for kind in ("model", "data")}
        finished = start_run(new_settings(config, choices, hydra.overrides.task), force=start.force)
    if is_first():
        if start.resume is not None and finished.reached is not None:
            print(f"the run is at step {finished.reached}; trainer.max_steps=N trains it longer")
        print(printable(f"\nrun folder      {finished.folder}\nbest checkpoint {finished.best}"))
        print(f"next            {next_command(finished)}")
    return 0


def new_settings(
    config: DictConfig, names: dict[str, str | None], overrides: list[str] | None = None
) -> TrainSettings:
    """Returns the settings of a new run, its folder chosen.

    Args:
        config: Configuration of the verb ``train``.
        names: Names of model and data, for the folder and the card.
        overrides: What was given on the command line.
    """
    overrides = [override.lstrip("+~") for override in overrides or ()]
    start, trained = compose.some_settings(config, StartSettings), None
    if start.finetune is not None:
        trained = finetune.loaded(start.finetune, start.trust)
        same = config.model["_target_"] == trained.card["model"]["_target_"]
        if same or not any(one.startswith("model=") for one in overrides):
            names = {**names, "model": trained.card["names"]["model"]}
    folder = choose_folder(start.run_folder, names)
    config.run_folder = escaped(str(folder))
    settings = {
        key: value for key, value in compose.plain(config).items() if key in TrainSettings.model_fields
    }
    if trained is not None:
        changes = OmegaConf.from_dotlist([one for one in overrides if one.startswith("model.")])
        chosen = [one.partition("=")[2] for one in overrides if one.startswith("model=")]
        normalised = any(one.startswith(("data.normalisation", "data/normalisation")) for one in overrides)
        below: Any = OmegaConf.to_container(changes)
        settings = finetune.inherit(
            settings, trained, below.get("model", {}), (chosen or [None])[-1], normalised
        )
    return TrainSettings.of({**settings, "names": names})


def next_command(finished: Run) -> str:
    """Returns the command that a user would give after a training."""
    if not finished.paired:
        return command_of("restore", checkpoint=finished.best, input="FOLDER", output="restored")
    if finished.settings.evaluation:
        return command_of("evaluate", evaluation=finished.settings.evaluation, checkpoint=finished.best)
    return command_of("evaluate", checkpoint=finished.best) + " protocol=affine" * finished.own_scales


def _given(config: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """Returns the values that were given on the command line for a run that is resumed, by dotted name."""
    names = [override.lstrip("+").partition("=")[0] for override in overrides]
    found = {
        name: OmegaConf.select(config, name) for name in names if name not in ("force", "resume", "trust")
    }
    return {
        name: OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        for name, value in found.items()
    }
