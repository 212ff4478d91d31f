"""What the experiments share: their arguments, images, models, rows that survive an interruption, tables in READMEs.

An experiment is a folder with a ``run.py`` of two parts. ``measure(options)`` restores and scores images and adds rows
to a table in ``options.work``, image by image, so that it goes on where it was stopped. ``report(folder)`` makes tables
and figures from the rows in ``folder/results`` alone: the numbers of a README are those of the committed rows.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm_lightning.data.folder import FolderPairs
from ddpm_lightning.data.pairs import PairSource
from ddpm_lightning.data.simulated import SimulatedPairs
from ddpm_lightning.evaluation.statistics import describe, fields_of
from ddpm_lightning.metrics.collection import perceptual_metric

SPECIMENS = ("microtubules", "mitochondria", "synapses", "zebrafish")
#: Pairs that this world shows were never trained on: shipped models and the benchmark know other worlds.
WORLD = 1000


@dataclass(frozen=True)
class Options:
    """How an experiment is run.

    Attributes:
        size: Settings of the size, ``small`` or ``full``.
        model: Checkpoint, or name of a shipped model.
        models: Folder of the benchmark whose checkpoints are used, and trained where they are missing.
        pairs: Folders of real pairs, by name.
        lpips: LPIPS for ``score``, or why there is none.
        work: Folder of rows in the making.
        output: Folder of the experiment, which takes results, figures and tables.
    """

    size: Mapping[str, Any]
    model: str
    models: Path
    pairs: Mapping[str, Path]
    lpips: Any
    work: Path
    output: Path


def run(
    name: str,
    sizes: Mapping[str, Mapping[str, Any]],
    measure: Callable[[Options], None],
    report: Callable[[Path], Mapping[str, str]],
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs an experiment as its command line asks: measures, copies the rows, and renews tables and figures."""
    here = Path(__file__).parent / name
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{name}.run")
    parser.add_argument("--size", choices=sizes, default="small", help="small for CPUs, full for GPUs")
    parser.add_argument("--model", default="default", help="checkpoint, or name of a shipped model")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path("runs/experiments/models"),
        help="folder of a benchmark: its checkpoints are used, missing ones are trained",
    )
    parser.add_argument("--pairs", nargs="*", default=[], metavar="DIR", help="folders of real pairs")
    parser.add_argument("--lpips", type=Path, help="file of the AlexNet backbone")
    parser.add_argument("--work", type=Path, default=Path("runs/experiments") / name)
    parser.add_argument("--output", type=Path, default=here, help="folder of results, figures and README.md")
    parser.add_argument("--tables", action="store_true", help="only renew tables and figures")
    chosen = parser.parse_args(arguments)
    work = chosen.work / chosen.size
    if not chosen.tables:
        pairs = {Path(folder).name: Path(folder) for folder in chosen.pairs}
        lpips = perceptual_metric(chosen.lpips)
        measure(
            Options(
                sizes[chosen.size],
                chosen.model,
                chosen.models / chosen.size,
                pairs,
                lpips,
                work,
                chosen.output,
            )
        )
        (chosen.output / "results").mkdir(parents=True, exist_ok=True)
        for table in sorted(work.glob("*.csv")):
            shutil.copy(table, chosen.output / "results" / table.name)
    if chosen.output != here and not (chosen.output / "README.md").is_file():
        shutil.copy(here / "README.md", chosen.output / "README.md")
    fill(chosen.output / "README.md", report(chosen.output))
    print(f"table and figure in {chosen.output / 'README.md'}")


class Rows:
    """Rows of a table that are kept as they come; made by other settings, they are made anew.

    Args:
        path: The table, ``NAME.csv``; the settings lie beside it, ``NAME.json``.
        settings: What the rows depend on.
        key: Columns that say what a row is about.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], key: Sequence[str]) -> None:
        self.path, self.key = path, tuple(key)
        text = json.dumps(settings, indent=1, sort_keys=True, default=str)
        beside = path.with_suffix(".json")
        if not (beside.is_file() and beside.read_text("utf-8") == text):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            beside.write_text(text, "utf-8")
        self.done = {self._of(row) for row in read(path)} if path.is_file() else set()

    def _of(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(row[column]) for column in self.key)

    def has(self, **about: Any) -> bool:
        """Returns whether there are rows about something."""
        return self._of(about) in self.done

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows in one go: those about one thing together, so that there are all or none after a stop."""
        new = not self.path.is_file()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            if new:
                writer.writeheader()
            writer.writerows({k: _short(v) for k, v in row.items()} for row in rows)
        self.done |= {self._of(row) for row in rows}
        about = " ".join(self._of(rows[0]))
        print(f"  {about}", flush=True)


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def read(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def simulated(specimen: str, images: int, side: int, **settings: Any) -> SimulatedPairs:
    """Returns test pairs of a simulated set that no model was trained on."""
    return SimulatedPairs(specimen, "test", images, side, **{"seed": WORLD, **settings})


def real(folder: Path, split: str = "test") -> PairSource:
    """Returns real pairs."""
    return FolderPairs(folder, split)


def checkpoints(
    options: Options, sets: Mapping[str, Sequence[str]], methods: Sequence[str]
) -> dict[tuple[str, str], Path]:
    """Returns trained methods by set and method: those of the benchmark in ``options.models``.

    What is missing is trained by the command ``benchmark``, each method for ``options.size["seconds"]``.

    Args:
        options: How the experiment is run.
        sets: Overrides of ``train`` that choose the data, by the name of the set.
        methods: Rows of the benchmark.
    """
    place = options.models
    found = {(s, m): place / s / m / "run" / "checkpoints" / "best.ckpt" for s in sets for m in methods}
    if not all((path.parents[2] / "cell.json").is_file() for path in found.values()):
        known = dict.fromkeys(SPECIMENS, "null") | {
            name: "[" + ",".join(f'"{override}"' for override in overrides) + "]"
            for name, overrides in sets.items()
        }
        command(
            "benchmark",
            *(f"{'' if name in SPECIMENS else '+'}sets.{name}={value}" for name, value in known.items()),
            f"only=[{','.join(methods)}]",
            f"budget.seconds={options.size['seconds']}",
            f"folder={place}",
            f"output={place / 'table'}",
            *options.size.get("benchmark", ()),
        )
    return found


def command(*arguments: str) -> None:
    """Runs a command of the package.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    print("$ ddpm-lightning", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "ddpm_lightning", *arguments], check=True)


def mean(rows: Iterable[Mapping[str, str]], column: str, digits: int = 2) -> str:
    """Returns the mean of a column over images with its 95 % interval (bootstrap over fields), as text."""
    having = [row for row in rows if row.get(column)]
    if not having:
        return ""
    fields = fields_of([row["image"] for row in having], [row.get("field", "") for row in having])
    found = describe([float(row[column]) for row in having], fields)
    if found.mean_interval is None:
        return f"{found.mean:.{digits}f}"
    low, high = found.mean_interval
    return f"{found.mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table in Markdown."""
    lines = [list(header), ["---"] * len(header), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill(readme: Path, tables: Mapping[str, str]) -> None:
    """Renews the tables of a README, each between ``<!-- NAME -->`` and ``<!-- end NAME -->``.

    Raises:
        ValueError: If the README has no place for a table.
    """
    text = readme.read_text("utf-8")
    for name, content in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{readme} has no place for the table {name}")
        text = f"{head}{begin}\n\n{content}\n\n{end}{tail}"
    readme.write_text(text, "utf-8")
