"""Training from Python: methods and data sets by name, with changed settings as arguments.

>>> method = method("pmrf_small", optimizer={"lr": 0.01})           # doctest: +SKIP
>>> data = dataset("folder", root="my_data", crop=64)               # doctest: +SKIP
>>> run = fit(method, data, max_steps=2000)                         # doctest: +SKIP
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.models.build import build_method, check_method
from ddpm_lightning.models.method import Method
from ddpm_lightning.training import finetune
from ddpm_lightning.training.fit import start_run
from ddpm_lightning.training.run_folder import choose_folder
from ddpm_lightning.training.settings import Run, TrainSettings
from ddpm_lightning.utils.allowed_classes import OWN, trusted_packages
from ddpm_lightning.utils.config_tree import merged, read
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.instantiate import build, check

__all__ = ["DatasetDescription", "MethodDescription", "dataset", "finetuned", "fit", "method"]


@dataclass(frozen=True)
class MethodDescription:
    """A method by name, with what is changed of its settings.

    Attributes:
        name: Name for results; that of a file of ``conf/model/``, unless a trained model is fine-tuned.
        changes: Changed settings, nested as in that file.
        checkpoint: Checkpoint that a run starts from, as it was given.
        trained: The model of that checkpoint.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    trained: Trained | None = None

    def settings(self, seed: int = 0) -> dict[str, Any]:
        """Returns all settings as plain containers: the group ``model`` of a run's ``config.yaml``.

        Args:
            seed: Seed of everything random in training.
        """
        if self.trained is None:
            return merged(read("model", self.name, {"seed": seed}), self.changes)
        return finetune.inherited_model(self.trained, merged({}, self.changes), seed)

    def build(self) -> Method:
        """Returns the method, a ``torch.nn.Module``, with random weights.

        Raises:
            UserError: If it does not accept its settings.
        """
        return build_method(self.settings(), OWN)


@dataclass(frozen=True)
class DatasetDescription:
    """A data set by name, with what is changed of its settings.

    Attributes:
        name: Name of a file of ``conf/data/``, or the path of a data module's class.
        changes: Changed settings, nested as in that file; for a class, those of ``conf/data/default.yaml`` and its own.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, seed: int = 0) -> dict[str, Any]:
        """Returns all settings as plain containers: the group ``data`` of a run's ``config.yaml``.

        Args:
            seed: Seed of the order of the images, of crops and of augmentation.
        """
        own_class = "." in self.name
        settings = read("data", "default" if own_class else self.name, {"seed": seed})
        return merged({**settings, "_target_": self.name} if own_class else settings, self.changes)

    def build(self) -> PairDataModule:
        """Returns the data, a ``LightningDataModule``; its normalisation is fitted by ``setup("fit")``.

        Raises:
            UserError: If it does not accept its settings.
        """
        return build(self.settings(), ("data",), OWN, "data")


def method(name: str, **changes: Any) -> MethodDescription:
    """Describes a method, to be trained by :func:`fit`.

    Args:
        name: Name of a file of ``conf/model/``, such as ``pmrf_small``.
        changes: Settings of that file that shall have other values; nested ones as dictionaries, such as
            ``optimizer={"lr": 0.01}``. A nested dictionary with ``_target_``, the path of a class, replaces all
            settings of the former class.

    Returns:
        Its description.

    Raises:
        UserError: If there is no method of that name, or it does not accept its settings.
    """
    described = MethodDescription(name, changes)
    check_method(described.settings(), OWN)
    return described


def finetuned(checkpoint: str | Path, trust: Sequence[str] = (), **changes: Any) -> MethodDescription:
    """Describes a trained method, to be trained further on other data by :func:`fit`.

    Args:
        checkpoint: A checkpoint, an exported model, or the name of a shipped one.
        trust: Top-level packages whose classes the file may use, in addition to those of this program.
        changes: As in :func:`method`.

    Returns:
        Its description.

    Raises:
        UserError: If the file cannot be used, or a setting does not exist.
    """
    trained = finetune.loaded(str(checkpoint), trusted_packages(trust))
    described = MethodDescription(trained.card["names"]["model"], changes, str(checkpoint), trained)
    check_method(described.settings(), OWN)
    return described


def dataset(name: str, **changes: Any) -> DatasetDescription:
    """Describes a data set, to be used by :func:`fit`.

    Args:
        name: Name of a file of ``conf/data/``: ``folder`` for your own pairs, with ``root=``. Or the path of the class
            of a data module of your own, such as ``mydata.Spots``.
        changes: As in :func:`method`. ``normalisation`` may also be the name of a file of ``conf/data/normalisation/``.

    Returns:
        Its description.

    Raises:
        UserError: If there is no data set of that name, a setting is missing, or it does not accept its settings.
    """
    scale = changes.get("normalisation")
    if isinstance(scale, str):
        changes["normalisation"] = read("data/normalisation", scale, {})
    described = DatasetDescription(name, changes)
    settings = described.settings()
    for missing in _missing(settings):
        raise UserError(f"data.{missing}", "is not given", remedy=f"add {missing}=…")
    check(settings, ("data",), OWN, "data")
    return described


def fit(
    method: MethodDescription,
    data: DatasetDescription,
    *,
    max_steps: int,
    run_folder: str | Path | None = None,
    seed: int = 0,
    callbacks: Mapping[str, Any] | None = None,
    logger: str = "csv",
    trust: Sequence[str] = (),
    force: bool = False,
    **trainer: Any,
) -> Run:
    """Trains a method in a new run folder, as ``ddpm-lightning train`` does.

    Args:
        method: What is trained, see :func:`method` and :func:`finetuned`.
        data: What it is trained on, see :func:`dataset`.
        max_steps: Optimiser steps of the run.
        run_folder: Folder of the run, which must be new or empty; by default ``runs/DATE_TIME_METHOD_DATA``.
        seed: Seed of weights, order of the data, crops and noise.
        callbacks: Changes of ``conf/callbacks/default.yaml``, and further callbacks as dictionaries with ``_target_``;
            ``None`` as a value leaves a callback out.
        logger: Name of a file of ``conf/logger/``.
        trust: Top-level packages whose classes checkpoints may name.
        force: Whether to take a folder in which a run on another machine seems to be active.
        trainer: Further arguments of ``lightning.Trainer``, such as ``accelerator="cpu"`` or ``devices=2``; by default
            those of ``conf/trainer/auto.yaml``.

    Returns:
        Where the checkpoints are.

    Raises:
        UserError: If the settings or the data cannot be used, or the folder belongs to another run.
    """
    names = {"model": method.name, "data": data.name}
    folder = str(choose_folder(None if run_folder is None else str(run_folder), names))
    own = data.settings(seed)
    references = {"run_folder": folder, "data.batch_size": own.get("batch_size")}
    settings = {
        "seed": seed,
        "run_folder": folder,
        "trust": list(trusted_packages(trust)),
        "model": method.settings(seed),
        "data": own,
        "trainer": merged(read("trainer", "auto", {}), {**trainer, "max_steps": max_steps}),
        "callbacks": merged(read("callbacks", "default", references), callbacks or {}),
        "logger": read("logger", logger, references),
        "names": names,
    }
    if method.trained is not None:
        settings["finetune"] = method.checkpoint
        settings["trust"] += method.trained.trust
        if "normalisation" not in data.changes:
            settings["data"] = finetune.inherited_normalisation(own, method.trained)
    return start_run(TrainSettings.of(settings), force=force)


def _missing(settings: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yields the names of the settings that have no default."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _missing(value, f"{above}{key}.")
        elif value == "???":
            yield f"{above}{key}"
