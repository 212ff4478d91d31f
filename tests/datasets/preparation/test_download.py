"""Downloads from a real server on loopback: whole, broken off, resumed, replaced, wrong, and not there at all."""

import hashlib
import shutil
from types import SimpleNamespace

import pytest

from ddpm_lightning.datasets.preparation import download
from ddpm_lightning.datasets.preparation.download import Remote, fetch
from ddpm_lightning.utils.errors import UserError
from tests.datasets.miniatures import Server

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 10_000)
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "set.tar").write_bytes(CONTENT)
    server = Server(folder)
    yield server
    server.shutdown()
    server.server_close()


def remote(server, sha256=None):
    return Remote("set.tar", (f"{server.url}/set.tar",), sha256, page="the page of the set")


def test_a_file_is_downloaded_once_and_its_hash_written_down(server, tmp_path):
    seen = []
    path = fetch(remote(server), tmp_path / "source", progress=lambda *step: seen.append(step))
    assert path.read_bytes() == CONTENT and seen[-1] == ("downloading", len(CONTENT), len(CONTENT))
    assert (tmp_path / "source" / "set.tar.sha256").read_text() == f"{SHA256}  set.tar\n"
    assert fetch(remote(server), tmp_path / "source") == path and server.asked == [""]
    assert sorted(p.name for p in path.parent.iterdir()) == ["set.tar", "set.tar.sha256"]


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.cut, server.cuts = 150_000, 2
    path = fetch(remote(server, SHA256), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["", "bytes=150000-", "bytes=300000-"]


class Killed(BaseException):
    """Stands for the end of the process."""


def kill(at):
    def progress(_, done, total):
        if done >= at:
            raise Killed

    return progress


def test_a_killed_download_resumes_in_the_next_run(server, tmp_path):
    with pytest.raises(Killed):
        fetch(remote(server), tmp_path, progress=kill(200_000))
    assert not (tmp_path / "set.tar").exists()
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2 and server.asked[1].startswith("bytes=") and server.asked[1] != "bytes=0-"


def test_a_file_that_was_replaced_meanwhile_is_downloaded_anew(server, tmp_path):
    with pytest.raises(Killed):
        fetch(remote(server), tmp_path, progress=kill(200_000))
    server.version, server.spoil = "2", lambda content: content[::-1]
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT[::-1]


def test_mirrors_are_tried_in_order(server, tmp_path):
    nowhere = "http://127.0.0.1:9/lost"
    (server.folder / "copy").mkdir()
    shutil.copy(server.folder / "set.tar", server.folder / "copy" / "set.tar")
    published = Remote("set.tar", (f"{server.url}/gone.tar", f"{server.url}/set.tar"))
    assert fetch(published, tmp_path / "a", [nowhere]).read_bytes() == CONTENT
    assert len(server.asked) == 2  # the first address is gone, the second has it
    assert fetch(published, tmp_path / "b", [f"{server.url}/copy/"]).read_bytes() == CONTENT
    assert len(server.asked) == 3


def bad_hash(server):
    server.spoil = lambda content: content[:-1] + b"!"
    return ["the known hash", SHA256]


def truncated(server):
    server.cut, server.cuts = 0, 99
    return ["set.tar", "run the same command again"]


def web_page(server):
    server.kind = "text/html; charset=utf-8"
    return ["web page", "browser"]


def gone(server):
    (server.folder / "set.tar").unlink()
    return ["404"]


@pytest.mark.parametrize("trouble", [bad_hash, truncated, web_page, gone])
def test_what_cannot_be_had_is_explained_with_the_way_out(trouble, server, tmp_path):
    words = trouble(server)
    with pytest.raises(UserError) as caught:
        fetch(remote(server, SHA256), tmp_path)
    for word in (*words, server.url, "the page of the set", "data.archive=FILE"):
        assert word in str(caught.value)
    assert not (tmp_path / "set.tar").exists()


def test_a_wrong_file_does_not_affect_the_next_attempt(server, tmp_path):
    bad_hash(server)
    with pytest.raises(UserError):
        fetch(remote(server, SHA256), tmp_path)
    server.spoil = lambda content: content
    assert fetch(remote(server, SHA256), tmp_path).read_bytes() == CONTENT


def test_a_file_that_changed_on_the_disk_is_refused(server, tmp_path):
    path = fetch(remote(server), tmp_path)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=f"{SHA256}[\\s\\S]*delete it"):
        fetch(remote(server), tmp_path)


def test_a_full_disk_is_noticed_before_anything_is_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="no space[\\s\\S]*data.root=DIR"):
        fetch(remote(server), tmp_path / "source")
    assert not [path for path in (tmp_path / "source").rglob("*") if path.is_file()]
