"""On a disk that is really full, every verb names the file and leaves what was good: a small file system in memory."""

import os
import subprocess

import pytest
import torch

from ddpm_lightning.training.module import LightningMethod
from ddpm_lightning.utils.lock import NAME
from tests.cli.test_benchmark import Commands
from tests.cli.test_verbs import TINY
from tests.datasets.miniatures import write_zebrafish
from tests.trained import write_checkpoint


@pytest.fixture
def disk(tmp_path):
    """A file system of 32 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        pytest.skip(f"no file system can be mounted here: {answer.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk, room=0):
    """Fills a disk but for some bytes."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    os.truncate(disk / "filler", (disk / "filler").stat().st_size - room)


def files(folder):
    """Contents of all files of a folder; hidden ones must not be left."""
    found = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert not [path for path in found if path.name.endswith(".partial") or path.name == NAME]
    return found


def refused(answer, *names):
    assert answer.code == 2 and "Traceback" not in answer.err, answer.err
    assert "the disk is full" in answer.err and any(str(name) in answer.err for name in names), answer.err
    return answer


@pytest.mark.parametrize("room", [0, 200_000], ids=["no room", "room for half a checkpoint"])
def test_a_training_keeps_its_last_checkpoint_and_resumes_when_there_is_room(
    command, pair_folder, disk, monkeypatch, room
):
    inner, run = LightningMethod.training_step, disk / "run"

    def fills(self, batch, batch_idx):
        if self.trainer.global_step == 6:
            fill(disk, room)
        return inner(self, batch, batch_idx)

    with monkeypatch.context():
        monkeypatch.setattr(LightningMethod, "training_step", fills)
        settings = [*TINY, "callbacks.images=null", f"data.root={pair_folder}", "trainer.max_steps=12"]
        refused(command("train", *settings, f"run_folder={run}"), run)
    files(run)
    last = run / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 4
    refused(command("train", f"resume={run}"), run)
    assert torch.load(last, weights_only=True)["global_step"] == 4
    monkeypatch.undo()
    (disk / "filler").unlink()
    answer = command("train", f"resume={run}")
    assert answer.code == 0, answer.err
    assert torch.load(last, weights_only=True)["global_step"] == 12


@pytest.mark.slow
def test_verbs_that_score_and_restore(command, pair_folder, disk, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "model.ckpt")
    evaluate = [
        "evaluate",
        f"checkpoint={checkpoint}",
        "data=folder",
        f"data.root={pair_folder}",
        "samples=2",
    ]
    evaluate += ["sampler.steps=1", f"output={disk}/evaluation"]
    assert command(*evaluate, "figures=1").code == 0
    assert (
        command("compare", f"{disk}/evaluation:single", f"{disk}/evaluation:raw", f"output={disk}/table").code
        == 0
    )
    assert command("report", f"{disk}/evaluation", f"output={disk}/report.html").code == 0
    restore = [
        "restore",
        f"checkpoint={checkpoint}",
        "samples=2",
        "sampler.steps=1",
        f"output={disk}/restored",
    ]
    one = [*restore, f"input={pair_folder}/test/low/00000.tif"]
    assert command(*one).code == 0
    export = ["export", f"checkpoint={checkpoint}", f"output={disk}/model.safetensors", "authors=[A]"]
    assert command(*export).code == 0
    before = files(disk)
    for room in (0, 20_000):
        fill(disk, room)
        refused(command(*evaluate, "figures=2"), f"{disk}/evaluation")
        refused(command("report", f"{disk}/evaluation", f"output={disk}/report.html"), f"{disk}/report.html")
        answer = refused(
            command(*restore, f"input={pair_folder}/test/low", "preview=true"), f"{disk}/restored"
        )
        assert "skipped" not in answer.out, "no other file would fare better"
        refused(command(*export), f"{disk}/model.safetensors")
        refused(
            command("compare", f"{disk}/evaluation", f"{disk}/evaluation:raw", f"output={disk}/new"),
            f"{disk}/new",
        )
        (disk / "filler").unlink()
        now = files(disk)
        kept = [path for path in before if "restored" not in path.parts]
        assert {path: now.get(path) for path in kept} == {path: before[path] for path in kept}
        assert before[disk / "restored" / "00000.tif"] == now[disk / "restored" / "00000.tif"]
    assert "1 of 1 file was finished before" in command(*one).out
    answer = command(*restore, f"input={pair_folder}/test/low")
    assert answer.code == 0 and "3 of 3 files restored" in answer.out, answer.err + answer.out


def test_a_set_that_is_prepared(command, disk, tmp_path):
    archive = write_zebrafish(tmp_path / "fmd", fields=4)
    settings = ["prepare", "data=zebrafish", f"data.archive={archive}", f"data.root={disk}/set"]
    settings += ["data.preparation.size=64", "data.preparation.split={val:[3],test:[4]}"]
    assert command(*settings).code == 0
    whole = files(disk)
    for path in whole:
        path.unlink()
    fill(disk, 300_000)
    answer = command(*settings)
    assert answer.code == 2 and "disk is full" in answer.err and f"{disk}/set" in answer.err, answer.err
    assert not (disk / "set" / "manifest.json").exists()
    (disk / "filler").unlink()
    assert command(*settings).code == 0
    assert files(disk) == whole


def test_a_benchmark(command, disk, monkeypatch):
    from ddpm_lightning.benchmark import jobs

    commands = Commands()
    monkeypatch.setattr(jobs, "command", commands)
    fill(disk)
    answer = command("benchmark", f"folder={disk}/cells", f"output={disk}/table")
    refused(answer, f"{disk}/cells")
    (disk / "filler").unlink()
    assert not (disk / "cells").exists() and not (disk / "table").exists()
