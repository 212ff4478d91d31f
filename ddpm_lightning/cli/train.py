"""Trains a model.

Examples:
  ddpm-lightning train                                       a small model on simulated microtubules
  ddpm-lightning train model=ddpm_small data=folder data.root=DIR trainer=cpu
                                                             on your own DIR/{train,val,test}/{low,high}/*.tif
  ddpm-lightning train experiment=paper data=microtubules trainer=gpu
  ddpm-lightning train trainer.max_steps=500 seed=1 run_folder=runs/try
  ddpm-lightning train resume=runs/try                       goes on where that run stopped
  ddpm-lightning train resume=NEW/try data.root=DIR          the same, if its folder and its data have moved
  ddpm-lightning train finetune=default data=folder data.root=DIR trainer=cpu
                                                             a trained model, here the shipped one, learns your images
  ddpm-lightning train --multirun seed=0,1,2                 a run for each value
  ddpm-lightning train sweep=optuna experiment=demo trainer.max_steps=60 data.counts.train=64
                                                             looks for the best learning rate, in minutes

Leaves in the run folder: config.yaml, checkpoints/{last,best}.ckpt, metrics.csv, figures/, status.json.
"""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

import ddpm_lightning
from ddpm_lightning.callbacks.max_time import MaxTime, ended_by
from ddpm_lightning.checkpoints.checkpoint_file import AtomicCheckpointIO
from ddpm_lightning.checkpoints.load import CARD_FORMAT
from ddpm_lightning.cli import compose, finetune
from ddpm_lightning.cli.arguments import escaped
from ddpm_lightning.cli.resume import checkpoint_of, stored, take_data
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.evaluation.distribution_shift import InputReference
from ddpm_lightning.inference.bfloat16 import is_native
from ddpm_lightning.models.build import TRAINING, build_method
from ddpm_lightning.training import consistency, two_stage
from ddpm_lightning.training.config_file import write_config
from ddpm_lightning.training.module import LightningMethod
from ddpm_lightning.training.provenance import provenance
from ddpm_lightning.training.run_config import check_classes, check_model, check_places
from ddpm_lightning.training.run_folder import check_free, clear
from ddpm_lightning.utils import signals
from ddpm_lightning.utils.atomic import remove_partials, write_json
from ddpm_lightning.utils.errors import UserError, is_out_of_memory, printable
from ddpm_lightning.utils.instantiate import build
from ddpm_lightning.utils.lock import hold
from ddpm_lightning.utils.paths import command_of, expanded
from ddpm_lightning.utils.registry import OWN, Trust, trusted_packages

#: Tells the processes of a distributed run the folder that the first of them chose.
FOLDER_VARIABLE = "DDPM_LIGHTNING_RUN_FOLDER"


@dataclass
class Run:
    """A finished training.

    Attributes:
        folder: Its folder.
        best: Checkpoint with the best validation loss.
        last: Checkpoint of the last step.
        paired: Whether its data have clean images.
        reached: Its ``trainer.max_steps`` if it took all of these steps, else ``None``.
    """

    folder: Path
    best: Path
    last: Path
    paired: bool
    reached: int | None = None


def spelled_out(arguments: list[str]) -> list[str]:
    """Lets ``data.root=`` stand beside ``resume=``, and ``trainer.max_time=`` anywhere, with a plus or without."""
    resumes = any(argument.startswith("resume=") for argument in arguments)
    free = {"trainer.max_time", *(["data.root"] if resumes else [])}
    bare = [(one, one.lstrip("+")) for one in arguments]
    return [f"++{key}" if "=" in key and key.partition("=")[0] in free else one for one, key in bare]


def run(config: DictConfig) -> int:
    """Trains as the configuration says, and says where the result is."""
    with _settings(config) as settings:
        # A new run is configured by the user; a resumed one by the files of its folder.
        finished = train(settings, OWN if config.resume is None else tuple(settings["trust"]))
    if first_process():
        if config.resume is not None and finished.reached is not None:
            print(f"the run stands at step {finished.reached}; trainer.max_steps=N trains it longer")
        print(printable(f"\nrun folder      {finished.folder}\nbest checkpoint {finished.best}"))
        print(f"next            {_next(finished, settings['data']['normalisation'])}")
    return 0


@contextmanager
def _settings(config: DictConfig) -> Iterator[dict[str, Any]]:
    """Yields the configuration of a new or resumed run, whose folder is locked for the duration of the block."""
    hydra = HydraConfig.get()
    if config.resume is not None:
        folder = expanded(str(config.resume))
        given = [override.lstrip("+").partition("=")[0] for override in hydra.overrides.task]
        found = {key: OmegaConf.select(config, key) for key in given if key != "force"}
        values = {
            key: OmegaConf.to_object(one) if OmegaConf.is_config(one) else one for key, one in found.items()
        }
        with held(folder, config.force):
            settings = stored(folder, values)
            check_places(settings, Path(settings["run_folder"]))
            # The user who resumes the run decides whom to trust, not the run folder.
            yield {**settings, "trust": list(trusted_packages(config.trust))}
        return
    names = {kind: hydra.runtime.choices.get(kind) for kind in ("model", "data")}
    if config.finetune is None:
        with prepare(config, names) as settings:
            yield settings
        return
    trained = finetune.loaded(config.finetune, trusted_packages(config.trust))
    with prepare(config, {**names, "model": trained.card["names"]["model"]}) as settings:
        yield finetune.inherit(settings, trained, hydra.overrides.task)


def held(folder: Path, force: bool) -> AbstractContextManager[Any]:
    """Locks the folder of a run for all of its processes."""
    return hold(folder, force) if first_process() else nullcontext()


def _next(finished: Run, normalisation: dict[str, Any]) -> str:
    """Returns the command that a user would give now."""
    if not finished.paired:
        return command_of("restore", checkpoint=finished.best, input="FOLDER", output="restored")
    # Where each image has a scale of its own, a restored image has the brightness of its input, not of its target.
    scaled = normalisation.get("matched") or (normalisation["target"] or {}).get("per_image")
    return command_of("evaluate", checkpoint=finished.best) + " protocol=affine" * bool(scaled)


@contextmanager
def prepare(
    config: DictConfig, names: dict[str, str | None], overwrite: bool = False
) -> Iterator[dict[str, Any]]:
    """Yields the configuration of a new run, with its folder fixed and locked for the duration of the block.

    Args:
        config: Configuration of the verb ``train``.
        names: Names of model and data, for the folder and the card.
        overwrite: Whether an earlier run may lie in the folder; it goes when the new one begins.

    Raises:
        UserError: If the folder is another's.
    """
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    default = f"runs/{stamp}_{names['model']}_{names['data']}"
    folder = expanded(os.environ.get(FOLDER_VARIABLE) or str(config.run_folder or default))
    if started_elsewhere() and config.run_folder is None:
        raise UserError(
            "run_folder",
            "is not given, and each process would make up its own",
            remedy="add run_folder=DIR, on storage that all machines share",
        )
    with held(folder, config.force):
        if first_process():
            check_free(folder, overwrite, config.force)
        os.environ[FOLDER_VARIABLE] = str(folder)
        config.run_folder = escaped(str(folder))
        settings = compose.plain(config)
        settings.pop("force")  # it applies to this start only
        yield {**settings, "names": names}


def first_process() -> bool:
    """Says whether this is the process of a distributed run that speaks and writes."""
    if started_elsewhere():
        return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    return os.environ.get("LOCAL_RANK", "0") == "0"


def started_elsewhere() -> bool:
    """Says whether torchrun or SLURM started the processes, each of them by itself."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def train(config: dict[str, Any], trust: Trust = (), data: PairDataModule | None = None) -> Run:
    """Builds data, model and trainer, and fits.

    Args:
        config: Configuration of the run, its folder fixed.
        trust: Whose classes it may name: ``OWN`` if the user wrote it, else packages that the user trusts.
            Checkpoints that it refers to may name those of the packages in ``config["trust"]`` only.
        data: The data, if another stage of the run has built it.

    Raises:
        UserError: If the data or the configuration cannot be used; the run folder then holds ``status.json`` at most.
    """
    folder = Path(config["run_folder"])
    is_first = (
        data is not None
    )  # the first of two two_stage, which is no run to be resumed: the second follows
    lightning.seed_everything(config["seed"], workers=True, verbose=False)
    packages = config.get("trust", ())
    check_classes(config, trust)
    resume = checkpoint_of(folder, speaks=first_process()) if config["resume"] else None
    if resume is not None:
        check_model(config["model"], resume, trust)
    data = data or build(config["data"], ("data",), trust)
    module = lightning_method(config["model"], trust)
    method = module.method
    consistency.check(config, data.crop, method.size_divisor)
    data.setup("fit")
    if first_process():
        for split in ("train", "val"):
            for text in data.notes(split):
                print(printable(f"{split}: {text}"))
    if resume is not None:
        take_data(resume, folder, data, config["data"], speaks=first_process())
    consistency.check_partners(config, data, method)
    method.bounds = data.normalisation.target_bounds
    module.card = card(config, data)
    best, last = (folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    stage = method.first_stage
    first = two_stage.first_config(config, stage) if stage else None
    if config.get("finetune") and resume is None:
        module.card["finetune"] = finetune.take_weights(method, config["finetune"], packages)
    if stage and stage.checkpoint is not None and resume is None:
        two_stage.take_first(method, stage, stage.checkpoint, data, packages)
    settings = trainer_settings(config["trainer"], module, trust)
    if first is not None:
        settings["max_steps"] -= first["trainer"]["max_steps"]
    module.card["training"] = {"steps": settings["max_steps"]}
    trainer = _trainer(config, settings, module, trust)
    if first_process() and trainer.strategy.root_device.type == "cpu":
        pixels = config["data"]["batch_size"] * data.crop**2
        if text := consistency.memory_warning(method, pixels):
            print(text)
    # All that can be refused was refused by now: the folder is made for a run that begins.
    if first_process():
        if not config["resume"]:
            clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
        remove_partials([folder, folder / "checkpoints", folder / "figures"])  # left by killed processes
        # First, since it tells the folder of a run from others.
        process = {"process": os.getpid(), "machine": platform.node()}
        write_json(folder / "status.json", {"state": "starting", **process})
        write_config(folder / "config.yaml", config)
        write_json(folder / "provenance.json", module.card["provenance"])
    if stage and first is not None and resume is None:
        if first_process():
            steps = first["trainer"]["max_steps"], settings["max_steps"]
            print("two stages: the regressor, {} steps, then the flow from its mean, {} steps".format(*steps))
        began = time.monotonic()
        two_stage.take_first(method, stage, train(first, trust, data).best, data, trust)
        for timer in (one for one in trainer.callbacks if isinstance(one, MaxTime)):
            timer.spend(time.monotonic() - began, stage.share)
    if first is not None:
        module.card["training"]["regressor"] = regressor = two_stage.progress(folder, resume)
        if resume is not None and regressor.get("step", 0) < regressor.get("steps", 0) and first_process():
            at = "step {step} of {steps}".format(**regressor)
            print(f"the regressor is kept as it was ({at}): only the flow is trained further")
    for logger in trainer.loggers:
        logger.log_hyperparams(config)
    _fit(trainer, module, data, resume)
    if (ended := ended_by(trainer)) and first_process():
        at = f"at step {trainer.global_step} of {trainer.max_steps}"
        if is_first:
            print(f"the regressor was stopped {at} by trainer.max_time, and the flow continues from it")
        else:
            print(f"stopped {ended} {at}; resume with: {command_of('train', resume=folder)}")
            print(
                "the same limit holds then; trainer.max_time=DD:HH:MM:SS sets another, trainer.max_time=null none"
            )
    reached = config["trainer"]["max_steps"] if trainer.global_step >= trainer.max_steps else None
    return Run(folder, best if best.is_file() else last, last, data.paired("val"), reached)


def _fit(
    trainer: lightning.Trainer, module: LightningMethod, data: PairDataModule, resume: Path | None
) -> None:
    """Trains, from the state of a checkpoint if there is one.

    Raises:
        UserError: If that state does not fit this run.
    """
    try:
        # Lightning answers Ctrl-C before the first step with an exit code of its own.
        with signals.raised("SIGINT"):
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
        # Lightning forgets the checkpoint as soon as all of it has been loaded.
        restoring = getattr(trainer._checkpoint_connector, "_loaded_checkpoint", None)
        if not restoring or is_out_of_memory(error):
            raise
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UserError(
            resume,
            f"contains no state from which this run can be resumed: {found}",
            remedy="restore the file from a backup, or start the run again",
        ) from error


def _trainer(
    config: dict[str, Any], settings: dict[str, Any], module: LightningMethod, trust: Trust
) -> lightning.Trainer:
    """Builds Lightning's Trainer; what it complains of is a setting under ``trainer``."""
    settings = dict(settings)
    watched = {
        name: node for name, node in config["callbacks"].items() if name != "ema" or module.method.averaged
    }
    own = {
        "max_epochs": -1,
        "default_root_dir": config["run_folder"],
        "logger": [build(node, ("logger",), trust) for node in config["logger"].values() if node],
        "callbacks": [build(node, ("callback",), trust) for node in watched.values() if node],
        "plugins": [AtomicCheckpointIO()],
    }
    if taken := sorted(own.keys() & settings.keys()):
        raise UserError(
            f"trainer.{taken[0]}", "is set by this program", remedy=f"leave out trainer.{taken[0]}"
        )
    try:
        if (duration := settings.pop("max_time", None)) is not None:
            own["callbacks"].append(MaxTime(duration))
        return lightning.Trainer(**settings, **own)
    except (TypeError, ValueError, AttributeError, MisconfigurationException) as error:
        remedy = "choose a trainer that this machine has, such as trainer=cpu, or mend the setting"
        raise UserError("trainer", " ".join(str(error).split()), remedy=remedy) from error


def lightning_method(model: dict[str, Any], trust: Trust = ()) -> LightningMethod:
    """Builds a method and what trains it from a description."""
    training = {key: model[key] for key in TRAINING if key in model}
    built = build(training, ("optimizer", "lr_schedule"), trust)
    # Convolutions run faster with channels last: 1.5 times on CPUs.
    return LightningMethod(build_method(model, trust), **built).to(memory_format=torch.channels_last)


def trainer_settings(trainer: dict[str, Any], module: LightningMethod, trust: Trust = ()) -> dict[str, Any]:
    """Returns the arguments of Lightning's Trainer that suit a model."""
    settings = {**build(trainer, ("strategy", "profiler"), trust), "precision": precision(trainer)}
    if not module.automatic_optimization:
        # It steps its own optimisers: Lightning can neither clip for it, nor know which parameters a step leaves out.
        settings["gradient_clip_val"] = None
        if settings.get("accumulate_grad_batches", 1) != 1:
            raise UserError(
                "trainer.accumulate_grad_batches",
                f"is {settings['accumulate_grad_batches']}, but this model steps its own optimisers",
                allowed="1",
                remedy="raise data.batch_size instead",
            )
        if settings.get("strategy") == "ddp" or isinstance(settings.get("strategy"), DDPStrategy):
            settings["strategy"] = "ddp_find_unused_parameters_true"
    return settings


def precision(trainer: dict[str, Any]) -> str:
    """Returns the trainer's precision; ``auto`` is bfloat16 where the processor computes in it, else float32."""
    on_gpu = trainer["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    native = is_native(torch.device("cuda" if on_gpu else "cpu"))
    if trainer["precision"] == "auto":
        return "bf16-mixed" if native else "32-true"
    if str(trainer["precision"]).startswith("bf16") and not native and first_process():
        print(
            f"trainer.precision={trainer['precision']}: this processor does not support bfloat16, and emulating it is"
            " about ten times slower than float32; use trainer.precision=auto"
        )
    return trainer["precision"]


def card(config: dict[str, Any], data: PairDataModule) -> dict[str, Any]:
    """Returns what a checkpoint says of itself, in plain containers."""
    return {
        "format": CARD_FORMAT,
        "names": config["names"],
        "model": config["model"],
        "data": config["data"],
        "data_name": data.name,
        "normalisation": {"config": config["data"]["normalisation"], "state": data.normalisation.state()},
        "inputs": InputReference.of_split(data).state(),
        "pixel_size_um": data.pairs("train")[0].pixel_size,
        "config": config,
        "provenance": provenance(config),
        "versions": {"ddpm_lightning": ddpm_lightning.__version__, "torch": str(torch.__version__)}
        | {name: version(name) for name in ("lightning", "torchmetrics", "numpy")},
    }
