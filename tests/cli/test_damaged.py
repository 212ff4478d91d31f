"""Damaged and odd files of every kind: one sentence that names them, or they are skipped; never a traceback."""

import json
import os
from pathlib import Path

import pytest
import tifffile
import torch

from ddpm_lightning.metrics.backbone import read_backbone
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "run/checkpoints/best.ckpt")


@pytest.fixture
def restore(command, checkpoint, tmp_path):
    def call(source, *more):
        settings = [f"checkpoint={checkpoint}", f"input={source}", f"output={tmp_path}/out", "samples=2"]
        return command("restore", *settings, "sampler.steps=1", *more)

    return call


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.97, 0.999])
def test_truncated_weights(command, checkpoint, share):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    answer = command("show", checkpoint)
    assert answer.code == 2 and str(checkpoint) in answer.err
    with pytest.raises(UserError, match="cannot be read"):
        read_backbone(checkpoint)


@pytest.mark.parametrize("content", [b"bad\n", b"hello world", b"", b"\x80\x02]."])
def test_files_that_are_no_weights(command, checkpoint, content):
    checkpoint.write_bytes(content)
    answer = command("show", checkpoint)
    assert answer.code == 2 and str(checkpoint) in answer.err
    with pytest.raises(UserError):
        read_backbone(checkpoint)


@pytest.mark.parametrize(
    "change", [{"names": "ddpm"}, {"names": {"model": "a"}}, {"data": {}}, {"data": None}]
)
def test_cards_without_names(command, checkpoint, change):
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "card": {**content["card"], **change}}, checkpoint)
    answer = command("show", checkpoint)
    assert answer.code == 2 and "is damaged, or was not written by this program" in answer.err


def test_status_and_scores_that_are_damaged(command, checkpoint):
    run = checkpoint.parents[1]
    for name, content in (
        ("status.json", {"state": 3, "step": "a", "steps": None}),
        ("status.json", {"state": "running", "seconds": "x", "metrics": [1]}),
        ("summary.json", {"estimators": 3}),
        ("summary.json", {"estimators": {"a": None}, "images": 1}),
    ):
        (run / name).write_text(json.dumps(content))
        answer = command("show", run)
        assert answer.code == 0 and "is damaged" in answer.out, content
        (run / name).unlink()


@pytest.mark.parametrize(
    "content",
    ['{"files": [1, {"key": 1}]}', '{"files": [{"file": "a"}], "earlier": [3]}', '{"files": {}', "[]"],
)
def test_records_that_are_none(restore, pair_folder, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/restore.json").write_text(content)
    answer = restore(pair_folder / "test/low")
    assert answer.code == 2 and "is not a record of this program" in answer.err
    assert os.listdir(tmp_path / "out") == ["restore.json"]


def test_names_that_are_hard_to_write(restore, command, pair_folder, tmp_path):
    """A name of 252 bytes has no room for an ending; one that is not UTF-8 cannot be written to a record."""
    low = pair_folder / "test/low"
    image = (low / "00000.tif").read_bytes()
    (low / f"{'n' * 248}.tif").write_bytes(image)
    (low / "b=1,[c] {d}.tif").write_bytes(image)
    strange = Path(os.fsdecode(os.fsencode(low) + b"/\xff\xfe.tif"))
    strange.write_bytes(image)
    answer = restore(low, "preview=true")
    assert answer.code == 3 and "4 of 6 files restored" in answer.out, answer
    assert "not UTF-8" in answer.out and "shorten the name" in answer.out
    assert tifffile.imread(tmp_path / "out" / "b=1,[c] {d}.tif").shape == (64, 64)
    again = restore(low, "preview=true")
    assert again.code == 3 and "4 of 6 files were finished before" in again.out
    answer = command(
        "prepare", "data=folder", f"data.root={pair_folder}", "check=true", f"output={tmp_path / 'audit'}"
    )
    assert answer.code in (2, 3) and "not UTF-8" in answer.err + answer.out


def test_a_field_of_view_in_two_splits(command, pair_folder, tmp_path):
    lines = [f"{number:05d},f{number % 2},{split}" for split in ("train", "val") for number in range(2)]
    (pair_folder / "fields.csv").write_text("\n".join(["name,field,split", *lines]))
    answer = command("train", "data=folder", f"data.root={pair_folder}", f"run_folder={tmp_path / 'run'}")
    assert answer.code == 2 and "puts the field of view f0 into two splits, train and val" in answer.err
    (pair_folder / "fields.csv").write_text("name,field\n")
    answer = command("train", "data=folder", f"data.root={pair_folder}", f"run_folder={tmp_path / 'run'}")
    assert answer.code == 2 and "names no files" in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "checkpoint={model}", "also=null"], "also: is null"),
        (["evaluate", "checkpoint={model}", "metrics=null"], "metrics.resolution, metrics.squirrel"),
        (["evaluate", "checkpoint={model}", "metrics.lpips=null"], "metrics.lpips.backbone"),
        (
            ["evaluate", "checkpoint={model}", "metrics.lpips.backbone=[a]"],
            "metrics.lpips.backbone: there is no file [a]",
        ),
        (["evaluate", "checkpoint={model}", "realism={{a:1}}"], "realism: cannot be set to that"),
        (["evaluate", "checkpoint={model}", "~protocol"], "protocol: was removed"),
        (["benchmark", "budget=3"], "budget.seconds"),
        (["train", "~model"], "model: was removed"),
        (["benchmark", "~methods"], "methods: was removed"),
        (["report", "files=3"], "3: holds no evaluation"),
        (["report", "files=[]"], "files: is []"),
        (["report", "files={model}", "title=null"], "title: is null"),
        (["compare", "files=[3,4]"], "3: no such file"),
        (["export", "checkpoint={model}", "output=a.safetensors", "authors=[[A]]"], "a list of texts"),
        (["export", "checkpoint={model}", "output=a.safetensors", "authors=[A]", "cite=foo"], "cite"),
        (["export", "checkpoint={model}", "output=a.safetensors", "authors=[A]", "cite=null"], "cite"),
        (
            ["export", "checkpoint={model}", "output=a.safetensors", "authors=[A]", "preset=fast"],
            "leave it out",
        ),
        (["export", "checkpoint={model}", "output=null", "authors=[A]"], "NAME.zip"),
    ],
)
def test_values_of_another_kind(command, checkpoint, arguments, words):
    answer = command(*(argument.format(model=checkpoint) for argument in arguments))
    assert answer.code == 2 and words in answer.err, answer.err
