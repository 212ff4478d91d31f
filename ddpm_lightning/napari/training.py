"""Trains on two folders or two layers: prepares the pairs, and runs the command ``train``.

The command runs in a process of its own, so that the window stays usable, and leaves a usual run folder.
"""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.listing import find_images
from ddpm_lightning.io.stacks import open_writer
from ddpm_lightning.napari.job import Job
from ddpm_lightning.napari.selection import Selection
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Count, Positive, Settings, Text, UserPath

__all__ = ["METHODS", "Curve", "TrainRequest", "curves", "pairs_of_folders", "pairs_of_layers", "train"]

#: What is offered: name of the model or ``finetune=NAME``, and what it is good for.
METHODS = {
    "model=pmrf_small": "an accurate image, with samples",
    "model=residual_flow_small": "an uncertainty map from samples",
    "model=care_small": "an accurate image in a single network evaluation",
    "finetune=default": "few pairs, or little time: starts from the model that ships with the package",
}
#: Side of the parts into which a pair of layers is cut, in pixels: some of them are for validation.
PART = 128
#: Parts or files that are needed: one for validation, one for testing, others for training.
FEWEST = 3
#: Seconds between two looks at the process, and those that it has to save its state once it is told to stop.
EVERY, PATIENCE = 0.2, 60.0


class TrainRequest(Settings):
    """A training.

    Attributes:
        method: One of :data:`METHODS`.
        steps: Optimiser steps.
        minutes: Longest time.
        folder: Folder of the run, which must be new or empty.
        root: Folder with ``low/`` and ``high/``.
    """

    method: Text
    steps: Count = 5000
    minutes: Positive = 30.0
    folder: UserPath
    root: UserPath

    @property
    def command(self) -> list[str]:
        """The command that trains."""
        hours, rest = divmod(round(self.minutes * 60), 3600)
        limit = f"00:{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"
        settings = [self.method, "data=folder", f"data.root={self.root}", f"run_folder={self.folder}"]
        settings += [f"trainer.max_steps={self.steps}", f"++trainer.max_time={limit}", "++logger.csv.every=1"]
        return [sys.executable, "-m", "ddpm_lightning", "train", *settings]

    @property
    def best(self) -> Path:
        """The best checkpoint of the run."""
        return self.folder / "checkpoints" / "best.ckpt"


class Curve(NamedTuple):
    """A curve of losses.

    Attributes:
        name: Column of ``metrics.csv``.
        steps: Optimiser steps.
        values: Losses.
    """

    name: str
    steps: list[int]
    values: list[float]


def curves(folder: Path, names: Sequence[str] = ("train/loss", "val/loss")) -> list[Curve]:
    """Reads the curves of a run as far as they are written."""
    found = [Curve(name, [], []) for name in names]
    with (
        suppress(OSError, ValueError, KeyError),
        (folder / "metrics.csv").open(newline="", encoding="utf-8") as file,
    ):
        for row in csv.DictReader(file):
            for curve in found:
                if row.get(curve.name):
                    curve.values.append(float(row[curve.name]))
                    curve.steps.append(int(row["step"]))
    return [curve for curve in found if curve.steps]


def pairs_of_folders(noisy: Path, clean: Path, root: Path) -> Path:
    """Arranges two folders of images as pairs; files are linked, or copied where links are not allowed.

    Args:
        noisy: Folder of noisy images.
        clean: Folder of clean images with the same names.
        root: Folder that is made.

    Raises:
        UserError: If the images of the folders have different names, or there are fewer than three pairs.
    """
    files = [find_images(folder)[0] if folder.is_dir() else [] for folder in (noisy, clean)]
    names = [{path.name for path in found} for found in files]
    if alone := sorted(names[0] ^ names[1]):
        raise UserError(
            noisy if alone[0] in names[0] else clean,
            f"{alone[0]} has no partner of the same name",
            remedy="add it, or move this file away",
        )
    if len(names[0]) < FEWEST:
        raise UserError(
            noisy, f"contains {len(names[0])} images", f"at least {FEWEST} pairs", "choose another folder"
        )
    for part, found in zip(("low", "high"), files, strict=True):
        (root / part).mkdir(parents=True, exist_ok=True)
        for path in found:
            target = root / part / path.name
            try:
                os.symlink(path.resolve(), target, target_is_directory=path.is_dir())
            except OSError:
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, target)
    return root


def pairs_of_layers(noisy: Selection, clean: Selection, root: Path) -> Path:
    """Writes two layers as pairs: parts of 128 x 128 pixels, of which training, validation and test have their own.

    Args:
        noisy: The noisy layer.
        clean: The clean layer, of the same shape.
        root: Folder that is made.

    Raises:
        UserError: If their shapes differ, or they are too small.
    """
    if noisy.info.shape != clean.info.shape:
        found = f"has the shape {clean.info.shape}, {noisy.name} has {noisy.info.shape}"
        raise UserError(
            clean.name, found, "layers of equal shape", "choose two layers of the same field of view"
        )
    height, width = noisy.info.plane_shape
    corners = [(y, x) for y in range(0, height - PART + 1, PART) for x in range(0, width - PART + 1, PART)]
    if len(corners) < FEWEST:
        raise UserError(
            noisy.name, f"is {height} x {width} pixels", f"at least {FEWEST} parts of {PART} x {PART} pixels"
        )
    for part, selection in (("low", noisy), ("high", clean)):
        planes = [selection.plane(number) for number in range(selection.info.plane_count)]
        for number, (y, x) in enumerate(corners):
            info = _cut(selection)
            with open_writer(root / part / f"{number:04d}.tif", info) as writer:
                for plane in planes:
                    writer.write(plane[y : y + PART, x : x + PART].astype(info.dtype, copy=False))
    return root


def train(request: TrainRequest, job: Job[list[Curve], Path]) -> Path:
    """Trains, and returns the best checkpoint.

    Args:
        request: The training.
        job: The job that this is the work of; it gets the curves as they grow.

    Raises:
        UserError: If the training fails.
        Cancelled: If the job is cancelled; the run folder can be resumed.
    """
    job.progress.begin(request.steps, "training")
    request.folder.parent.mkdir(parents=True, exist_ok=True)
    log = request.folder.with_name(f"{request.folder.name}_output.txt")
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            request.command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                job.check()
                _report(request, job)
                time.sleep(EVERY)
        finally:
            _stop(process)
    _report(request, job)
    if process.returncode or not request.best.is_file():
        raise UserError(request.folder, "the training failed", remedy=_last_lines(log))
    return request.best


def _stop(process: subprocess.Popen) -> None:
    """Asks a process to save its state and end, and ends it if it does not."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _report(request: TrainRequest, job: Job[list[Curve], Path]) -> None:
    found = curves(request.folder)
    if found:
        job.progress.done = max(curve.steps[-1] for curve in found) + 1
        job.send(found)


def _cut(selection: Selection) -> ImageInfo:
    """Returns the description of a part of a layer."""
    info = selection.info
    return replace(info, shape=(*info.shape[:-2], PART, PART), kind="ome", channels=None, tags=None)


def _last_lines(log: Path, count: int = 5) -> str:
    with suppress(OSError):
        return " / ".join(log.read_text("utf-8", "replace").split("\n")[-count - 1 :]).strip(" /")
    return ""
