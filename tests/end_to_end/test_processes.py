"""Real processes: distributed training, and sweeps whose jobs are processes of their own."""

import csv
import json
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


def test_a_sweep_makes_one_folder_for_each_job_and_survives_a_failing_one(pair_folder, tmp_path):
    common = [f"data.root={pair_folder}", "trainer.max_steps=2", "hydra.sweep.dir=sweep"]
    tiny = [setting for setting in TINY if not setting.startswith("data.crop")]
    answer = ddpm_lightning(
        "train", "--multirun", *tiny, *common, "data.crop=32,500", "seed=0,1", folder=tmp_path
    )
    assert answer.returncode == 2, "two jobs ask for crops larger than the images"
    assert "data.crop" in answer.stderr and "Traceback" not in answer.stderr
    states = {}
    for job in range(4):
        status = tmp_path / "sweep" / str(job) / "status.json"
        states[job] = json.loads(status.read_text())["state"] if status.is_file() else None
    assert states == {0: "finished", 1: "finished", 2: None, 3: None}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs", "sweep"]
