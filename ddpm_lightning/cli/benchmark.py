"""Trains every method on every set under one budget, scores them alike, and writes one table.

Examples:
  ddpm-lightning benchmark
  ddpm-lightning benchmark budget.seconds=60 only=[regression,ddpm,pmrf] folder=runs/try output=runs/try/table
  ddpm-lightning benchmark '+sets.mine=["data=folder","data.root=DIR"]' '~sets.synapses'
  ddpm-lightning benchmark methods=full 'train=["trainer=gpu"]' budget.seconds=7200 center_crop=null

Leaves in the output folder: table.md (to read), table_PROTOCOL.md, table.csv, differences.csv, uncertainty.csv,
scores_PROTOCOL.csv (a row for each image), figures/. What each cell is made of stays in the folder of trainings: every
command, run, checkpoint and evaluation. Finished cells are kept: a benchmark that was stopped goes on when it is
started again, and new methods or sets join the table. Cells that fail are listed, and the exit code is then 3.

The budget is one for all methods. Given in seconds, it becomes steps by the pace of each method, which is measured on
the first set before anything is trained, in turn, so that a busy machine favours nobody. Methods that `only` leaves out
are measured when they are asked for: start a benchmark in parts only on a machine that stays the same.
"""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ddpm_lightning.benchmark.tables import write_benchmark
from ddpm_lightning.cli import compose
from ddpm_lightning.cli.cells import Cell, command, perform
from ddpm_lightning.cli.limits import Texts
from ddpm_lightning.metrics.protocol import PROTOCOLS
from ddpm_lightning.utils.atomic import read_json, remove_partials, write_json
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.lock import hold
from ddpm_lightning.utils.paths import expanded

__all__ = ["run"]

#: Rounds in which the pace of all methods is measured in turn, and steps of each.
ROUNDS, STEPS = 2, 18
#: Steps of a training are a multiple of this, so that it is validated this often and at its very end.
VALIDATIONS = 8


def run(config: DictConfig) -> int:
    """Fills the table; returns 3 if cells failed."""
    settings = compose.plain(config)
    _check(settings)
    sets = {name: overrides for name, overrides in settings["sets"].items() if overrides}
    if not sets:
        raise UserError("sets", "is empty", allowed="at least one set")
    methods = _ordered(settings["methods"])
    chosen = _chosen(settings["only"], methods)
    folder, output = expanded(settings["folder"]), expanded(settings["output"])
    with hold(folder, settings["force"]), hold(output, settings["force"]):
        remove_partials([folder, output, output / "figures"])
        return _run(settings, sets, methods, chosen, folder, output)


def _run(
    settings: dict[str, Any],
    sets: dict[str, list[str]],
    methods: dict[str, dict[str, Any]],
    chosen: list[str],
    folder: Path,
    output: Path,
) -> int:
    steps = _steps(settings, methods, chosen, next(iter(sets.items())), folder)
    cells = [_cell(settings, folder, sets, name, method, steps) for name in sets for method in chosen]
    for cell in cells:
        _ = cell.record  # one that was made by other settings is refused before hours of work
    failed = {}
    for number, cell in enumerate(cells, start=1):
        print(f"{number:3} of {len(cells)}  {cell.method} on {cell.data}", flush=True)
        try:
            perform(cell)
        except UserError as error:
            failed[f"{cell.method} on {cell.data}"] = str(error)
            print(f"         failed: {error}", flush=True)
    done = []
    for name in sets:
        for method in methods:
            cell = _cell(settings, folder, sets, name, method, steps)
            if (record := cell.record) is not None:
                origin = methods[method].get("trained", method)
                chain = [part for part in (methods[origin].get("mean"), origin) if part in steps]
                shares = sum(methods[part]["budget"] for part in chain)
                trained = {"steps": [steps[part] for part in chain], "training": shares}
                done.append({**record, **trained, "folder": cell.folder})
    if not done:
        raise UserError("benchmark", f"no cell was finished: {next(iter(failed.values()))}")
    write_benchmark(done, settings["protocols"], _about(settings), output)
    print(f"\ntable in {output / 'table.md'}")
    return 3 if failed else 0


def _check(settings: dict[str, Any]) -> None:
    """Raises before hours of work where a setting could not be used after them."""
    if not settings["methods"]:
        raise UserError("methods", "are all left out", allowed="at least one method")
    for name, overrides in settings["sets"].items():
        if overrides is not None and not Texts().allows(overrides):
            raise UserError(
                f"sets.{name}", f"is {overrides!r}", allowed=f"{Texts()} of overrides of train, or null"
            )
    for name, method in settings["methods"].items():
        if not isinstance(method, dict) or not ("trained" in method or Texts().allows(method.get("train"))):
            allowed, remedy = "{train: [model=NAME], budget: 1}", f"~methods.{name} leaves it out"
            raise UserError(f"methods.{name}", f"is {method!r}", allowed, remedy)
    for protocol in settings["protocols"]:
        if protocol not in PROTOCOLS:
            raise compose.unknown("protocol", protocol, PROTOCOLS)


def _ordered(methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the methods, each after the one that it starts from."""
    for name, method in methods.items():
        if (source := _source(method)) is not None and source not in methods:
            raise UserError(f"methods.{name}", f"starts from {source}", allowed=", ".join(methods))
    return dict(sorted(methods.items(), key=lambda item: ("mean" in item[1]) + 2 * ("trained" in item[1])))


def _source(method: dict[str, Any]) -> str | None:
    """Returns the method that another one starts from, or whose checkpoint it uses."""
    return method.get("mean") or method.get("trained")


def _chosen(only: list[str] | None, methods: dict[str, dict[str, Any]]) -> list[str]:
    for name in only or ():
        if name not in methods:
            raise compose.unknown("method", str(name), methods)
    wanted = set(only or methods)
    for _ in range(2):  # a checkpoint may be that of a flow, which starts from a regressor
        wanted |= {source for name in wanted if (source := _source(methods[name]))}
    return [name for name in methods if name in wanted]


def _steps(
    settings: dict[str, Any],
    methods: dict[str, dict[str, Any]],
    chosen: list[str],
    first: tuple[str, list[str]],
    folder: Path,
) -> dict[str, int]:
    """Returns the steps of each method that learns and is chosen, or once was: its pace is measured once, then kept."""
    learning = {name: share for name, method in methods.items() if (share := method.get("budget"))}
    if settings["budget"]["steps"] is not None:
        return {name: _rounded(share * settings["budget"]["steps"]) for name, share in learning.items()}
    path = folder / "pace.json"
    pace = {name: value for name, value in read_json(path).items() if isinstance(value, float) and value > 0}
    learning = {name: share for name, share in learning.items() if name in chosen or name in pace}
    missing = [name for name in learning if name not in pace]
    found: dict[str, list[float]] = {name: [] for name in missing}
    # A flow needs a regressor to be measured.
    needed = {mean for name in missing if (mean := methods[name].get("mean"))}
    for round_number in range(ROUNDS if missing else 0):
        for name in [method for method in learning if method in found or method in needed]:
            print(f"pace of {name}, {round_number + 1} of {ROUNDS}", flush=True)
            cell = Cell(first[0], name, folder / "pace" / name, (), ())
            cell.folder.mkdir(parents=True, exist_ok=True)
            overrides = [*first[1], *methods[name]["train"], *_mean(methods[name], folder / "pace")]
            overrides += [*settings["train"], f"seed={settings['seed']}", f"trainer.max_steps={STEPS}"]
            status = cell.folder / "run" / "checkpoints"
            for old in status.glob("*.ckpt") if status.is_dir() else ():
                old.unlink()
            command(cell, "train", (*overrides, "callbacks=pace", f"run_folder={cell.folder / 'run'}"))
            measured = json.loads((cell.folder / "run" / "pace.json").read_text(encoding="utf-8"))
            found.setdefault(name, []).append(measured["seconds_per_step"])
    pace |= {name: min(values) for name, values in found.items()}
    if missing:
        write_json(path, pace)
    seconds = settings["budget"]["seconds"]
    return {name: _rounded(share * seconds / pace[name]) for name, share in learning.items()}


def _rounded(steps: float) -> int:
    return max(1, round(steps / VALIDATIONS)) * VALIDATIONS


def _mean(method: dict[str, Any], place: Path) -> list[str]:
    mean = method.get("mean")
    return [f"model.mean={place / mean / 'run' / 'checkpoints' / 'best.ckpt'}"] if mean else []


def _cell(
    settings: dict[str, Any],
    folder: Path,
    sets: dict[str, list[str]],
    name: str,
    method: str,
    steps: dict[str, int],
) -> Cell:
    about = settings["methods"][method]
    trained = folder / name / about["trained"] if "trained" in about else None
    train = (
        [] if trained else [*sets[name], *about["train"], *_mean(about, folder / name), *settings["train"]]
    )
    train += [] if trained else [f"seed={settings['seed']}", "~callbacks.images"]
    if method in steps:
        every = steps[method] // VALIDATIONS
        train += [f"trainer.max_steps={steps[method]}"]
        train += ["trainer.check_val_every_n_epoch=null", f"+trainer.val_check_interval={every}"]
    main, *others = settings["protocols"]
    evaluate = [*settings["evaluate"], *about.get("evaluate", ()), f"protocol={main}"]
    evaluate += [f"also=[{','.join(others)}]", f"center_crop={settings['center_crop'] or 'null'}"]
    evaluate += [f"seed={settings['seed']}", "figures=1"]
    return Cell(name, method, folder / name / method, tuple(train), tuple(evaluate), trained)


def _about(settings: dict[str, Any]) -> list[str]:
    """Says how the numbers were made, for the head of the tables."""
    steps, seconds = settings["budget"]["steps"], settings["budget"]["seconds"]
    budget = (
        f"{steps} optimiser steps"
        if steps is not None
        else f"{seconds:g} seconds of one processor (CPU) or GPU"
    )
    centre = settings["center_crop"]
    return [
        f"Budget of each training: {budget}; `pmrf` and `residual_flow` start from the checkpoint of `regression` and "
        "take their own share on top.",
        f"Scored: {f'the central {centre} x {centre} pixels of each test image' if centre else 'whole test images'}.",
        f"One training for each cell, seed {settings['seed']}: intervals cover the images, not the luck of a training.",
        f"Further settings: `{' '.join([*settings['train'], *settings['evaluate']])}`.",
    ]
