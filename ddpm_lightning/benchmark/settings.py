"""Settings of a benchmark."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ddpm_lightning.evaluation.settings import FileName, Protocol
from ddpm_lightning.utils.settings import Count, Positive, Seed, Settings, Side, Text

__all__ = ["BenchmarkSettings", "BudgetSettings", "MethodSettings"]


class BudgetSettings(Settings):
    """How long each method trains.

    Attributes:
        seconds: Training time of each method, in seconds of one CPU core or of a GPU.
        steps: Optimiser steps, the same for each method, instead of seconds.
    """

    seconds: Positive = 180
    steps: Count | None = None


class MethodSettings(Settings):
    """A row of the table.

    Attributes:
        train: Overrides of ``train``.
        evaluate: Overrides of ``evaluate``.
        budget: Share of the budget; 0 for methods that are fitted, not trained. A method that starts from ``mean`` also
            costs the share of that one: together 1, if it is compared with others.
        mean: Method whose checkpoint is the posterior-mean network that this one starts from.
        trained: Method whose checkpoint is evaluated, with other overrides of ``evaluate``; nothing is trained then.
        every_seed: Whether it is trained with every seed, or only with the first.
        validate_every: Steps from one validation to the next; by default there are eight in a training.
    """

    train: list[Text] = []
    evaluate: list[Text] = []
    budget: Annotated[float, Field(ge=0)] = 0
    mean: Text | None = None
    trained: Text | None = None
    every_seed: bool = False
    validate_every: Count | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.train and self.trained is None:
            raise ValueError("has neither train=[…] nor trained=METHOD")
        return self

    @property
    def source(self) -> str | None:
        """Method that this one needs the checkpoint of."""
        return self.mean or self.trained


class BenchmarkSettings(Settings):
    """What is trained and scored, and how.

    Attributes:
        methods: Rows of the table by name.
        sets: Overrides of ``train`` that choose the data, by name of the set; ``None`` leaves a set out.
        only: Methods to run now; the table shows all that are finished.
        budget: How long each method trains.
        train: Further overrides of each training.
        evaluate: Further overrides of each evaluation.
        center_crop: Side in pixels of the central square of each test image that is scored; ``None`` scores all of it.
        protocols: Protocols of the scores; the first is that of the main table.
        seeds: Seeds of trainings and samples: the first for all methods, the others for those that repeat.
        folder: Folder of trainings and evaluations; what is finished there is kept.
        output: Folder of tables and figures.
        force: Whether to take over a locked folder whose owner cannot be checked, such as a job on another machine.
        trust: Packages whose classes checkpoints may use.
    """

    methods: Annotated[dict[str, MethodSettings], Field(min_length=1)]
    sets: dict[str, list[Text] | None]
    only: list[Text] | None = None
    budget: BudgetSettings = BudgetSettings()
    train: list[Text] = []
    evaluate: list[Text] = []
    center_crop: Side | None = None
    protocols: Annotated[list[Protocol], Field(min_length=1)] = ["affine"]
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    folder: FileName = "runs/benchmark"
    output: FileName
    force: bool = False
    trust: list[Text] = []
