"""Files that appear whole or not at all, also where the writer fails or is killed."""

import errno
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys

import pytest

from ddpm_lightning.utils.atomic import (
    atomic_write,
    read_json,
    recorded_writes,
    remove_partials,
    write_json,
    write_text,
)
from ddpm_lightning.utils.errors import UserError


def test_a_file_takes_its_name_when_it_is_written(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with atomic_write(path) as partial:
        partial.write_text("a")
        assert not path.exists()
    assert path.read_text() == "a" and os.listdir(path.parent) == ["table.csv"]


def test_what_was_there_outlives_a_writer_that_fails(tmp_path):
    path = tmp_path / "status.json"
    write_json(path, {"step": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"step": float("nan")})
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert read_json(path) == {"step": 1} and os.listdir(tmp_path) == ["status.json"]


def test_what_was_there_outlives_a_writer_that_is_killed(tmp_path):
    path = tmp_path / "status.json"
    write_json(path, {"step": 1})
    script = (
        "import os, signal, sys; from ddpm_lightning.utils.atomic import atomic_write\n"
        "with atomic_write(sys.argv[1]) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)]).returncode == -signal.SIGKILL
    assert read_json(path) == {"step": 1}
    write_json(path, {"step": 2})
    assert read_json(path) == {"step": 2} and len(os.listdir(tmp_path)) == 2
    remove_partials([tmp_path, tmp_path / "absent"])
    assert os.listdir(tmp_path) == ["status.json"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.tif"
    with atomic_write(path) as one, atomic_write(path) as other:
        one.write_bytes(b"1")
        other.write_bytes(b"22")
    assert one != other and path.read_bytes() == b"1" and os.listdir(tmp_path) == ["a.tif"]


def test_hidden_names_cannot_be_guessed_and_links_under_them_are_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr(secrets, "token_hex", lambda count: "0" * 2 * count)
    for name in (".a.json.0000000000000000.partial", ".a.json.partial"):
        (tmp_path / name).symlink_to(victim)
    (tmp_path / ".b.json.0000000000000000.partial").symlink_to(tmp_path / "new")
    for name in ("a.json", "b.json"):
        with pytest.raises(FileExistsError):
            write_json(tmp_path / name, {})
    assert victim.read_text() == "mine" and not (tmp_path / "new").exists()
    monkeypatch.undo()
    write_json(tmp_path / "a.json", {})
    remove_partials([tmp_path])
    assert victim.read_text() == "mine" and (tmp_path / "a.json").read_text() == "{}\n"


def test_files_have_the_ordinary_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
        with atomic_write(tmp_path / "a.zarr", folder=True):
            pass
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a.json", "a.zarr")] == [0o640, 0o750]


def test_names_as_long_as_they_can_be(tmp_path):
    for name in ("a" * 255, "µ" * 127):
        write_json(tmp_path / name, {})
        assert (tmp_path / name).is_file()
    with pytest.raises(OSError, match="File name too long"), atomic_write(tmp_path / ("a" * 256)):
        pytest.fail("found only after the work")
    assert len(os.listdir(tmp_path)) == 2


def test_a_complete_folder_replaces_another(tmp_path):
    path = tmp_path / "a.zarr"
    for content in ("old", "new"):
        with atomic_write(path, folder=True) as partial:
            (partial / content).touch()
            assert content == "old" or os.listdir(path) == ["old"]
        assert os.listdir(path) == [content] and os.listdir(tmp_path) == ["a.zarr"]
    with pytest.raises(KeyboardInterrupt), atomic_write(path, folder=True) as partial:
        raise KeyboardInterrupt
    assert os.listdir(path) == ["new"] and os.listdir(tmp_path) == ["a.zarr"]


def test_what_is_written_is_noted_as_it_was_written(tmp_path):
    with recorded_writes() as prints:
        write_text(tmp_path / "a", "content")
        (tmp_path / "a").write_text("other")
    assert prints == {str(tmp_path / "a"): {"bytes": 7, "sha256": hashlib.sha256(b"content").hexdigest()}}
    write_text(tmp_path / "b", "content")
    assert len(prints) == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left"),
        OSError(errno.EDQUOT, "Quota exceeded"),
        OSError("8 requested and 0 written"),
    ],
)
def test_a_full_disk_is_named(tmp_path, error):
    write_text(tmp_path / "a", "before")
    with pytest.raises(UserError, match="a: the disk is full"), atomic_write(tmp_path / "a"):
        raise error
    assert (tmp_path / "a").read_text() == "before" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "error", [RuntimeError("file in wrong state"), MemoryError(), PermissionError(13, "denied")]
)
def test_other_errors_are_not_blamed_on_the_disk(tmp_path, error):
    with pytest.raises(type(error)), atomic_write(tmp_path / "a"):
        raise error
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_record_reads_as_nothing(tmp_path, content):
    path = tmp_path / "status.json"
    path.write_bytes(content)
    assert read_json(path) == {} == read_json(tmp_path / "absent.json")
    with path.open("wb") as file:
        file.truncate(2**40)
    assert read_json(path) == {}
    if hasattr(os, "mkfifo"):  # whoever opens it waits for a writer
        os.mkfifo(tmp_path / "pipe.json")
        assert read_json(tmp_path / "pipe.json") == {}


def test_json_is_plain(tmp_path):
    content = {"name": "µm", "values": [1, 0.5, None, True], "nested": {"a": "b"}}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text()) == content
