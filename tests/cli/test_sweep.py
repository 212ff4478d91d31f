"""Sweeps, with jobs that are played: what is run, what is left alone, and what is written at the end."""

import csv
import json
import os
import signal
import sys
from itertools import product

import pytest
from matplotlib.axes import Axes

from ddpm_lightning.cli import sweep
from ddpm_lightning.reporting.sweep import SweepJob, plot_sweep, write_sweep
from ddpm_lightning.utils.errors import Interrupted
from tests.cli.test_verbs import TINY


@pytest.fixture
def jobs(monkeypatch):
    """Plays the processes of jobs: a training ends well unless its seed is 1, with a loss of its learning rate."""
    started = []

    def play(command, name, asked):
        started.append(command)
        given = dict(part.split("=", 1) for part in command if "=" in part)
        folder = given.get("run_folder", given.get("resume")).strip("'")
        if given.get("seed") == "1":
            return 2
        status = {"state": "finished", "objective": float(given.get("model.optimizer.lr", 0.5)), "step": 3}
        with open(os.path.join(folder, "status.json"), "w") as file:
            json.dump({**status, "metrics": {"val/loss": 0.25}, "seconds": 1.5}, file)
        return 0

    monkeypatch.setattr(sweep, "_run", play)
    return started


def table(folder):
    with (folder / "summary.csv").open() as file:
        return list(csv.DictReader(file))


GRID = ["train", "--multirun", "model.optimizer.lr=0.001,0.1", "seed=0,1,2", "hydra.sweep.dir=sweep"]


@pytest.mark.slow
def test_a_failed_job_ends_nothing_and_finished_jobs_are_left_alone(command, jobs, tmp_path):
    answer = command(*GRID)
    assert answer.code == 2 and "1 (failed), 4 (failed)" in answer.err and len(jobs) == 6
    assert all(job[-1] == "hydra.mode=RUN" and f"run_folder={tmp_path}/sweep/" in job[-2] for job in jobs)
    rows = table(tmp_path / "sweep")
    assert [row["state"] for row in rows] == ["finished", "failed", "finished"] * 2
    assert [(row["model.optimizer.lr"], row["seed"]) for row in rows[:4]] == [
        ("0.001", "0"),
        ("0.001", "1"),
        ("0.001", "2"),
        ("0.1", "0"),
    ]
    assert rows[3]["objective"] == "0.1" and rows[3]["val/loss"] == "0.25" and rows[1]["objective"] == ""
    assert (tmp_path / "sweep" / "summary.png").is_file()

    jobs.clear()
    checkpoint = tmp_path / "sweep" / "4" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    assert command(*GRID).code == 2
    assert len(jobs) == 2, "only those that failed"
    assert jobs[1][-1] == f"resume={tmp_path}/sweep/4", "a saved one is resumed"
    assert [row["state"] for row in table(tmp_path / "sweep")].count("finished") == 5
    jobs.clear()
    assert command(*GRID).code == 2 and len(jobs) == 1, "the one that always fails"


@pytest.mark.slow
def test_another_sweep_in_the_same_folder_is_refused(command, jobs, tmp_path):
    assert command("train", "-m", "seed=0,2", "hydra.sweep.dir=sweep").code == 0
    answer = command("train", "-m", "seed=5,2", "hydra.sweep.dir=sweep")
    assert answer.code == 2 and "holds another job: train seed=0" in answer.err
    assert len(jobs) == 2
    answer = command("train", "-m", "seed=0,2", "hydra.sweep.dir=other", "run_folder=here")
    assert answer.code == 2 and "hydra.sweep.dir" in answer.err


def test_a_file_of_the_tree_is_a_sweep(command, jobs, tmp_path):
    assert command("train", "sweep=dose", "hydra.sweep.dir=sweep").code == 0
    assert [row["data.dose"] for row in table(tmp_path / "sweep")] == ["0.25", "0.5", "1.0", "2.0", "4.0"]


def test_a_sweep_inside_of_a_distributed_run_is_refused(command, jobs, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    answer = command("train", "-m", "seed=0,2", "hydra.sweep.dir=sweep")
    assert answer.code == 2 and "torchrun" in answer.err and not jobs


def test_scores_of_evaluations_are_in_the_table(tmp_path):
    for number, (samples, psnr) in enumerate(((1, 20.0), (5, 22.5))):
        folder = tmp_path / str(number)
        folder.mkdir()
        record = {"verb": "evaluate", "overrides": ["seed=0", f"samples={samples}"], "state": "finished"}
        (folder / "job.json").write_text(json.dumps(record))
        scores = {"estimators": {"average": {"psnr": {"median": psnr}, "ms_ssim": None}}}
        (folder / "summary.json").write_text(json.dumps(scores))
    write_sweep(tmp_path)
    rows = table(tmp_path)
    assert [(row["samples"], row["average/psnr"]) for row in rows] == [("1", "20.0"), ("5", "22.5")]
    assert "seed" not in rows[0], "the same in all jobs"
    assert (tmp_path / "summary.png").is_file()


@pytest.mark.parametrize(
    ("settings", "connected"),
    [
        (["seed"], []),
        (["samples"], [[1, 2]]),
        (["samples", "seed"], [[1, 2]]),
        (["samples", "tile", "seed"], [[1, 2]] * 2),
    ],
)
def test_seeds_are_points_and_no_line(tmp_path, monkeypatch, settings, connected):
    drawn = []
    inner = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *a, **k: drawn.append(a) or inner(self, *a, **k))
    values = {"seed": (0, 1, 2), "samples": (1, 2), "tile": (64, 128)}
    chosen = [
        dict(zip(settings, map(str, one), strict=True))
        for one in product(*(values[name] for name in settings))
    ]
    results = [
        SweepJob(str(number), "finished", one, {"objective": 0.1 * number})
        for number, one in enumerate(chosen)
    ]
    plot_sweep(results, tmp_path / "summary.png")
    assert [list(x) for x, _, style in drawn if style == "-"] == connected
    assert sum(len(x) for x, _, style in drawn if style == "o") == len(results)
    if settings == ["samples", "seed"]:
        assert drawn[1][1] == pytest.approx([0.1, 0.4])


def test_signals_reach_the_job_once(tmp_path):
    """The job is told by SIGTERM, ends in its own way, and the sweep stops."""
    script = (
        "import os, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *a: (open({str(tmp_path / 'told')!r}, 'a').write('x'), sys.exit(143)))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(30)\n"
    )
    saved = []
    launcher = lambda number, frame: saved.append((tmp_path / "told").read_text())  # noqa: E731
    before = signal.signal(signal.SIGTERM, launcher)
    try:
        with pytest.raises(Interrupted) as stop:
            sweep._run([sys.executable, "-c", script], "sweep", TINY)
        assert stop.value.code == 143 and (tmp_path / "told").read_text() == "x"
        assert signal.getsignal(signal.SIGTERM) is launcher
        # The handler of a cluster's launcher is called once, and after the job has saved.
        assert saved == ["x"]
    finally:
        signal.signal(signal.SIGTERM, before)
