"""Real processes: distributed training, and sweeps whose jobs are processes of their own."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.test_verbs import TINY

pytestmark = pytest.mark.slow


def ddpm_lightning(*arguments: str, folder: Path, limit: int = 280) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("DDPM_LIGHTNING_RUN_FOLDER", None)
    return subprocess.run(
        [sys.executable, "-m", "ddpm_lightning", *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=limit,
    )


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]


def test_two_processes_train_like_one(pair_folder, tmp_path):
    weights = {}
    for name, trainer in (("one", "cpu"), ("two", "ddp_cpu")):
        answer = ddpm_lightning(
            "train",
            *[setting for setting in TINY if setting != "trainer=cpu"],
            f"trainer={trainer}",
            f"data.root={pair_folder}",
            "trainer.max_steps=6",
            f"run_folder={name}",
            folder=tmp_path,
        )
        assert answer.returncode == 0, answer.stderr
        weights[name] = torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "pairs", "two"], (
        "one folder for each run"
    )
    for key, weight in weights["one"].items():
        torch.testing.assert_close(weights["two"][key], weight, rtol=1e-3, atol=1e-4)
    for ours, other in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert ours == pytest.approx(other, rel=1e-3)


def test_a_sweep_of_distributed_runs_makes_one_folder_for_each_job(pair_folder, tmp_path):
    settings = [setting for setting in TINY if setting not in ("trainer=cpu", "model=ddpm_small")]
    sweep = [
        "train",
        "--multirun",
        "model=ddpm_small,regression_small",
        "seed=0,-1",
        "trainer=ddp_cpu",
        *[setting for setting in settings if not setting.startswith("model.sampler")],
        "callbacks.samples=null",
        f"data.root={pair_folder}",
        "trainer.max_steps=2",
        "hydra.sweep.dir=sweep",
    ]
    answer = ddpm_lightning(*sweep, folder=tmp_path)
    assert answer.returncode == 2, "no seed is negative"
    assert "seed" in answer.stderr and "Traceback" not in answer.stderr
    with (tmp_path / "sweep" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["finished", "failed", "finished", "failed"]
    assert all(0 < float(row["val/loss"]) < 10 for row in rows[::2])
    folders = sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    assert folders == ["0", "1", "2", "3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs", "sweep"]
    before = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob("[02]/**/*") if path.is_file()
    }
    again = ddpm_lightning(*sweep, folder=tmp_path)
    assert again.returncode == 2 and again.stdout.count("is finished already") == 2
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_search_and_jobs_side_by_side(pair_folder, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    settings = [*TINY, "callbacks.samples=null", f"data.root={pair_folder}", "trainer.max_steps=4"]
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
