"""Searches and launchers that further packages bring: with `pip install ".[sweep,joblib,slurm]"`."""

import csv
import re
import resource
import shlex

import pytest
import yaml

from ddpm_lightning.cli.compose import config_folder
from tests.cli.test_verbs import TINY
from tests.end_to_end.test_processes import ddpm_lightning

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def table(folder):
    with (folder / "summary.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_search_of_the_documentation_finds_a_learning_rate_in_minutes(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason='needs pip install ".[sweep]"')
    text = (config_folder() / "sweep" / "optuna.yaml").read_text()
    documented = shlex.split(re.search("^# ddpm-lightning (.+)$", text, re.MULTILINE).group(1))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = ddpm_lightning(*documented, folder=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert answer.returncode == 0, answer.stderr
    # Processor time: one job at a time on one thread, so it is what a clock shows where nobody else computes.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 300
    trials = table(tmp_path / "sweeps" / "rate")
    best = min(float(row["objective"]) for row in trials if row["objective"])

    common = [part for part in documented if not part.startswith(("sweep=", "hydra.sweep.dir="))]
    corners = ["train", "--multirun", *common[1:], "model.optimizer.lr=1e-5,1e-1", "hydra.sweep.dir=corners"]
    ddpm_lightning(*corners, folder=tmp_path)
    worst = max(float(row["objective"] or "inf") for row in table(tmp_path / "corners"))
    print(f"{seconds:.0f} s, {len(trials)} trials, best {best:.3f}, worst corner {worst:.3f}")
    assert best < 0.9 * worst


def test_a_search_and_jobs_side_by_side(pair_folder, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    settings = [*TINY, "callbacks.images=null", f"data.root={pair_folder}", "trainer.max_steps=4"]
    given = [
        "hydra.sweep.dir=sweep",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.n_jobs=2",
        "hydra/launcher=joblib",
    ]
    # The upper half of the interval diverges.
    span = "hydra.sweeper.params={model.optimizer.lr: 'tag(log, interval(1e-3, 1e30))'}"
    answer = ddpm_lightning("train", "sweep=optuna", *settings, *given, span, folder=tmp_path)
    with (tmp_path / "sweep" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and {row["state"] for row in rows} >= {"failed"}, answer.stderr
    assert (tmp_path / "sweep" / "optimization_results.yaml").is_file(), "failed trials do not end the search"


def test_jobs_beside_each_other(pair_folder, tmp_path):
    """Of joblib, and of submitit's executor for this machine: what the one for clusters does, without a cluster."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason='needs pip install ".[joblib]"')
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason='needs pip install ".[slurm]"')
    settings = [*TINY, "callbacks.images=null", f"data.root={pair_folder}", "trainer.max_steps=2"]
    for launcher in ("joblib", "submitit_local"):
        given = [f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}", "seed=0,1"]
        answer = ddpm_lightning("train", "--multirun", *settings, *given, folder=tmp_path)
        assert answer.returncode == 0, answer.stderr
        rows = table(tmp_path / launcher)
        assert [(row["seed"], row["state"]) for row in rows] == [("0", "finished"), ("1", "finished")]
        assert all(0 < float(row["val/loss"]) < 10 for row in rows)


def test_the_launcher_for_clusters_is_only_filled_in(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason='needs pip install ".[slurm]"')
    filled = ["hydra/launcher=slurm", "hydra.launcher.partition=gpu", "hydra.launcher.cpus_per_task=4"]
    asked = ["--cfg", "hydra", "--package", "hydra.launcher"]
    answer = ddpm_lightning("train", "sweep=dose", *filled, *asked, folder=tmp_path)
    assert answer.returncode == 0, answer.stderr
    launcher = yaml.safe_load(answer.stdout)
    assert launcher["_target_"].endswith("SlurmLauncher") and launcher["tasks_per_node"] == 1
    assert (launcher["partition"], launcher["cpus_per_task"]) == ("gpu", 4)
