"""A preparation that is killed, truly, at any point: what it leaves is gone on with, and the bytes are the same."""

import multiprocessing
import os
import signal
from dataclasses import replace

import pytest

from ddpm_lightning.datasets.microtubules import Microtubules
from ddpm_lightning.datasets.preparation import build, download, files
from ddpm_lightning.utils.errors import UserError
from tests.datasets.miniatures import NORMALISATION, Server, preparation, tree, write_microtubules, zipped

SETTINGS = {"register": True, "size": 64, "crops_per_side": 2, "split": {"val": 89, "test": 265}}


def killable(root, server):
    return Microtubules(root, preparation(**SETTINGS), mirrors=[server.url], normalisation=NORMALISATION)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A server with an archive, and the files that an uninterrupted run leaves."""
    folder = tmp_path_factory.mktemp("material")
    server = Server(folder / "published")
    zipped(write_microtubules(folder, 96), server.folder / Microtubules.card.remote.name)
    killable(folder / "set", server).prepare()
    yield server, tree(folder / "set")
    server.shutdown()
    server.server_close()


def killed(data, when, monkeypatch):
    """Prepares in a process that kills itself at the given point."""

    def progress(what, done, total):
        if what == when[0] and done >= when[1] * total:
            os.kill(os.getpid(), signal.SIGKILL)

    def run():
        if when[0] == "writing":
            write_file, count = files.write_file, iter(range(10**6))

            def write(path, content):
                if path.suffix == ".tif" and next(count) == when[1]:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.with_name(f".{path.name}.0123456789abcdef.partial").write_bytes(content[:100])
                    os.kill(os.getpid(), signal.SIGKILL)
                write_file(path, content)

            monkeypatch.setattr(build, "write_file", write)
        if when[0] == "finishing":
            monkeypatch.setattr(build, "write_json", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        data.prepare(progress=progress)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    "when",
    [("downloading", 0.5), ("preparing", 0.5), ("writing", 19), ("finishing", 0)],
    ids=lambda when: when[0],
)
def test_a_killed_run_resumes_to_the_same_bytes(when, material, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 5000)
    server, expected = material
    data = killable(tmp_path / "set", server)
    killed(data, when, monkeypatch)
    monkeypatch.undo()
    with pytest.raises(UserError, match="is not prepared"):
        data.source("train")
    done = []
    data.prepare(progress=lambda what, *_: done.append(what))
    assert tree(tmp_path / "set") == expected
    assert ("downloading" in done) == (when[0] == "downloading")


def test_nothing_is_registered_twice(material, tmp_path, monkeypatch):
    server, _ = material
    data = killable(tmp_path / "set", server)
    killed(data, ("preparing", 4 / 6), monkeypatch)
    calls, find = [], build.find_motion
    monkeypatch.setattr(build, "find_motion", lambda *images: calls.append(1) or find(*images))
    data.prepare()
    assert len(calls) == 2


def test_other_settings_start_anew(material, tmp_path, monkeypatch):
    server, _ = material
    data = killable(tmp_path / "set", server)
    killed(data, ("preparing", 4 / 6), monkeypatch)
    data.preparation = replace(data.preparation, size=48)
    assert data.prepare()["settings"]["size"] == 48
    assert {pair.low.shape for pair in data.source("train")} == {(48, 48)}
