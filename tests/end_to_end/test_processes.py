"""Real processes: distributed training, and sweeps whose jobs are processes of their own."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.test_verbs import TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def ddpm_lightning(*arguments: str, folder: Path, limit: int = 900) -> subprocess.CompletedProcess:
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
    """Four runs, of which one fails by an obstacle in its folder; then that one alone; then nothing is left to do."""
    settings = [setting for setting in TINY if setting not in ("trainer=cpu", "model=ddpm_small")]
    sweep = [
        "train",
        "--multirun",
        "model=ddpm_small,regression_small",
        "seed=0,1",
        "trainer=ddp_cpu",
        *[setting for setting in settings if not setting.startswith("model.sampler")],
        "callbacks.images=null",
        f"data.root={pair_folder}",
        "trainer.max_steps=2",
        "hydra.sweep.dir=sweep",
    ]
    obstacle = tmp_path / "sweep" / "1" / "status.json"
    obstacle.mkdir(parents=True)

    def rows():
        with (tmp_path / "sweep" / "summary.csv").open() as file:
            return list(csv.DictReader(file))

    def files():
        return {
            path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob("*/**/*") if path.is_file()
        }

    first = ddpm_lightning(*sweep, folder=tmp_path)
    assert first.returncode == 2 and "1 (failed)" in first.stderr and "Traceback" not in first.stderr
    assert [row["state"] for row in rows()] == ["finished", "failed", "finished", "finished"]
    obstacle.rmdir()
    before = {path: time for path, time in files().items() if path.relative_to(tmp_path).parts[1] != "1"}

    second = ddpm_lightning(*sweep, folder=tmp_path)
    assert second.returncode == 0 and second.stdout.count("is finished already") == 3, second.stderr
    asked = [("ddpm_small", "0"), ("ddpm_small", "1"), ("regression_small", "0"), ("regression_small", "1")]
    assert [(row["model"], row["seed"]) for row in rows()] == asked
    assert all(row["state"] == "finished" and 0 < float(row["val/loss"]) < 10 for row in rows())
    assert before == {path: files()[path] for path in before}
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()) == [
        "0",
        "1",
        "2",
        "3",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs", "sweep"]

    before = files()
    third = ddpm_lightning(*sweep, folder=tmp_path)
    assert third.returncode == 0 and third.stdout.count("is finished already") == 4, third.stderr
    assert before == files()
