"""Trains a model.

Examples:
  ddpm-lightning train                                       a small model on simulated microtubules
  ddpm-lightning train model=ddpm_small data=folder data.root=DIR trainer=cpu
                                                             on your own DIR/{train,val,test}/{low,high}/*.tif
  ddpm-lightning train experiment=paper data=microtubules trainer=gpu
  ddpm-lightning train trainer.max_steps=500 seed=1 run_folder=runs/try
  ddpm-lightning train resume=runs/try                       goes on where that run stopped
  ddpm-lightning train --multirun seed=0,1,2                 a run for each value

Leaves in the run folder: config.yaml, checkpoints/{last,best}.ckpt, metrics.csv, figures/, status.json.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import ddpm_lightning
from ddpm_lightning.build import build
from ddpm_lightning.callbacks.status import write_json
from ddpm_lightning.cli import compose
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.errors import UserError
from ddpm_lightning.inference.checkpoint import CARD_FORMAT
from ddpm_lightning.models.learner import Learner

#: Tells the processes of a distributed run the folder that the first of them chose.
FOLDER_VARIABLE = "DDPM_LIGHTNING_RUN_FOLDER"
#: What a run leaves in its folder.
TRACES = ("checkpoints", "figures", "config.yaml", "metrics.csv", "status.json")


@dataclass
class Run:
    """A finished training.

    Attributes:
        folder: Its folder.
        best: Checkpoint with the best validation loss.
        last: Checkpoint of the last step.
    """

    folder: Path
    best: Path
    last: Path


def run(config: DictConfig) -> int:
    """Trains as the configuration says, and says where the result is."""
    hydra = HydraConfig.get()
    if config.resume is not None:
        settings = stored(Path(config.resume).expanduser(), hydra.overrides.task)
    else:
        settings = prepare(config, {kind: hydra.runtime.choices.get(kind) for kind in ("model", "data")})
    finished = train(settings)
    if first_process():
        print(f"\nrun folder      {finished.folder}\nbest checkpoint {finished.best}")
        print(f"next            ddpm-lightning evaluate checkpoint={finished.best}")
    return 0


def prepare(config: DictConfig, names: dict[str, str | None], overwrite: bool = False) -> dict[str, Any]:
    """Returns the configuration of a new run with its folder fixed.

    Args:
        config: Configuration of the verb ``train``.
        names: Names of model and data, for the folder and the card.
        overwrite: Whether a run that is in the folder is removed.

    Raises:
        UserError: If the folder belongs to another run.
    """
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    default = f"runs/{stamp}_{names['model']}_{names['data']}"
    folder = Path(os.environ.get(FOLDER_VARIABLE) or config.run_folder or default).expanduser()
    found = [trace for trace in TRACES if (folder / trace).exists()]
    if found and first_process():
        if not overwrite:
            raise UserError(
                f"run_folder={folder}",
                f"holds a run already ({', '.join(found)})",
                remedy=f"go on with resume={folder}, or choose another folder",
            )
        _clear(folder, found)
    os.environ[FOLDER_VARIABLE] = str(folder)
    config.run_folder = str(folder)
    return {**compose.plain(config), "names": names}


def stored(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the configuration of a run that shall go on.

    Args:
        folder: Folder of the run.
        overrides: What was given on the command line: ``resume``, and ``trainer.max_steps`` for a longer run.

    Raises:
        UserError: If there is nothing to resume, or anything else was to be changed.
    """
    path = folder / "config.yaml"
    if not path.is_file() or not (folder / "checkpoints" / "last.ckpt").is_file():
        raise UserError(
            f"resume={folder}", "holds no config.yaml with checkpoints/last.ckpt: there is nothing to resume"
        )
    settings = compose.plain(OmegaConf.load(path))
    for key, _, value in (override.lstrip("+").partition("=") for override in overrides):
        if key == "trainer.max_steps":
            settings["trainer"]["max_steps"] = int(value)
        elif key != "resume":
            raise UserError(
                key,
                "cannot be changed in a run that is resumed: its own configuration is used",
                allowed="resume=RUN_FOLDER, trainer.max_steps=N",
                remedy="start a new run for other settings",
            )
    return {**settings, "run_folder": str(folder), "resume": str(folder)}


def _clear(folder: Path, traces: list[str]) -> None:
    for trace in traces:
        path = folder / trace
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def first_process() -> bool:
    """Says whether this is the process of a distributed run that speaks and writes."""
    return os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0")) == "0"


def train(config: dict[str, Any]) -> Run:
    """Builds data, model and trainer, and fits.

    Raises:
        UserError: If the data or the configuration cannot be used; the run folder then holds ``status.json`` at most.
    """
    folder = Path(config["run_folder"])
    lightning.seed_everything(config["seed"], workers=True, verbose=False)
    data: PairDataModule = build(config["data"])
    # Convolutions run faster with channels last: 1.5 times on CPUs.
    model: Learner = build(config["model"]).to(memory_format=torch.channels_last)
    _check_sizes(data, model)
    data.setup("fit")
    model.bounds = data.normalisation.target_bounds
    model.card = card(config, data)
    if first_process():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)), encoding="utf-8")
        write_json(folder / "status.json", {"state": "starting", "process": os.getpid()})
    trainer = lightning.Trainer(
        **{**build(config["trainer"]), "precision": precision(config["trainer"])},
        max_epochs=-1,
        default_root_dir=str(folder),
        logger=[build(node) for node in config["logger"].values() if node],
        callbacks=[build(node) for node in config["callbacks"].values() if node],
    )
    checkpoints = folder / "checkpoints"
    resume = checkpoints / "last.ckpt" if config["resume"] else None
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    best, last = checkpoints / "best.ckpt", checkpoints / "last.ckpt"
    return Run(folder, best if best.is_file() else last, last)


def precision(trainer: dict[str, Any]) -> str:
    """Returns the trainer's precision; ``auto`` is bfloat16 where the processor computes in it, else float32."""
    if trainer["precision"] != "auto":
        return trainer["precision"]
    if trainer["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Private, hence the default: without an answer, float32 is never wrong.
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return "bf16-mixed" if native else "32-true"


def _check_sizes(data: PairDataModule, model: Learner) -> None:
    if data.crop % model.multiple:
        near = max(data.crop // model.multiple, 1) * model.multiple
        raise UserError(
            "data.crop",
            f"is {data.crop}; the levels of this network need multiples of {model.multiple}",
            remedy=f"set data.crop={near}",
        )


def card(config: dict[str, Any], data: PairDataModule) -> dict[str, Any]:
    """Returns what a checkpoint says of itself, in plain containers."""
    return {
        "format": CARD_FORMAT,
        "names": config["names"],
        "model": config["model"],
        "data": config["data"],
        "data_name": data.name,
        "normalisation": {"config": config["data"]["normalisation"], "state": data.normalisation.state()},
        "config": config,
        "versions": {"ddpm_lightning": ddpm_lightning.__version__, "torch": str(torch.__version__)}
        | {name: version(name) for name in ("lightning", "torchmetrics", "numpy")},
    }
