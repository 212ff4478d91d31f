"""Files that appear whole or not at all, also where the writer fails or is killed."""

import json
import os
import signal
import subprocess
import sys

import pytest

from ddpm_lightning.storage import read_json, whole, write_json


def test_a_file_takes_its_name_when_it_is_written(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with whole(path) as partial:
        partial.write_text("a")
        assert not path.exists()
    assert path.read_text() == "a" and os.listdir(path.parent) == ["table.csv"]


def test_what_was_there_outlives_a_writer_that_fails(tmp_path):
    path = tmp_path / "status.json"
    write_json(path, {"step": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"step": float("nan")})
    with pytest.raises(KeyboardInterrupt), whole(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert read_json(path) == {"step": 1} and os.listdir(tmp_path) == ["status.json"]


def test_what_was_there_outlives_a_writer_that_is_killed(tmp_path):
    path = tmp_path / "status.json"
    write_json(path, {"step": 1})
    script = (
        "import os, signal, sys; from ddpm_lightning.storage import whole\n"
        "with whole(sys.argv[1]) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)]).returncode == -signal.SIGKILL
    assert read_json(path) == {"step": 1}
    write_json(path, {"step": 2})
    assert read_json(path) == {"step": 2} and os.listdir(tmp_path) == ["status.json"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_record_reads_as_nothing(tmp_path, content):
    path = tmp_path / "status.json"
    path.write_bytes(content)
    assert read_json(path) == {} == read_json(tmp_path / "absent.json")


def test_json_is_plain(tmp_path):
    content = {"name": "µm", "values": [1, 0.5, None, True], "nested": {"a": "b"}}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text()) == content
