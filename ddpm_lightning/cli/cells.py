"""The cells of the benchmark: one method on one set, trained, scored and measured by commands of this program.

Each step is a command that anybody can repeat, run in a process of its own; what it printed is kept in ``log.txt``. A
cell that is done says so in ``job.json`` and is not touched again; one that was interrupted goes on where it stopped.
"""

import json
import os
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.cli import compose
from ddpm_lightning.data.center_crop import CenterCrops
from ddpm_lightning.evaluation.evaluate import data_of
from ddpm_lightning.evaluation.restored_pair import restore_pair
from ddpm_lightning.inference.restorer import Restorer, choose_device
from ddpm_lightning.utils.atomic import atomic_write, read_json, remove_partials, write_json
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.lock import check
from ddpm_lightning.utils.subprocesses import run_command
from ddpm_lightning.utils.timing import seconds

__all__ = ["Cell", "command", "perform"]

#: Side of the image that the time of a restoration is measured on, in pixels.
SIDE = 256
#: Side of the picture of the table, in pixels.
EXAMPLE = 96


@dataclass(frozen=True)
class Cell:
    """One method on one set.

    Attributes:
        data: Name of the set.
        method: Name of the method.
        folder: Folder of the cell.
        train: Overrides of ``train``; none where the checkpoint of another cell is used in another way.
        evaluate: Overrides of ``evaluate``.
        trained: Folder of the cell whose checkpoint is used, or ``None`` for one of its own.
    """

    data: str
    method: str
    folder: Path
    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    trained: Path | None = None

    @property
    def best(self) -> Path:
        """Checkpoint with the best validation loss."""
        return (self.trained or self.folder) / "run" / "checkpoints" / "best.ckpt"

    @property
    def record(self) -> dict[str, Any] | None:
        """What ``job.json`` says, or ``None`` if the cell is not done.

        Raises:
            UserError: If the cell was done with other settings, or its record is damaged.
        """
        path = self.folder / "job.json"
        if not path.is_file():
            return None
        found = read_json(path)
        complete = {"train", "evaluate", "parameters", "seconds_per_sample"} <= found.keys()
        if not complete or not all(_are_texts(found[verb]) for verb in ("train", "evaluate")):
            raise UserError(path, "is damaged", remedy="remove it: its training is kept, and scored again")
        for verb in ("train", "evaluate"):
            if found[verb] != list(getattr(self, verb)):
                raise UserError(
                    path,
                    f"was made by other settings: {verb} {' '.join(found[verb])}",
                    allowed=f"{verb} {' '.join(getattr(self, verb))}",
                    remedy="choose another folder=DIR, or remove the cell",
                )
        return found


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def perform(cell: Cell) -> dict[str, Any]:
    """Trains, scores and measures, as far as that is not done; returns the record of the cell.

    Raises:
        UserError: If a step fails.
    """
    if (record := cell.record) is not None:
        return record
    cell.folder.mkdir(parents=True, exist_ok=True)
    remove_partials([cell.folder])
    run = cell.folder / "run"
    if cell.trained is None and read_json(run / "status.json").get("state") != "finished":
        begun = (run / "checkpoints" / "last.ckpt").is_file()
        command(cell, "train", (f"resume={run}",) if begun else (*cell.train, f"run_folder={run}"))
    command(
        cell, "evaluate", (f"checkpoint={cell.best}", *cell.evaluate, f"output={cell.folder / 'evaluation'}")
    )
    check(cell.folder)
    record = {**{k: v for k, v in asdict(cell).items() if k not in ("folder", "trained")}, **_measured(cell)}
    _write_example(cell)
    write_json(cell.folder / "job.json", record)
    return record


def command(cell: Cell, verb: str, overrides: tuple[str, ...]) -> None:
    """Runs a command of this program in a process of its own.

    Raises:
        UserError: If it fails.
    """
    log = cell.folder / "log.txt"
    # Trainings that this one starts would take over its folder.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DDPM_LIGHTNING_RUN")}
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ ddpm-lightning {verb} {' '.join(overrides)}\n")
        file.flush()
        code = run_command(
            [sys.executable, "-m", "ddpm_lightning", verb, *overrides],
            environment,
            f"{verb} of {cell.method} on {cell.data} stopped; what is finished is kept in {cell.folder.parents[1]}",
            output=file,
            meanwhile=lambda: print(f"         {verb}: {_last_line(log)}", flush=True),
        )
    if code:
        lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
        said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])
        raise UserError(
            f"{cell.method} on {cell.data}",
            f"`{verb}` ended with code {code}: {said.removeprefix('error: ')}",
            remedy=f"see {log}",
        )


def _last_line(log: Path) -> str:
    """Returns what a command said last."""
    lines = log.read_text("utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _measured(cell: Cell) -> dict[str, Any]:
    """Returns parameters, and the seconds that a sample of an image of 256 x 256 pixels takes on one thread."""
    torch.set_num_threads(1)
    restorer = _restorer(cell)
    low = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    taken = []
    for repeat in range(4):
        began = seconds(restorer.device)
        next(restorer.samples(low, 1, f"measure {repeat}"))
        taken.append(seconds(restorer.device) - began)
    return {
        "parameters": sum(p.numel() for p in restorer.method.parameters()),
        "seconds_per_sample": statistics.median(taken[1:]),
        "preset": restorer.method.preset,
    }


def _restorer(cell: Cell) -> Restorer:
    """Returns the model as the evaluation used it."""
    verb = [override for override in cell.evaluate if not override.startswith("also=")]
    settings = compose.plain(compose.compose("evaluate", [*verb, f"checkpoint='{cell.best}'"]))
    trained = load(cell.best, choose_device(), settings["sampler"], trust=settings["trust"])
    names = ("seed", "bfloat16", "margin")
    return Restorer(trained, tile=None, **{name: settings[name] for name in names})


def _write_example(cell: Cell) -> None:
    """Keeps the centre of the first test image in all versions, for the pictures of the benchmark."""
    restorer = _restorer(cell)
    source = data_of(restorer.trained).pairs("test").source
    pair = CenterCrops(source, min(EXAMPLE, *source[0].high.shape))[0]
    samples = json.loads((cell.folder / "evaluation" / "summary.json").read_text(encoding="utf-8"))["samples"]
    restored = restore_pair(restorer, pair, sorted({1, samples}))
    images = {
        "low": restored.raw,
        "target": pair.high,
        "single": restored.single,
        "average": restored.average,
    }
    with atomic_write(cell.folder / "example.npz") as partial, partial.open("wb") as file:
        np.savez_compressed(file, **images)
