"""The jobs of a benchmark: one method on one set, trained, scored and timed by commands of this program.

Each step is a command that anybody can repeat, run in a process of its own; its output is kept in ``log.txt``. A
finished job has a ``job.json`` and is not run again; an interrupted one is resumed.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.data.center_crop import CenterCrops
from ddpm_lightning.evaluation.evaluate import data_of
from ddpm_lightning.evaluation.restored_pair import restore_pair
from ddpm_lightning.evaluation.settings import EvaluateSettings
from ddpm_lightning.inference.restorer import Restorer, choose_device
from ddpm_lightning.models.sampling import ORIENTATIONS
from ddpm_lightning.utils.atomic import atomic_write, read_json, remove_partials, write_json
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.lock import check
from ddpm_lightning.utils.subprocesses import run_command
from ddpm_lightning.utils.timing import seconds

__all__ = ["AUGMENTED", "PLAIN", "Job", "Program", "command", "perform"]

#: Folders of the evaluations without test-time augmentation, and with it in all orientations.
PLAIN, AUGMENTED = "evaluation", "evaluation_tta"
#: Side of the image that the time of a restoration is measured on, in pixels.
SIDE = 256
#: Side of the example image of the benchmark, in pixels.
EXAMPLE = 96


@dataclass(frozen=True)
class Program:
    """How commands of this program are run.

    Attributes:
        command: The command line up to the verb.
        evaluate_settings: Returns the settings of ``evaluate`` that overrides stand for.
    """

    command: Sequence[str]
    evaluate_settings: Callable[[Sequence[str]], EvaluateSettings]


@dataclass(frozen=True)
class Job:
    """One method on one set.

    Attributes:
        data: Name of the set.
        method: Name of the method.
        folder: Folder of the job.
        train: Overrides of ``train``; none if the checkpoint of another job is evaluated.
        evaluate: Overrides of ``evaluate``.
        trained: Folder of the job whose checkpoint is evaluated, or ``None`` for its own.
        seed: Seed of training and samples.
        tta: Whether it is evaluated a second time, with test-time augmentation.
    """

    data: str
    method: str
    folder: Path
    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    trained: Path | None = None
    seed: int = 0
    tta: bool = False

    @property
    def name(self) -> str:
        """The job in words."""
        return f"{self.method} on {self.data}" + (f", seed {self.seed}" if self.seed else "")

    @property
    def best(self) -> Path:
        """Checkpoint with the best validation loss."""
        return (self.trained or self.folder) / "run" / "checkpoints" / "best.ckpt"

    @property
    def evaluations(self) -> dict[str, tuple[str, ...]]:
        """Overrides of ``evaluate`` by the folder of the results."""
        found = {PLAIN: (*self.evaluate, "tta=false")}
        return found | ({AUGMENTED: (*self.evaluate, f"tta={len(ORIENTATIONS)}")} if self.tta else {})

    @property
    def record(self) -> dict[str, Any] | None:
        """Content of ``job.json``, or ``None`` if the job is not finished.

        Raises:
            UserError: If the job was run with other settings, or its record is damaged.
        """
        path = self.folder / "job.json"
        if not path.is_file():
            return None
        found = read_json(path)
        complete = {"train", "evaluate", "parameters", "seconds_per_sample"} <= found.keys()
        if not complete or not all(_are_texts(found[verb]) for verb in ("train", "evaluate")):
            raise UserError(path, "is damaged", remedy="remove it; the training is kept and scored again")
        for verb in ("train", "evaluate"):
            if found[verb] != list(getattr(self, verb)):
                raise UserError(
                    path,
                    f"was made with other settings: {verb} {' '.join(found[verb])}",
                    allowed=f"{verb} {' '.join(getattr(self, verb))}",
                    remedy="choose another folder=DIR, or remove the folder of this job",
                )
        return None if self.tta and AUGMENTED not in found else found


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def perform(job: Job, program: Program) -> dict[str, Any]:
    """Trains, scores and times what is not finished, and returns the record of the job.

    Args:
        job: The job.
        program: How commands are run.

    Raises:
        UserError: If a step fails.
    """
    if (record := job.record) is not None:
        return record
    job.folder.mkdir(parents=True, exist_ok=True)
    remove_partials([job.folder])
    run = job.folder / "run"
    if job.trained is None and read_json(run / "status.json").get("state") != "finished":
        begun = (run / "checkpoints" / "last.ckpt").is_file()
        trust = [text for text in job.train if text.startswith("trust=")]
        command(
            job, "train", (f"resume={run}", *trust) if begun else (*job.train, f"run_folder={run}"), program
        )
    for name, evaluate in job.evaluations.items():
        command(
            job, "evaluate", (f"checkpoint={job.best}", *evaluate, f"output={job.folder / name}"), program
        )
    check(job.folder)
    record = {k: v for k, v in asdict(job).items() if k not in ("folder", "trained", "tta")}
    record |= _measured(job, program, PLAIN)
    if job.tta:
        record[AUGMENTED] = _measured(job, program, AUGMENTED)
    _write_example(job, program)
    write_json(job.folder / "job.json", record)
    return record


def command(job: Job, verb: str, overrides: Sequence[str], program: Program) -> None:
    """Runs a command of this program in a process of its own.

    Args:
        job: The job, whose ``log.txt`` receives the output.
        verb: The verb.
        overrides: Its overrides.
        program: How commands are run.

    Raises:
        UserError: If it fails.
    """
    log = job.folder / "log.txt"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ ddpm-lightning {verb} {' '.join(overrides)}\n")
        file.flush()
        code = run_command(
            [*program.command, verb, *overrides],
            os.environ,
            f"{verb} of {job.name} stopped; what is finished is kept in {job.folder.parents[1]}",
            output=file,
            meanwhile=lambda: print(f"         {verb}: {_last_line(log)}", flush=True),
        )
    if code:
        lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
        said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])
        raise UserError(
            job.name,
            f"`{verb}` ended with code {code}: {said.removeprefix('error: ')}",
            remedy=f"see {log}",
        )


def _last_line(log: Path) -> str:
    """Returns the last line of a command."""
    lines = log.read_text("utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _measured(job: Job, program: Program, evaluation: str) -> dict[str, Any]:
    """Returns parameters, and the seconds that samples of an image of 256 x 256 pixels take on one thread.

    The first sample includes what all samples of an image share.
    """
    torch.set_num_threads(1)
    restorer = _restorer(job, program, evaluation)
    low = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    restorer.batch = 1
    taken = []
    for repeat in range(4):
        times = [seconds(restorer.device)]
        times += [seconds(restorer.device) for _ in restorer.samples(low, 2, f"measure {repeat}")]
        taken.append(np.diff(times))
    first, *further = np.median(taken[1:], axis=0).tolist()
    return {
        "parameters": sum(p.numel() for p in restorer.method.parameters()),
        "seconds_per_sample": first,
        "seconds_per_further_sample": further[0] if further else first,
        "preset": restorer.method.preset,
    }


def _restorer(job: Job, program: Program, evaluation: str) -> Restorer:
    """Returns the model as an evaluation used it."""
    settings = program.evaluate_settings([*job.evaluations[evaluation], f"checkpoint='{job.best}'"])
    trained = load(
        job.best,
        choose_device(),
        settings.sampler,
        settings.preset,
        settings.samples,
        settings.tta,
        settings.trust,
    )
    return Restorer(
        trained, tile=None, seed=settings.seed, bfloat16=settings.bfloat16, margin=settings.margin
    )


def _write_example(job: Job, program: Program) -> None:
    """Keeps the centre of the first test image in all versions, for the panels of the benchmark."""
    restorer = _restorer(job, program, PLAIN)
    source = data_of(restorer.trained).pairs("test").source
    pair = CenterCrops(source, min(EXAMPLE, *source[0].high.shape))[0]
    samples = json.loads((job.folder / PLAIN / "summary.json").read_text(encoding="utf-8"))["samples"]
    restored = restore_pair(restorer, pair, sorted({1, samples}))
    with atomic_write(job.folder / "example.npz") as partial, partial.open("wb") as file:
        np.savez_compressed(
            file, low=restored.raw, target=pair.high, single=restored.single, average=restored.average
        )
