"""What all experiments use: arguments, images, models, rows that survive an interruption, tables in READMEs.

An experiment is a folder with a ``run.py`` of two parts. ``measure(options)`` restores and scores images and adds rows
to a table in ``options.work``, image by image, so that an interrupted experiment resumes. ``report(folder)`` makes
tables and figures from the rows in ``folder/results`` alone: the numbers of a README are those of the committed rows.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from ddpm_lightning.cli import compose
from ddpm_lightning.data.center_crop import CenterCrops
from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.datasets.folder import FolderPairs
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.evaluation.statistics import describe, fields_of
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.collection import perceptual_metric, score
from ddpm_lightning.metrics.protocol import PROTOCOLS
from ddpm_lightning.metrics.psnr import psnr
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.instantiate import build

SPECIMENS = ("microtubules", "mitochondria", "synapses", "zebrafish")
#: Seed of simulated pairs that no model was trained on: shipped models and the benchmark use other seeds.
DATASET_SEED = 1000
METRICS = ("psnr", "ms_ssim", "lpips")
#: Gaussian blurs in pixels, of which the best one is chosen for each image by its target: no user has this filter.
BLURS = (0.5, 0.7, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0)
#: How missing models are trained; the same for all experiments, which use the same models. Experiments compute their
#: scores themselves, so the evaluation by the benchmark is kept short.
TRAINING = {
    "small": ["budget.seconds=40", 'evaluate=["samples=2","bfloat16=auto","limit=2"]', "center_crop=96"],
    "full": [
        "methods=full",
        "budget.seconds=3600",
        'train=["trainer=gpu"]',
        'evaluate=["samples=2","limit=2"]',
    ],
}


@dataclass(frozen=True)
class Options:
    """How an experiment is run.

    Attributes:
        size: Settings of the size, ``small`` or ``full``.
        model: Checkpoint, or name of a shipped model.
        models: Folder of a benchmark: its checkpoints are used, missing ones are trained.
        pairs: Folders of real pairs, by name.
        lpips: LPIPS for ``score``, or why there is none.
        work: Folder of the rows that are being computed.
        output: Folder for results, figures and tables.
        training: Overrides of ``benchmark`` for missing models.
        benchmark: The benchmark's ``table.csv``.
    """

    size: Mapping[str, Any]
    model: str
    models: Path
    pairs: Mapping[str, Path]
    lpips: Any
    work: Path
    output: Path
    training: Sequence[str] = ()
    benchmark: Path = Path("experiments/benchmark/results/table.csv")


def run(
    name: str,
    sizes: Mapping[str, Mapping[str, Any]],
    measure: Callable[[Options], None],
    report: Callable[[Path], Mapping[str, str]],
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs an experiment from its command line: measures, copies the rows, and updates tables and figures."""
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
    parser.add_argument(
        "--training",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="overrides of benchmark for missing models",
    )
    parser.add_argument("--pairs", nargs="*", default=[], metavar="DIR", help="folders of real pairs")
    parser.add_argument(
        "--benchmark", type=Path, default=Options.benchmark, help="table.csv of the benchmark"
    )
    parser.add_argument("--lpips", type=Path, help="file of the AlexNet backbone")
    parser.add_argument("--work", type=Path, default=Path("runs/experiments") / name)
    parser.add_argument("--output", type=Path, default=here, help="folder of results, figures and README.md")
    parser.add_argument("--tables", action="store_true", help="only update tables and figures")
    chosen = parser.parse_args(arguments)
    work = chosen.work / chosen.size
    options = Options(
        sizes[chosen.size],
        chosen.model,
        chosen.models / chosen.size,
        {Path(folder).name: Path(folder) for folder in chosen.pairs},
        None,
        work,
        chosen.output,
        [*TRAINING[chosen.size], *chosen.training],
        chosen.benchmark,
    )
    try:
        if not chosen.tables:
            measure(replace(options, lpips=perceptual_metric(chosen.lpips)))
            (chosen.output / "results").mkdir(parents=True, exist_ok=True)
            for table in sorted(work.glob("*.csv")):
                shutil.copy(table, chosen.output / "results" / table.name)
        if chosen.output != here and not (chosen.output / "README.md").is_file():
            shutil.copy(here / "README.md", chosen.output / "README.md")
        fill(chosen.output / "README.md", report(chosen.output))
    except (UserError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    except subprocess.CalledProcessError as error:
        parser.exit(error.returncode, "error: the command above failed; what was measured is kept\n")
    print(f"table and figure in {chosen.output / 'README.md'}")


class Rows:
    """Rows of a table on disk, saved as they are computed; if the settings have changed, they are computed again.

    Args:
        path: The table, ``NAME.csv``; its settings are stored in ``NAME.json``.
        settings: Everything that the rows depend on.
        key: Columns that identify what a row is about.
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
        """Says whether there are rows with these values of the key."""
        return self._of(about) in self.done

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds all rows with one key at once, so that after an interruption there are either all or none."""
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
    return SimulatedPairs(specimen, "test", images, side, **{"seed": DATASET_SEED, **settings})


def real(folder: Path, split: str = "test") -> PairSource:
    """Returns real pairs."""
    return FolderPairs(folder, split)


def evenly_spaced(source: PairSource, images: int) -> Iterator[Pair]:
    """Yields pairs at equal distances in a set, because neighbouring files show the same field of view."""
    for index in np.linspace(0, len(source) - 1, min(images, len(source))).astype(int):
        yield source[int(index)]


def test_sets(options: Options) -> dict[str, PairSource]:
    """Returns the test pairs of the simulated sets and of the folders of real pairs, cropped to the same side."""
    images, side = options.size["images"], options.size["side"]
    sets: dict[str, PairSource] = {name: simulated(name, images, side) for name in SPECIMENS}
    return sets | {name: CenterCrops(real(folder), side) for name, folder in options.pairs.items()}


def set_of(specimen: str, *overrides: str) -> list[str]:
    """Returns overrides of ``train`` for a simulated set.

    Each image is normalised separately, so that the model can be applied to other sets and doses.
    """
    return [
        f"data=simulated_{specimen}",
        "data/normalisation=matched",
        "data.counts={train:128,val:16,test:16}",
        "data.size=192",
        "data.cache=${folder}/simulated",
        *overrides,
    ]


def pairs_of(overrides: Sequence[str], images: int, side: int) -> PairSource:
    """Returns test pairs of a simulated set described by overrides of ``train``, which no model was trained on."""
    changed = ["data.cache=null", f"data.counts={{train:1,val:1,test:{images}}}", f"data.size={side}"]
    changed += [f"++data.dataset_seed={DATASET_SEED}", "run_folder=unused"]
    config = compose.compose("train", [*overrides, *changed])
    return build(compose.plain(config)["data"]).source("test")


def scores_of(image: np.ndarray, pair: Pair, lpips: Any) -> dict[str, Any]:
    """Returns scores of a restored image with shape (H, W), protocol ``affine``; empty if one cannot be computed."""
    prediction, target = (
        torch.from_numpy(np.asarray(plane, np.float32))[None, None] for plane in (image, pair.high)
    )
    values = score(prediction, target, "affine", lpips=lpips).values
    return {metric: values.get(metric, "") for metric in METRICS}


def psnr_of(image: np.ndarray, high: np.ndarray) -> float:
    """Returns the PSNR of a restored image (H, W), protocol ``affine``, without the cost of other metrics."""
    prediction, target = (
        torch.from_numpy(np.asarray(plane, np.float32))[None, None] for plane in (image, high)
    )
    pair = PROTOCOLS["affine"].apply(prediction, target)
    return psnr(prediction=pair.prediction, target=pair.target, data_range=pair.width()).item()


def blurred(image: np.ndarray) -> Iterator[np.ndarray]:
    """Yields an image (H, W) blurred by each of :data:`BLURS`, float32."""
    for sigma in BLURS:
        yield ndimage.gaussian_filter(image.astype(np.float32), sigma)


def loaded(options: Options, checkpoint: str | Path, method: str = "") -> Restorer:
    """Returns a trained method with its preset in ``options.size["presets"]``, or else its default preset."""
    preset = options.size.get("presets", {}).get(method)
    return Restorer.load(checkpoint, preset=preset, bfloat16="auto")


def checkpoints(
    options: Options, sets: Mapping[str, Sequence[str] | None], methods: Sequence[str]
) -> dict[tuple[str, str], Path]:
    """Returns trained methods by set and method: those of the benchmark in ``options.models``.

    Missing ones are trained by the command ``benchmark``.

    Args:
        options: How the experiment is run.
        sets: Overrides of ``train`` that choose the data, by the name of the set; ``None`` for a set of the benchmark.
        methods: Rows of the benchmark.
    """
    place = options.models
    chosen = [*options.training, *options.size.get("benchmark", ())]
    known = compose.compose("benchmark", chosen)
    for name, overrides in sets.items():
        missing = {method for method in methods if not (place / name / method / "job.json").is_file()}
        if not missing:
            continue
        for _ in range(2):  # a row may use the checkpoint of a flow, which starts from a regressor
            missing |= {known.methods[m].get(key) for m in missing for key in ("mean", "trained")} - {None}
        others = [f"sets.{other}=null" for other in known.sets if other != name]
        if overrides is not None:
            listed = ",".join(f'"{override}"' for override in overrides)
            others.append(f"{'' if name in known.sets else '+'}sets.{name}=[{listed}]")
        others += [f"~methods.{method}" for method in known.methods if method not in missing]
        command("benchmark", *chosen, *others, f"folder={place}", f"output={place / 'tables' / name}")
    return {(s, m): _best(place / s, m, known.methods) for s in sets for m in methods}


def _best(place: Path, method: str, methods: Mapping[str, Any]) -> Path:
    trained = methods[method].get("trained", method)
    return place / trained / "run" / "checkpoints" / "best.ckpt"


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


def differences(
    rows: Iterable[Mapping[str, str]], others: Iterable[Mapping[str, str]], column: str = "psnr"
) -> list[dict[str, str]]:
    """Returns a row with ``difference``, first minus second, for each image that both have."""
    known = {(row["set"], row["image"]): float(row[column]) for row in others if row[column]}
    return [
        {
            "image": f"{row['set']}/{row['image']}",
            "field": f"{row['set']}/{row['field'] or row['image']}",
            "difference": f"{float(row[column]) - known[row['set'], row['image']]:.6g}",
        }
        for row in rows
        if row[column] and (row["set"], row["image"]) in known
    ]


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table in Markdown."""
    lines = [list(header), ["---"] * len(header), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill(readme: Path, tables: Mapping[str, str]) -> None:
    """Updates the tables of a README, each between ``<!-- NAME -->`` and ``<!-- end NAME -->``.

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
