"""Weights & Biases as a logger that cannot stop a training: one W&B run for each run folder, plotted against images.

The id of the W&B run is kept in the run folder, so a resumed run continues it. If the service cannot be reached, the
run is logged to the disk, for ``wandb sync``. Only the first process logs.
"""

import json
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from ddpm_lightning.utils.atomic import write_json
from ddpm_lightning.utils.errors import UserError

__all__ = ["WandbLog"]

#: Set by a sweep for its jobs.
SWEEP_VARIABLE, JOB_VARIABLE = "DDPM_LIGHTNING_SWEEP", "DDPM_LIGHTNING_JOB"
#: The x axis of all curves: comparable between batch sizes and numbers of GPUs.
AXIS = "images"


class WandbLog(WandbLogger):
    """Lightning's logger for W&B, with images as the x axis, groups and tags of sweeps, and offline if need be.

    Args:
        folder: Folder of the run, which gets ``wandb/`` and ``wandb.json`` with the id.
        project: Project in W&B.
        offline: Whether everything stays on the disk; ``wandb sync FOLDER/wandb/offline-run-*`` sends it later.
        name: Name of the run; by default that of its folder.
        group: Runs that belong together; by default the sweep.
        tags: Tags of the run; by default the settings that differ within its sweep.
        images_per_step: Images of one optimiser step.
        artifacts: Whether checkpoints are sent: ``False``, ``True`` (at the end) or ``all`` (each one).
        patience: Seconds to wait for the service.
        settings: Further arguments of ``wandb.init``.

    Raises:
        UserError: If the package is not installed.
    """

    def __init__(
        self,
        folder: str,
        project: str = "ddpm_lightning",
        offline: bool = False,
        name: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        images_per_step: int = 1,
        artifacts: bool | Literal["all"] = False,
        patience: float = 20.0,
        **settings: Any,
    ) -> None:
        if find_spec("wandb") is None:
            raise UserError(
                "logger=wandb", "needs a package that is not installed", remedy="pip install wandb"
            )
        self.folder, self.images_per_step = Path(folder), images_per_step
        super().__init__(
            name=name or self.folder.name,
            project=project,
            save_dir=str(folder),
            offline=offline,
            id=self._kept().get("id"),
            log_model=False if offline else artifacts,
            group=group or os.environ.get(SWEEP_VARIABLE),
            tags=tags or sweep_tags(),
            settings={"init_timeout": patience, "x_graphql_retry_max": 3, "x_file_stream_retry_max": 3},
            **settings,
        )

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of W&B, started when it is first used."""
        if self._experiment is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._experiment = run = self._begin()
            run.define_metric(AXIS)
            run.define_metric("*", step_metric=AXIS)
            write_json(self.folder / "wandb.json", {"id": run.id, "project": run.project})
        return self._experiment

    def _begin(self) -> Any:
        begin = cast(Any, WandbLogger.experiment).fget
        try:
            return begin(self)
        except Exception as error:
            # The errors of wandb have no common base class.
            if self._offline or not (
                type(error).__module__.startswith("wandb") or isinstance(error, OSError)
            ):
                raise
            reason = " ".join(str(error).split())[:200]
            print(
                f"Weights & Biases cannot be reached ({reason}): the run is logged offline, in {self.folder}/wandb"
            )
            self._offline = True
            self._wandb_init["mode"] = "offline"
            return begin(self)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds the number of images to what is logged; ``step`` counts optimiser steps from 0, and is W&B's step.

        By itself, W&B counts calls, so the parts of an interrupted run would not line up.
        """
        seen = {} if step is None else {AXIS: (step + 1) * self.images_per_step, "trainer/global_step": step}
        self.experiment.log({**metrics, **seen}, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends the run, so that the next one of this process is not logged to it."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)

    @rank_zero_only
    def log_panels(self, panels: list[tuple[np.ndarray, str]], step: int) -> None:
        """Shows images with captions under ``panels``.

        Args:
            panels: Arrays with shape (H, W) or (H, W, 3), uint8, and their captions.
            step: Optimiser steps of the run.
        """
        images, captions = zip(*panels, strict=True)
        self.log_image("panels", list(images), step=step - 1, caption=list(captions))

    @rank_zero_only
    def log_scores(self, rows: list[dict[str, Any]], step: int) -> None:
        """Shows a table with a row for each image and estimator under ``scores``."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        self.log_table(
            "scores", columns, [[row.get(name) for name in columns] for row in rows], step=step - 1
        )

    def _kept(self) -> dict[str, Any]:
        """Returns the id that an earlier start of this run stored."""
        path = self.folder / "wandb.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def sweep_tags() -> list[str]:
    """Returns the settings that a sweep gave to this job, as tags; W&B allows 64 characters."""
    asked = json.loads(os.environ.get(JOB_VARIABLE, "[]"))
    return [re.sub(r"[\[\]{}'\"]", "", tag)[-64:] for tag in asked if "=" in tag][:16]
