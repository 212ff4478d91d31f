"""A job in shards leaves the bytes of a single job, whatever is stopped and started again, and in whatever order."""

import json
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import tifffile

from ddpm_lightning.cli import sweep
from ddpm_lightning.inference.records import Records
from ddpm_lightning.inference.restore_folder import restore_folder
from ddpm_lightning.inference.shards import FileShard, locked
from ddpm_lightning.utils import lock
from ddpm_lightning.utils.distributed import Shard
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint

FILES = 7


class Killed(BaseException):
    """Stands for the end of a process: nothing handles it."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, images in two subfolders, one of them damaged, and their restorations by a single job."""
    place = tmp_path_factory.mktemp("shards")
    write_checkpoint(place / "tiny.ckpt")
    rng = np.random.default_rng(0)
    for number in range(FILES):
        path = place / f"in/{number % 2}/{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, rng.poisson(30, (24, 32)).astype(np.uint16))
    (place / "in/1/5.tif").write_bytes(b"II*\0 and no image")
    restore(place, "one")
    return place


def restore(place, name, shard=None, **settings):
    return restore_folder(
        checkpoint=str(place / "tiny.ckpt"), input=str(place / "in"), output=str(place / name), samples=2, margin=0,
        device="cpu", shard=shard, **settings,
    )  # fmt: skip


def content(folder):
    """Returns the bytes of all results, and the record of each file without times and what is known of its input."""
    results = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.tif")}
    record = json.loads((folder / "restore.json").read_text())
    varying = ("seconds", "input", "key")
    return results, [{k: v for k, v in file.items() if k not in varying} for file in record["files"]]


def assert_same(place, name):
    one, other = content(place / "one"), content(place / name)
    assert len(one[0]) == 2 * (FILES - 1) and other == one
    assert not [path for path in (place / name).rglob(".*") if not path.name.endswith(".partial")]


def test_shards_leave_what_a_single_job_leaves(place, monkeypatch):
    folder = place / "shards"
    (done := restore(place, "shards", "2/3"), restore(place, "shards", "0/3"))
    assert (len(done.records), done.remaining) == (2, 5) and not (folder / "restore.json").exists()
    # The last shard is killed between its first result and the note of it, beside the unfinished file of another shard.
    own, other = (folder / f"0/.{name}.tif.{'0' * 16}.partial" for name in ("2", "0"))
    for partial in (own, other):
        partial.write_bytes(b"half")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Records, "keep", lambda *arguments: (_ for _ in ()).throw(Killed))
        restore(place, "shards", "1/3")
    last = restore(place, "shards", "1/3")
    assert last.remaining == 0 and own.exists() != other.exists()
    assert_same(place, "shards")
    # Repeating a shard, or the whole job, does nothing but try the damaged file again.
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.tif")}
    again = restore(place, "shards", "2/3")
    assert again.remaining == 0 and not again.failed
    assert len(restore(place, "shards").failed) == 1
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.tif")}
    assert_same(place, "shards")


def test_shards_and_other_jobs_exclude_each_other(tmp_path):
    mine, processes = FileShard.of("0/2"), Shard()
    with locked(tmp_path / "out", mine, False, processes):
        with pytest.raises(UserError) as refused, locked(tmp_path / "out", None, False, processes):
            pass
        assert refused.value.subject == tmp_path / "out"
        with locked(tmp_path / "out", FileShard.of("1/2"), False, processes):
            pass
    with (
        locked(tmp_path / "out", None, False, processes),
        pytest.raises(UserError),
        locked(tmp_path / "out", mine, False, processes),
    ):
        pass
    assert not (tmp_path / "out").exists()


def test_a_shard_that_was_killed_while_taking_its_lock_leaves_nothing_in_the_end(tmp_path):
    mine = FileShard.of("0/2")
    mine.place(tmp_path).mkdir(parents=True)
    (mine.place(tmp_path) / f"{lock.NAME}.{'0' * 16}.partial").touch()
    with locked(tmp_path, mine, False, Shard()):
        pass
    assert not [*tmp_path.iterdir()]


def test_a_sweep_makes_shards_of_one_folder(place, command, monkeypatch):
    commands = []
    monkeypatch.setattr(sweep, "_run", lambda command, *others: commands.append(command[3:]) or 0)
    paths = [f"checkpoint={place / 'tiny.ckpt'}", f"input={place / 'in/0'}", f"output={place / 'swept'}"]
    answer = command("restore", "--multirun", "shard=1/2,0/2", *paths, "samples=1", "hydra.sweep.dir=sweep")
    assert answer.code == 0 and len(commands) == 2, answer.err
    assert [command(*each).code for each in commands] == [0, 0]
    assert len(json.loads((place / "swept/restore.json").read_text())["files"]) == 4


@pytest.mark.parametrize("text", ["8/8", "-1/2", "1", "1/0", "1/2/3", "a/b", "1.5/2"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UserError) as refused:
        FileShard.of(text)
    assert refused.value.subject == "shard"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, so that a process need not import anything")
def test_eight_shards_that_are_killed_forty_times(place):
    rng, fork = random.Random(0), multiprocessing.get_context("fork")
    waiting, kills, running = [f"{number}/8" for number in range(8)], 40, {}
    while waiting or running:
        while waiting and len(running) < 3:
            shard = waiting.pop(rng.randrange(len(waiting)))
            running[shard] = fork.Process(target=restore, args=(place, "killed", shard))
            running[shard].start()
        time.sleep(rng.uniform(0, 0.15))
        shard = rng.choice(list(running))
        if kills and running[shard].is_alive():
            os.kill(running[shard].pid, signal.SIGKILL)
            kills -= 1
        for shard, process in list(running.items()):
            if not process.is_alive():
                if process.exitcode:
                    assert process.exitcode == -signal.SIGKILL
                    waiting.append(shard)
                del running[shard]
    assert kills == 0
    assert_same(place, "killed")
