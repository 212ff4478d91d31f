"""The measurements on a GPU, in small on a CPU: no script may fail for a silly reason when there is a GPU at last."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from ddpm_lightning.utils.atomic import read_json
from experiments.gpu import inference, loader, roofline, run, training, trainings
from experiments.gpu.results import Results
from experiments.gpu.tables import tables

HERE = Path(run.__file__).parent


def results(folder, name, **settings):
    return Results(folder / f"{name}.json", torch.device("cpu"), tiny=True, **{"seconds": 600, **settings})


def test_rows_survive_and_are_not_measured_again(tmp_path):
    measured = []

    def work(value):
        measured.append(value)
        if value == "bad":
            raise ValueError("no")
        return {"ms": value}

    first = results(tmp_path, "roofline")
    first.measure("good", lambda: work(1))
    first.measure("bad", lambda: work("bad"))
    again = results(tmp_path, "roofline", seconds=30)
    again.measure("good", lambda: work(2))
    again.measure("bad", lambda: work(3))
    assert again.measure("long", lambda: work(4), needs=100) == {}
    again.write(complete=True)
    content = read_json(again.path)
    assert measured == [1, "bad", 3] and content["left_out"] == ["long"] and not content["complete"]
    made = tables(tmp_path)
    assert made["roofline"].splitlines()[2:] == ["| good | 1 |", "| bad | 3 |"]
    assert made["training"].startswith("No GPU") and "mean nothing" in made["device"]


def test_a_part_that_takes_too_long_is_stopped(monkeypatch):
    begun = []
    inner = subprocess.Popen

    def popen(command, **settings):
        begun.append(inner(["sleep", "60"], start_new_session=settings["start_new_session"]))
        return begun[-1]

    monkeypatch.setattr(run.subprocess, "Popen", popen)
    assert run.run_part(run.PARTS[0], [], 0.2).startswith("stopped")
    assert begun[0].poll() is not None


def test_the_readme_claims_nothing_that_was_not_measured(tmp_path):
    """Its tables are those of the committed results."""
    shutil.copy(HERE / "README.md", tmp_path / "README.md")
    if (HERE / "results").is_dir():
        shutil.copytree(HERE / "results", tmp_path / "results")
    assert run.main(["--tables", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "README.md").read_text() == (HERE / "README.md").read_text()


@pytest.mark.slow
def test_every_part_in_small(tmp_path, command, blank_figures, monkeypatch):
    def call(*arguments):
        answer = command(*arguments)
        assert answer.code == 0, answer.err

    monkeypatch.setattr(trainings, "call", call)
    for part in (roofline, training, inference, loader, trainings):
        name = part.__name__.rpartition(".")[2]
        part.measure(found := results(tmp_path / "results", name))
        assert read_json(found.path)["complete"], found.rows


@pytest.mark.slow
def test_the_tests_for_gpus_in_small(tmp_path, monkeypatch):
    """Every test function once, by the command itself."""
    arguments = ["--device", "cpu", "--tiny", "--parts", "tests", "--output", str(tmp_path)]
    assert run.main([*arguments, "--minutes", "30"]) == 0
    rows = read_json(tmp_path / "results" / "tests.json")["rows"]
    assert sum(row["outcome"] == "passed" for row in rows.values()) >= 7
    assert "passed" in (tmp_path / "README.md").read_text()
