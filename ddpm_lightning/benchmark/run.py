"""Trains all methods on all sets under one budget, scores them alike, and writes the tables."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from ddpm_lightning.benchmark import jobs
from ddpm_lightning.benchmark.jobs import Job, Program
from ddpm_lightning.benchmark.settings import BenchmarkSettings, MethodSettings
from ddpm_lightning.benchmark.tables import write_benchmark
from ddpm_lightning.utils.atomic import read_json, remove_partials, write_json
from ddpm_lightning.utils.errors import UserError, nearest
from ddpm_lightning.utils.lock import hold
from ddpm_lightning.utils.paths import expanded

__all__ = ["run_benchmark"]

#: Rounds in which the pace of all methods is measured in turn, and steps of each.
ROUNDS, STEPS = 3, 18
#: Fewest validations of a training that is not shorter than this many steps.
VALIDATIONS = 8


def run_benchmark(settings: BenchmarkSettings, program: Program) -> dict[str, str]:
    """Fills the table.

    Args:
        settings: What is trained and scored, and how.
        program: How commands of this program are run.

    Returns:
        Why jobs failed, by job.

    Raises:
        UserError: If a setting cannot be used, or no job was finished.
    """
    sets = {name: overrides for name, overrides in settings.sets.items() if overrides}
    if not sets:
        raise UserError("sets", "is empty", allowed="at least one set")
    benchmark = _Benchmark(settings, program, sets)
    folder, output = benchmark.folder, expanded(settings.output)
    with hold(folder, settings.force), hold(output, settings.force):
        remove_partials([folder, output, output / "figures"])
        return benchmark.run(output)


class _Benchmark:
    def __init__(self, settings: BenchmarkSettings, program: Program, sets: Mapping[str, list[str]]) -> None:
        self.settings, self.program, self.sets = settings, program, sets
        self.methods = _ordered(settings.methods)
        self.chosen = _chosen(settings.only, self.methods)
        self.folder = expanded(settings.folder)

    def run(self, output: Path) -> dict[str, str]:
        """Runs all jobs that are not finished, writes the tables, and returns why jobs failed."""
        steps = self._steps()
        wanted = self._jobs(self.chosen, steps)
        for job in wanted:
            _ = job.record  # results of other settings are refused before hours of work
        failed: dict[str, str] = {}
        for number, job in enumerate(wanted, start=1):
            print(f"{number:3} of {len(wanted)}  {job.name}", flush=True)
            try:
                jobs.perform(job, self.program)
            except UserError as error:
                failed[job.name] = str(error)
                print(f"         failed: {error}", flush=True)
        finished = []
        for job in self._jobs(self.methods, steps):
            if (record := job.record) is not None:
                chain = self._chain(job.method, steps)
                budget = sum(self.methods[name].budget for name in chain)
                trained = {"steps": [steps[name] for name in chain], "training": budget}
                finished.append({**record, **trained, "folder": job.folder, "seed": job.seed})
        if not finished:
            raise UserError("benchmark", f"no job was finished: {next(iter(failed.values()))}")
        write_benchmark(finished, self.settings.protocols, _about(self.settings), output)
        return failed

    def _jobs(self, methods: Iterable[str], steps: Mapping[str, int]) -> list[Job]:
        """Returns the jobs of methods, the first seed first: all rows are there before any is repeated."""
        first = self.settings.seeds[0]
        return [
            self._job(name, method, steps, seed)
            for seed in self.settings.seeds
            for name in self.sets
            for method in methods
            if seed == first or self.methods[method].every_seed
        ]

    def _folder(self, data: str, name: str, seed: int) -> Path:
        """Returns the folder of a job; a method that is not trained with a seed is taken with the first."""
        seed = seed if self.methods[name].every_seed else self.settings.seeds[0]
        return self.folder / data / (f"{name}_seed{seed}" if seed else name)

    def _chain(self, method: str, steps: Mapping[str, int]) -> list[str]:
        """Returns the methods whose training a row needs, in order."""
        origin = self.methods[method].trained or method
        return [name for name in (self.methods[origin].mean, origin) if name and name in steps]

    def _steps(self) -> dict[str, int]:
        """Returns the steps of each method that is trained and chosen, or was before."""
        budget = self.settings.budget
        trained = {name: method.budget for name, method in self.methods.items() if method.budget}
        if budget.steps is not None:
            return {
                name: _rounded(self.methods[name], share * budget.steps) for name, share in trained.items()
            }
        path = self.folder / "pace.json"
        pace = {
            name: value for name, value in read_json(path).items() if isinstance(value, float) and value > 0
        }
        trained = {name: share for name, share in trained.items() if name in self.chosen or name in pace}
        pace |= {
            name: pace[other]
            for name in trained
            for other in trained
            if other in pace and self._alike(name, other)
        }
        if missing := [name for name in trained if name not in pace]:
            pace |= self._pace(missing, trained)
            write_json(path, pace)
        return {
            name: _rounded(self.methods[name], share * budget.seconds / pace[name])
            for name, share in trained.items()
        }

    def _pace(self, missing: list[str], trained: Iterable[str]) -> dict[str, float]:
        """Measures the seconds per step of methods in turn, so that a busy machine favours none of them.

        Rows with the same training, for different times, have the same pace.
        """
        found: dict[str, list[float]] = {name: [] for name in missing}
        # A flow needs a regressor to be measured.
        needed = {mean for name in missing if (mean := self.methods[name].mean)}
        for number in range(ROUNDS):
            for name in [method for method in trained if method in found or method in needed]:
                print(f"pace of {name}, {number + 1} of {ROUNDS}", flush=True)
                found.setdefault(name, []).append(self._seconds_per_step(name))
        least = {name: min(values) for name, values in found.items()}
        return {name: min(least[other] for other in least if self._alike(name, other)) for name in least}

    def _alike(self, name: str, other: str) -> bool:
        """Says whether two rows have the same training, apart from its length."""
        one, another = self.methods[name], self.methods[other]
        return (one.train, one.mean) == (another.train, another.mean)

    def _seconds_per_step(self, name: str) -> float:
        data, overrides = next(iter(self.sets.items()))
        method, place = self.methods[name], self.folder / "pace"
        job = Job(data, name, place / name, (), ())
        run = job.folder / "run"
        for old in (run / "checkpoints").glob("*.ckpt"):
            old.unlink()
        job.folder.mkdir(parents=True, exist_ok=True)
        given = [*overrides, *method.train, *self.settings.train]
        given += _mean(place / method.mean) if method.mean else []
        given += [f"seed={self.settings.seeds[0]}", f"trainer.max_steps={STEPS}"]
        jobs.command(job, "train", (*given, "callbacks=step_time", f"run_folder={run}"), self.program)
        return float(json.loads((run / "step_time.json").read_text(encoding="utf-8"))["seconds_per_step"])

    def _job(self, data: str, name: str, steps: Mapping[str, int], seed: int) -> Job:
        settings, method = self.settings, self.methods[name]
        trust = [f"trust=[{','.join(settings.trust)}]"] if settings.trust else []
        train: list[str] = []
        if method.trained is None:
            train += [*trust, *self.sets[data], *method.train]
            train += _mean(self._folder(data, method.mean, seed)) if method.mean else []
            train += [*settings.train, f"seed={seed}", "~callbacks.images"]
        if name in steps:
            train += [f"trainer.max_steps={steps[name]}", "trainer.check_val_every_n_epoch=null"]
            train += [f"+trainer.val_check_interval={_interval(method, steps[name])}"]
        main, *others = settings.protocols
        evaluate = [*trust, "figures=1", *settings.evaluate, *method.evaluate]
        evaluate += [f"protocol={main}", f"also=[{','.join(others)}]"]
        evaluate += [f"center_crop={settings.center_crop or 'null'}", f"seed={seed}"]
        trained = self._folder(data, method.trained, seed) if method.trained else None
        folder, tta = self._folder(data, name, seed), seed == settings.seeds[0]
        return Job(data, name, folder, tuple(train), tuple(evaluate), trained, seed, tta)


def _ordered(methods: Mapping[str, MethodSettings]) -> dict[str, MethodSettings]:
    """Returns the methods, each after the one whose checkpoint it needs."""
    for name, method in methods.items():
        if method.source is not None and method.source not in methods:
            raise UserError(f"methods.{name}", f"needs {method.source}", allowed=", ".join(methods))
    order = {name: bool(method.mean) + 2 * bool(method.trained) for name, method in methods.items()}
    return {name: methods[name] for name in sorted(methods, key=lambda name: order[name])}


def _chosen(only: list[str] | None, methods: Mapping[str, MethodSettings]) -> list[str]:
    """Returns the methods to run, with those whose checkpoints they need."""
    for name in only or ():
        if name not in methods:
            near = nearest(name, methods)
            remedy = f"did you mean {' or '.join(near)}?" if near else ""
            raise UserError("only", f"there is no method {name!r}", ", ".join(methods), remedy)
    wanted = set(only or methods)
    for _ in range(2):  # a row may use the checkpoint of a flow, which starts from a regressor
        wanted |= {source for name in wanted if (source := methods[name].source)}
    return [name for name in methods if name in wanted]


def _rounded(method: MethodSettings, steps: float) -> int:
    """Returns a number of steps with a validation at its very end."""
    every = method.validate_every
    if every and steps >= VALIDATIONS * every:
        return round(steps / every) * every
    return round(steps / VALIDATIONS) * VALIDATIONS if steps >= VALIDATIONS else max(1, round(steps))


def _interval(method: MethodSettings, steps: int) -> int:
    """Returns the steps from one validation to the next."""
    every = method.validate_every
    return every if every and steps >= VALIDATIONS * every else max(1, steps // VALIDATIONS)


def _mean(job: Path) -> list[str]:
    """Returns the override that takes the regressor of a job as the posterior-mean network."""
    return [f"model.mean={job / 'run' / 'checkpoints' / 'best.ckpt'}"]


def _about(settings: BenchmarkSettings) -> list[str]:
    """Returns sentences on how the numbers were made, for the head of the tables."""
    steps, seconds, side = settings.budget.steps, settings.budget.seconds, settings.center_crop
    budget = (
        f"{steps} optimiser steps" if steps is not None else f"{seconds:g} seconds of one CPU core or GPU"
    )
    scored = f"the central {side} x {side} pixels of each test image" if side else "whole test images"
    return [
        f"Budget of each row: {budget}, of which a row of two stages has part for each.",
        f"Scored: {scored}.",
        f"Tables of a set: trainings with seed {settings.seeds[0]}; their intervals cover the images, not repeated "
        "trainings. Tables over seeds: both.",
        f"Further settings: `{' '.join([*settings.train, *settings.evaluate])}`.",
    ]
