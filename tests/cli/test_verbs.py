"""The main job on a tiny data set: train, resume, evaluate, restore; every file that they promise."""

import csv
import json
import shutil

import numpy as np
import pytest
import tifffile
import torch

from ddpm_lightning import __version__
from ddpm_lightning.cli.main import VERBS
from tests.conftest import write_pairs
from tests.trained import write_checkpoint

TINY = [
    "model=ddpm_small",
    "model.network.base=8",
    "model.network.multipliers=[1,2]",
    "model.sampler.steps=3",
    "data=folder",
    "data.crop=32",
    "data.batch_size=4",
    "data.validation_crops=4",
    "trainer=cpu",
    "trainer.precision=32-true",
    "callbacks.images.samples=2",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder of the one run that all tests of this file copy."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def run(command, place, tmp_path):
    """A run of 6 steps on a small data set."""
    trained = place / "run"
    if not trained.is_dir():
        settings = [f"data.root={write_pairs(place / 'pairs')}", "trainer.max_steps=6"]
        answer = command("train", *TINY, *settings, f"run_folder={trained}")
        assert answer.code == 0, answer.err
        assert f"best checkpoint {trained}/checkpoints/best.ckpt" in answer.out
    return shutil.copytree(trained, tmp_path / "runs" / "tiny")


def test_help_names_the_verbs_and_their_examples(command):
    overview = command("--help")
    assert overview.code == 0 and all(verb in overview.out for verb in VERBS)
    assert __version__ in command("--version").out
    for verb in VERBS:
        answer = command(verb, "--help")
        assert answer.code == 0 and "Examples:" in answer.out and f"ddpm-lightning {verb}" in answer.out


def test_the_configuration_is_printed_and_nothing_is_run(command, tmp_path):
    answer = command("train", "--cfg", "job", "seed=7")
    assert answer.code == 0 and "seed: 7" in answer.out and "network:" in answer.out
    assert not list(tmp_path.iterdir())


def test_a_run_leaves_what_it_promises(run):
    for name in (
        "config.yaml",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "metrics.csv",
        "status.json",
    ):
        assert (run / name).is_file(), name
    assert list((run / "figures").glob("samples_*.png"))
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "finished" and status["step"] == 6
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["val/loss"]) > 0 and float(rows[-1]["val/psnr"]) > 0
    assert "data" in (run / "config.yaml").read_text()


def test_checkpoints_hold_plain_containers_and_both_sets_of_weights(run):
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["card"]["normalisation"]["state"]["input"]["high"] > 0
    averaged, live = content["state_dict"], content["current_model_state"]
    assert averaged.keys() == live.keys()
    assert any(not torch.equal(averaged[name], live[name]) for name in averaged)
    for name, weight in live.items():
        if name.endswith("weight"):
            # Forced to unit mean square after the last step, in the live weights.
            assert weight.flatten(1).square().mean(1).sqrt().sub(1).abs().max() < 1e-3, name


def test_a_resumed_run_continues_in_its_folder(command, run):
    before = {path: path.read_bytes() for path in (run / "figures").iterdir()}
    answer = command("train", f"resume={run}", "trainer.max_steps=12")
    assert answer.code == 0, answer.err
    assert json.loads((run / "status.json").read_text())["step"] == 12
    assert all(path.read_bytes() == content for path, content in before.items())
    with (run / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps)) and min(steps) < 6 < max(steps)
    # Nothing left to do: no more steps, no error.
    assert command("train", f"resume={run}").code == 0


def test_a_resumed_run_keeps_its_configuration(command, run):
    answer = command("train", f"resume={run}", "seed=5")
    assert answer.code == 2 and answer.subject == "seed"


def test_a_folder_with_a_run_is_not_overwritten(command, run, pair_folder):
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    answer = command("train", *TINY, f"data.root={pair_folder}", f"run_folder={run}")
    assert answer.code == 2 and "already contains a run" in answer.err and "resume=" in answer.err
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before


def test_evaluate_leaves_the_contract(command, run, tmp_path):
    answer = command(
        "evaluate",
        f"checkpoint={run}/checkpoints/best.ckpt",
        "samples=3",
        "figures=2",
        f"output={tmp_path}/scores",
    )
    assert answer.code == 0, answer.err
    assert "| average |" in answer.out
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert summary["protocol"] == "range" and summary["split"] == "test" and summary["samples"] == 3
    assert summary["data"] == "pairs" and set(summary["estimators"]) == {"raw", "single", "average"}
    for numbers in summary["estimators"].values():
        for metric in ("mae", "psnr", "nrmse", "pearson"):
            assert np.isfinite([numbers[metric]["median"], numbers[metric]["mean"]]).all()
        for metric in ("ms_ssim", "resolution"):
            assert numbers[metric] is None and numbers["absent"][metric]
    with (tmp_path / "scores" / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3 * 3
    assert (tmp_path / "scores" / "summary.md").is_file()
    assert len(list((tmp_path / "scores" / "figures").glob("*.png"))) >= 2


def test_an_evaluation_leaves_nothing_of_an_earlier_one(command, run, tmp_path):
    scores, common = (
        tmp_path / "scores",
        (f"checkpoint={run}/checkpoints/best.ckpt", "sampler.steps=1", "limit=1"),
    )
    assert (
        command("evaluate", *common, "samples=2", "figures=1", "also=[affine]", f"output={scores}").code == 0
    )
    assert (scores / "metrics_affine.csv").is_file() and (scores / "viewer").is_dir()
    assert command("evaluate", *common, "samples=1", "figures=0", f"output={scores}").code == 0
    assert {path.name for path in scores.iterdir()} == {"metrics.csv", "summary.json", "summary.md"}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["output={run}"], ["is the folder of a run", "evaluation"]),
        (["output={run}/config.yaml/x"], ["config.yaml", "is not a folder"]),
        (["checkpoint={run}"], ["is the folder of a run", "best.ckpt"]),
    ],
    ids=["folder of a run", "below a file", "run as checkpoint"],
)
def test_places_that_cannot_be_are_refused_before_the_work(command, run, overrides, words):
    before = sorted(run.rglob("*"))
    given = [override.format(run=run) for override in overrides]
    answer = command("evaluate", f"checkpoint={run}/checkpoints/best.ckpt", "limit=1", *given)
    assert answer.code == 2 and all(word in answer.err for word in words), answer.err
    assert sorted(run.rglob("*")) == before


def test_a_centre_larger_than_the_images_is_refused(command, run, tmp_path):
    given = (
        f"checkpoint={run}/checkpoints/best.ckpt",
        "samples=1",
        f"output={tmp_path}/scores",
        "center_crop=4000",
    )
    answer = command("evaluate", *given)
    assert answer.code == 2 and "center_crop=4000: " in answer.err and answer.remedy


def test_a_run_is_not_made_shorter(command, run):
    before = (run / "config.yaml").read_bytes(), (run / "status.json").read_bytes()
    answer = command("train", f"resume={run}", "trainer.max_steps=1")
    assert answer.code == 2 and answer.subject == "trainer.max_steps=1"
    assert ((run / "config.yaml").read_bytes(), (run / "status.json").read_bytes()) == before


@pytest.mark.parametrize("protocol", ["paper", "affine"])
def test_other_protocols_data_and_samplers(command, run, pair_folder, tmp_path, protocol):
    answer = command(
        "evaluate",
        f"checkpoint={run}/checkpoints/last.ckpt",
        "data=folder",
        f"data.root={pair_folder}",
        "split=val",
        "sampler=ddim",
        "sampler.steps=2",
        "samples=2",
        f"protocol={protocol}",
        f"output={tmp_path}/scores",
    )
    assert answer.code == 0, answer.err
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert summary["protocol"] == protocol
    assert (summary["preset"], summary["sampler"]) == (
        "custom",
        "ddim with 2 of 200 steps, test-time augmentation",
    )
    assert summary["images"] == 2


def test_restore_keeps_name_axes_type_and_size(command, run, pair_folder, tmp_path):
    answer = command(
        "restore",
        f"checkpoint={run}/checkpoints/best.ckpt",
        f"input={pair_folder}/test/low/00000.tif",
        f"output={tmp_path}/restored",
        "samples=2",
    )
    assert answer.code == 0, answer.err
    before = tifffile.imread(pair_folder / "test/low/00000.tif")
    after = tifffile.imread(tmp_path / "restored" / "00000.tif")
    assert after.dtype == before.dtype == np.uint16 and after.shape == before.shape
    assert tifffile.imread(tmp_path / "restored" / "00000_std.tif").dtype == np.float32
    record = json.loads((tmp_path / "restored" / "restore.json").read_text())
    assert record["files"][0]["file"] == "00000.tif" and len(record["model"]["sha256"]) == 64


def test_what_is_scored_is_what_restore_writes(command, pair_folder, tmp_path):
    """The same samples, borders and scale: the numbers of an evaluation are those of the files."""
    model = f"checkpoint={write_checkpoint(tmp_path / 'best.ckpt', per_image=True)}"
    data = ["data=folder", f"data.root={pair_folder}"]
    places = [f"input={pair_folder}/test/low/00000.tif", f"output={tmp_path}/restored"]
    assert command("restore", model, *places, "samples=2").code == 0
    assert (
        command(
            "evaluate", model, *data, f"output={tmp_path}/scores", "samples=2", "limit=1", "figures=0"
        ).code
        == 0
    )
    with (tmp_path / "scores" / "metrics.csv").open() as file:
        (scored,) = [row for row in csv.DictReader(file) if row["estimator"] == "average"]
    restored = tifffile.imread(tmp_path / "restored" / "00000.tif").astype(float)
    target = tifffile.imread(pair_folder / "test/high/00000.tif").astype(float)
    # Files hold whole numbers of thousands, which is all that may differ; without the margin it is six times as much.
    assert float(scored["mae"]) == pytest.approx(np.abs(restored - target).mean(), abs=0.05)
    error = np.sqrt(np.square(restored - target).mean())
    assert float(scored["psnr"]) == pytest.approx(20 * np.log10(np.ptp(target) / error), abs=0.0005)


def test_one_bad_file_among_many_is_reported_and_skipped(command, run, pair_folder, tmp_path):
    low = pair_folder / "test" / "low"
    (low / "00001.tif").write_bytes(b"II*\0 broken")
    arguments = ["restore", f"checkpoint={run}/checkpoints/best.ckpt", f"input={low}", "samples=2"]
    answer = command(*arguments, f"output={tmp_path}/restored")
    assert answer.code == 3 and "00001.tif" in answer.out and "2 of 3 files restored" in answer.out
    assert {p.name for p in (tmp_path / "restored").glob("*.tif")} == {
        "00000.tif",
        "00000_std.tif",
        "00002.tif",
        "00002_std.tif",
    }
    record = json.loads((tmp_path / "restored" / "restore.json").read_text())
    assert "error" in record["files"][1]
    stopped = command(*arguments, f"output={tmp_path}/stopped", "on_error=stop")
    assert stopped.code == 2 and "00001.tif" in stopped.err


def test_a_new_run_removes_no_file_of_others(command, pair_folder, tmp_path):
    """Neither where it is refused, nor under the names that a run gives to its files."""
    folder = tmp_path / "project"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "paper.svg").write_text("a figure")
    (folder / "config.yaml").write_text("mine: true")
    for root in (tmp_path / "nowhere", pair_folder):
        answer = command("train", *TINY, f"data.root={root}", "trainer.max_steps=2", f"run_folder={folder}")
        assert answer.code == 2 and "contains figures, config.yaml, which no run wrote" in answer.err
    assert (folder / "figures" / "paper.svg").read_text() == "a figure"
    assert (folder / "config.yaml").read_text() == "mine: true"


def test_a_run_that_is_refused_leaves_the_failed_one_before_it(command, pair_folder, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "status.json").write_text('{"state": "failed"}')
    (folder / "metrics.csv").write_text("step\n")
    overrides = [*TINY, "trainer.max_steps=2", f"run_folder={folder}"]
    assert command("train", *overrides, f"data.root={tmp_path}/nowhere").code == 2
    assert (folder / "metrics.csv").read_text() == "step\n"
    assert command("train", *overrides, f"data.root={pair_folder}").code == 0
    assert "train/loss" in (folder / "metrics.csv").read_text()


@pytest.mark.parametrize("content", ["a: [", "3", "trainer: 1"])
def test_a_damaged_configuration_is_named(command, run, content):
    (run / "config.yaml").write_text(content)
    answer = command("train", f"resume={run}")
    assert answer.code == 2 and answer.subject == f"{run}/config.yaml"


@pytest.mark.parametrize("content", ['{"sta', "[" * 100_000])
def test_a_damaged_status_does_not_mark_a_run(command, pair_folder, tmp_path, content):
    (tmp_path / "status.json").write_text(content)
    answer = command("train", *TINY, f"data.root={pair_folder}", f"run_folder={tmp_path}")
    assert answer.code == 2 and "contains status.json, which no run wrote" in answer.err
