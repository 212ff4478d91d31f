"""Settings of a training, and its result."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, Field

from ddpm_lightning.models.build import with_neighbours
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Count, Positive, Seed, Settings, Text

__all__ = ["Run", "TrainSettings"]


class _TrainerRanges(Settings):
    """Ranges that Lightning's Trainer does not check; it checks its other arguments itself."""

    model_config = ConfigDict(extra="ignore")

    max_steps: Count
    check_val_every_n_epoch: Count | None = None
    gradient_clip_val: Positive | None = None


class TrainSettings(Settings):
    """What is trained, on which data, and how: the content of a run's ``config.yaml``.

    Objects are described by dictionaries: ``_target_`` names a class, the other keys are its arguments.

    Attributes:
        seed: Seed of weights, order of the data, crops and noise.
        run_folder: Folder of the run.
        resume: Folder of the run that is resumed: ``run_folder`` itself, or ``None`` for a new run.
        finetune: Checkpoint, or name of a shipped model, whose weights a new run starts from.
        trust: Top-level packages whose classes checkpoints may name.
        model: The method, with ``optimizer``, ``lr_schedule`` and ``seed`` of its training.
        data: The data module.
        trainer: Arguments of Lightning's Trainer; ``max_steps`` and ``accelerator`` must be given.
        logger: Loggers by name.
        callbacks: Callbacks by name.
        evaluation: Name of the evaluation (``conf/evaluation``) by which the experiment scores its model; ``evaluate``
            says so if another one is used.
        names: Names of ``model`` and ``data``, for results.
    """

    seed: Seed = 0
    run_folder: Text
    resume: Text | None = None
    finetune: Text | None = None
    trust: list[str] = Field(default_factory=list)
    model: dict[str, Any]
    data: dict[str, Any]
    trainer: dict[str, Any]
    logger: dict[str, Any] = Field(default_factory=dict)
    callbacks: dict[str, Any] = Field(default_factory=dict)
    evaluation: Text | None = None
    names: dict[str, str | None] = Field(default_factory=lambda: {"model": "custom", "data": "custom"})

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Returns checked settings; see :meth:`Settings.of`.

        Args:
            values: Values by name; objects as dictionaries.

        Raises:
            UserError: For the first value that is missing, unknown, of another type, or out of range.
        """
        settings = super().of(values)
        model = with_neighbours(settings.model, settings.data.get("neighbours", 0))
        settings = settings.model_copy(update={"model": model})
        try:
            _TrainerRanges.of(settings.trainer)
        except UserError as error:
            raise UserError(f"trainer.{error.subject}", error.found, error.allowed, error.remedy) from None
        return settings


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        settings: Its settings.
        best: Checkpoint with the best validation loss.
        last: Checkpoint of the last step.
        paired: Whether its validation data have clean images.
        reached: Its ``trainer.max_steps`` if all of these steps were taken, else ``None``.
    """

    settings: TrainSettings
    best: Path
    last: Path
    paired: bool
    reached: int | None = None

    @property
    def folder(self) -> Path:
        """Its folder."""
        return Path(self.settings.run_folder)

    @property
    def own_scales(self) -> bool:
        """Whether each clean image has its own scale: a restored image then has the brightness of its input."""
        normalisation = self.settings.data["normalisation"]
        return bool(normalisation.get("matched") or (normalisation["target"] or {}).get("per_image"))
