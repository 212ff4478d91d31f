"""Trains every method on every data set under the same budget, scores all in the same way, and writes one table.

Examples:
  ddpm-lightning benchmark
  ddpm-lightning benchmark budget.seconds=60 only=[regression,ddpm,pmrf] folder=runs/try output=runs/try/table
  ddpm-lightning benchmark seeds=[0,1,2]
  ddpm-lightning benchmark '+sets.mine=["data=folder","data.root=DIR"]' '~sets.synapses'
  ddpm-lightning benchmark methods=full 'train=["trainer=gpu"]' budget.seconds=7200 center_crop=null

Leaves in the output folder: table.md (to read), table_PROTOCOL.md, table_tta.md (with test-time augmentation, all
others without), table.csv, differences.csv, uncertainty.csv, scores_PROTOCOL.csv (a row for each image), tta.csv
(what the augmentation changes), seeds.csv (over several seeds), figures/. A job is one method on one data
set with one seed; its command lines, run, checkpoint and evaluation are in the folder of trainings. Finished jobs are
kept: to resume a stopped benchmark, or to add methods, data sets or seeds, start it again. Jobs that fail are listed,
and the exit code is then 3.

All methods have the same budget; those of two stages divide it between them. If it is given in seconds, the
speed of each method determines its number of steps. The speed is measured on the first data set before the trainings
start, in several rounds over all methods, so that other load on the machine affects all of them. Methods left out by
`only` are measured when they are first run: run the parts of a benchmark on the same machine.
"""

import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from ddpm_lightning.benchmark.jobs import Program
from ddpm_lightning.benchmark.run import run_benchmark
from ddpm_lightning.benchmark.settings import BenchmarkSettings
from ddpm_lightning.cli import compose
from ddpm_lightning.cli.evaluate import EvaluateCommand
from ddpm_lightning.evaluation.settings import EvaluateSettings
from ddpm_lightning.utils.paths import expanded

__all__ = ["run"]


def run(config: DictConfig) -> int:
    """Fills the table; returns 3 if jobs failed."""
    settings = compose.settings(config, BenchmarkSettings)
    failed = run_benchmark(settings, Program([sys.executable, "-m", "ddpm_lightning"], _evaluate_settings))
    print(f"\ntable in {expanded(settings.output) / 'table.md'}")
    return 3 if failed else 0


def _evaluate_settings(overrides: Sequence[str]) -> EvaluateSettings:
    return compose.settings(compose.compose("evaluate", list(overrides)), EvaluateCommand)
