"""No verb removes files of others, nor results of an earlier call before their replacement is complete."""

import json
import os

import pytest
import tifffile

from tests.trained import write_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "model.ckpt")


@pytest.fixture
def evaluate(command, checkpoint, pair_folder):
    def call(output, *more):
        settings = [f"checkpoint={checkpoint}", "data=folder", f"data.root={pair_folder}", f"output={output}"]
        return command("evaluate", *settings, "samples=2", "sampler.steps=1", *more)

    return call


@pytest.mark.slow
def test_an_evaluation_that_fails_leaves_the_earlier_one(evaluate, tmp_path):
    folder = tmp_path / "ev"
    assert evaluate(folder, "figures=2", "also=[paper]").code == 0
    (folder / "figures/mine.png").write_bytes(b"mine")
    (folder / "metrics_mine.csv").write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert evaluate(folder, "center_crop=200").code == 2
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    # The next one replaces its results, all of them, and nothing else.
    assert evaluate(folder, "figures=1").code == 0
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {
        "figures/mine.png",
        "metrics_mine.csv",
        "metrics.csv",
    } <= names and "metrics_paper.csv" not in names
    drawn = json.loads((folder / "summary.json").read_text())["figures"]
    assert {name for name in names if name.startswith("figures/")} == {"figures/mine.png"} | {
        f"figures/{name}" for name in drawn
    }


@pytest.mark.parametrize(("name", "content"), [("metrics.csv", "mine"), ("summary.json", '{"mine": 1}')])
def test_an_evaluation_takes_no_folder_of_others(evaluate, tmp_path, name, content):
    folder = tmp_path / "ev"
    folder.mkdir()
    (folder / name).write_text(content)
    answer = evaluate(folder, "figures=0")
    assert answer.code == 2 and f"contains {name}, not" in answer.err
    assert os.listdir(folder) == [name] and (folder / name).read_text() == content


def test_restored_images_replace_no_others(command, checkpoint, pair_folder, tmp_path):
    """What a restore left itself is replaced, also where other settings are asked for."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "00001.tif").write_text("mine")
    settings = [
        f"checkpoint={checkpoint}",
        f"input={pair_folder}/test/low",
        f"output={folder}",
        "sampler.steps=1",
    ]
    answer = command("restore", *settings, "samples=2")
    assert answer.code == 2 and "contains 00001.tif, which this program did not write" in answer.err
    assert os.listdir(folder) == ["00001.tif"] and (folder / "00001.tif").read_text() == "mine"
    (folder / "00001.tif").unlink()
    assert command("restore", *settings, "samples=2", "single=true").code == 0
    first = tifffile.imread(folder / "00001_std.tif")
    assert command("restore", *settings, "samples=3").code == 0
    assert (tifffile.imread(folder / "00001_std.tif") != first).any()
    assert command("restore", *settings, "samples=2", "single=true").code == 0


def test_previews_do_not_meet(command, checkpoint, pair_folder, tmp_path):
    low = pair_folder / "test/low/00000.tif"
    (tmp_path / "in").mkdir()
    for name in ("a.tif", "a.tiff"):
        (tmp_path / "in" / name).write_bytes(low.read_bytes())
    settings = [f"checkpoint={checkpoint}", f"input={tmp_path}/in", "sampler.steps=1", "samples=2"]
    answer = command("restore", *settings, f"output={tmp_path}/out", "preview=true")
    assert answer.code == 2 and "would both write preview/a.png" in answer.err
    assert not (tmp_path / "out").exists()


def test_a_report_does_not_replace_what_it_reads(evaluate, command, tmp_path):
    folder = tmp_path / "ev"
    assert evaluate(folder, "figures=0").code == 0
    before = (folder / "metrics.csv").read_bytes()
    answer = command("report", folder, f"output={folder}/metrics.csv")
    assert answer.code == 2 and "is a file, but not an HTML page" in answer.err
    assert (folder / "metrics.csv").read_bytes() == before
    assert command("report", f"files={folder}", f"output={tmp_path}").code == 0
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("name", ["restore.json", ".restore"])
def test_obstacles_are_found_before_the_work(command, checkpoint, pair_folder, tmp_path, name):
    folder = tmp_path / "out"
    folder.mkdir()
    if name == "restore.json":
        (folder / name).mkdir()
    else:
        (folder / name).write_text("mine")
    settings = [f"checkpoint={checkpoint}", f"input={pair_folder}/test/low", f"output={folder}"]
    answer = command("restore", *settings, "samples=2", "sampler.steps=1")
    assert answer.code == 2 and name in answer.err and os.listdir(folder) == [name]


def test_the_audit_says_what_is_not_read(command, pair_folder, tmp_path):
    for name in ("a.png", "b.jpg"):
        (pair_folder / "train" / "low" / name).touch()
    settings = ["data=folder", f"data.root={pair_folder}"]
    answer = command("prepare", *settings, "check=true", f"output={tmp_path / 'audit'}")
    told = ("1 .png file", "1 .jpg file")
    assert answer.code == 0 and all(words in answer.out for words in told)
    assert all(words in (tmp_path / "audit" / "audit.md").read_text() for words in told)
