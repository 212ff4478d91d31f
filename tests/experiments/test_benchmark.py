"""The command of the benchmark: what it runs, and, slowly, every row of the authors' settings for two steps."""

import csv
import json
from pathlib import Path

import pytest

from ddpm_lightning.benchmark.settings import BenchmarkSettings
from ddpm_lightning.cli import compose
from ddpm_lightning.models.build import build_method
from ddpm_lightning.utils.allowed_classes import OWN
from experiments.benchmark import run
from tests.forks import fork_jobs


@pytest.mark.parametrize("size", run.SIDES)
@pytest.mark.parametrize("scaled", [False, True])
def test_overrides_are_settings_of_a_benchmark(size, scaled):
    given = run.overrides(size, ["somewhere/mine"], steps=2, scaled=scaled and size == "full")
    settings = compose.settings(
        compose.compose("benchmark", [*given, "folder=a", "output=b"]), BenchmarkSettings
    )
    assert settings.sets["mine"] == ["data=folder", "data.root=somewhere/mine"]
    assert settings.budget.steps == 2 and settings.methods["regression"].every_seed
    if not scaled:
        assert (
            settings.seeds == [0, 1, 2]
            and "data.counts={train:256,val:16,test:60}" in settings.sets["zebrafish"]
        )


def test_authors_crops_fit_into_the_images():
    settings = compose.plain(compose.compose("benchmark", run.overrides("full")))
    for name, method in settings["methods"].items():
        if method.get("train") and method.get("budget"):
            mean = ["model.mean=a.ckpt"] if method.get("mean") else []
            config = compose.compose("train", [*settings["sets"]["zebrafish"], *method["train"], *mean])
            assert config.data.crop <= config.data.size == run.SIDES["full"], name


def test_every_row_that_is_trained_can_be_scaled():
    methods = compose.compose("benchmark", ["methods=full"]).methods
    assert {name for name, method in methods.items() if method.get("budget")} == set(run.SCALED)


@pytest.mark.parametrize("there", [False, True])
def test_bm3d_is_a_row_where_it_is_installed(there, monkeypatch):
    monkeypatch.setattr(run, "installed", lambda: there)
    methods = compose.plain(compose.compose("benchmark", run.overrides("small")))["methods"]
    assert ("vst_bm3d" in methods) == there
    if there:
        model = compose.compose("train", methods["vst_bm3d"]["train"]).model
        assert build_method(compose.plain(model), OWN).strengths


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_steps_of_every_row_in_the_authors_settings(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fork_jobs(capsys, monkeypatch)
    arguments = ["--size", "full", "--steps", "2", "--scaled", "--folder", "jobs", "--output", "table"]
    run.main(arguments)
    with Path("table/table.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["row"].split(",")[0] for row in csv.DictReader(file)}
    more = ["vst_bm3d"] if run.installed() else []
    assert rows == {"raw", "nafnet", *more, *compose.compose("benchmark", ["methods=full"]).methods}

    augmented = Path("table/table_tta.md").read_text("utf-8").splitlines()
    cost = {
        row.split(" | ")[0].strip("| "): row.split(" | ", 1)[1] for row in augmented if row.startswith("| ")
    }
    assert cost["gaussian"].endswith("| 1 | 8 |"), "a filter is applied in eight orientations"
    assert cost["pmrf, average of 2"].endswith("| 7 | 14 |"), (
        "and so is a regressor: 1 + 2 x 3, and 8 + 2 x 3"
    )
    record = json.loads(Path("jobs/microtubules/pmrf/job.json").read_text())
    assert record["parameters"] > 1e4 and record["seconds_per_sample"] > 0

    before = {path: path.stat().st_mtime_ns for path in Path("jobs").rglob("*") if path.is_file()}
    run.main(arguments)
    assert before == {path: path.stat().st_mtime_ns for path in Path("jobs").rglob("*") if path.is_file()}
