import json
import os

import pytest

from ddpm_lightning.errors import UserError
from ddpm_lightning.inference.records import Records


@pytest.fixture
def place(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in/a.tif").write_bytes(b"12345")
    (tmp_path / "out/a.tif").write_bytes(b"123")
    return tmp_path


def test_a_finished_file_is_known_again_before_and_after_the_job_ends(place):
    source = place / "in/a.tif"
    records = Records(place / "out", {"model": "m"}, {"draws": 3})
    assert records.finished(source, ["a.tif"]) is None
    kept = records.keep(source, {"file": "a.tif", "planes": 1}, ["a.tif"])
    assert Records(place / "out", {}, {"draws": 3}).finished(source, ["a.tif"]) == kept
    records.write([kept], seconds=1)
    assert sorted(path.name for path in (place / "out").iterdir()) == ["a.tif", "restore.json"]
    assert json.loads((place / "out/restore.json").read_text())["files"] == [kept]
    assert Records(place / "out", {}, {"draws": 3}).finished(source, ["a.tif"]) == kept


@pytest.mark.parametrize(
    "change",
    [
        lambda place: (place / "in/a.tif").write_bytes(b"123456"),
        lambda place: os.utime(place / "in/a.tif", ns=(5, 5)),
        lambda place: (place / "out/a.tif").write_bytes(b"12"),
        lambda place: (place / "out/a.tif").unlink(),
    ],
    ids=["other bytes", "other time", "short result", "no result"],
)
def test_what_changed_is_done_again(place, change):
    records = Records(place / "out", {}, {})
    records.keep(place / "in/a.tif", {"file": "a.tif"}, ["a.tif"])
    change(place)
    assert Records(place / "out", {}, {}).finished(place / "in/a.tif", ["a.tif"]) is None


def test_other_settings_and_further_results_are_done_again(place):
    Records(place / "out", {}, {"draws": 3}).keep(place / "in/a.tif", {"file": "a.tif"}, ["a.tif"])
    assert Records(place / "out", {}, {"draws": 4}).finished(place / "in/a.tif", ["a.tif"]) is None
    assert Records(place / "out", {}, {"draws": 3}).finished(place / "in/a.tif", ["a.tif", "b.tif"]) is None


def test_records_of_other_files_in_the_folder_are_kept(place):
    for draws, name in ((1, "a"), (2, "b"), (3, "a")):
        Records(place / "out", {"draws": draws}, {}).write([{"file": name}])
    content = json.loads((place / "out/restore.json").read_text())
    assert content["draws"] == 3 and content["files"] == [{"file": "a"}]
    assert content["earlier"] == [{"draws": 2, "files": [{"file": "b"}]}]


def test_a_foreign_record_is_not_overwritten(place):
    (place / "out/restore.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="no record of this program"):
        Records(place / "out", {}, {})


def test_half_written_results_are_removed(place):
    (place / "out/.a.tif.partial").touch()
    (place / "out/.b.zarr.partial").mkdir()
    Records(place / "out", {}, {}).tidy(["a.tif", "b.zarr", "c.tif"])
    assert [path.name for path in (place / "out").iterdir()] == ["a.tif"]
