import json
import os

import pytest

from ddpm_lightning.inference.records import Records, tracked_results
from ddpm_lightning.utils.atomic import atomic_write
from ddpm_lightning.utils.errors import UserError


def restored(records, source, results=("a.tif",), content=b"123"):
    """Stands for a restoration: writes the results and keeps their record."""
    with tracked_results(source) as made:
        for name in results:
            with atomic_write(records.folder / name) as partial:
                partial.write_bytes(content)
    return records.keep(made, {"file": source.name, "planes": 1}, results)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in/a.tif").write_bytes(b"12345")
    return tmp_path


def test_a_finished_file_is_known_again_before_and_after_the_job_ends(place):
    source = place / "in/a.tif"
    records = Records(place / "out", {"model": "m"}, {"samples": 3})
    assert records.finished(source, ["a.tif"]) is None
    kept = restored(records, source)
    assert Records(place / "out", {}, {"samples": 3}).finished(source, ["a.tif"]) == kept
    records.write([kept], seconds=1)
    assert sorted(path.name for path in (place / "out").iterdir()) == ["a.tif", "restore.json"]
    assert json.loads((place / "out/restore.json").read_text())["files"] == [kept]
    assert Records(place / "out", {}, {"samples": 3}).finished(source, ["a.tif"]) == kept


@pytest.mark.parametrize(
    "change",
    [
        lambda place: (place / "in/a.tif").write_bytes(b"123456"),
        lambda place: in_place(place / "in/a.tif", b"54321"),
        lambda place: (place / "out/a.tif").write_bytes(b"12"),
        lambda place: in_place(place / "out/a.tif", b"321"),
        lambda place: (place / "out/a.tif").write_bytes(b""),
        lambda place: (place / "out/a.tif").unlink(),
        lambda place: (place / "in/a.tif").unlink(),
    ],
    ids=[
        "more bytes",
        "other bytes",
        "short result",
        "other result",
        "empty result",
        "no result",
        "no input",
    ],
)
def test_what_changed_is_done_again(place, change):
    restored(Records(place / "out", {}, {}), place / "in/a.tif")
    change(place)
    assert Records(place / "out", {}, {}).finished(place / "in/a.tif", ["a.tif"]) is None


def in_place(path, content):
    """Changes a file and puts its times back."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.utime(path, ns=(5, 5)),
        lambda path: path.replace(path.with_name("b")) and path.write_bytes(b"12345"),
        lambda path: path.chmod(0o600),
    ],
    ids=["touched", "copied", "other permissions"],
)
def test_the_same_content_is_not_done_again(place, change):
    kept = restored(Records(place / "out", {}, {}), place / "in/a.tif")
    change(place / "in/a.tif")
    assert Records(place / "out", {}, {}).finished(place / "in/a.tif", ["a.tif"]) == kept


def test_a_file_that_changes_while_it_is_read_is_done_again(place):
    records, source = Records(place / "out", {}, {}), place / "in/a.tif"
    with tracked_results(source) as made, atomic_write(place / "out/a.tif") as partial:
        partial.write_bytes(b"123")
        in_place(source, b"54321")
    records.keep(made, {"file": "a.tif"}, ["a.tif"])
    assert records.finished(source, ["a.tif"]) is None


def test_earlier_files_are_not_taken_for_results(place):
    records, source = Records(place / "out", {}, {}), place / "in/a.tif"
    (place / "out/a.tif").write_bytes(b"of another job")
    with tracked_results(source) as made:
        pass
    with pytest.raises(ValueError, match="not written"):
        records.keep(made, {"file": "a.tif"}, ["a.tif"])
    with tracked_results(source) as made, atomic_write(place / "out/a.tif") as partial:
        partial.write_bytes(b"123")
    (place / "out/a.tif").write_bytes(b"of another job")
    records.keep(made, {"file": "a.tif"}, ["a.tif"])
    assert records.finished(source, ["a.tif"]) is None


def test_a_folder_is_known_again_by_all_of_its_files(place):
    source = place / "in/a.zarr"
    (source / "0").mkdir(parents=True)
    for name in ("zarr.json", "0/c"):
        (source / name).write_bytes(name.encode())
    records = Records(place / "out", {}, {})
    with tracked_results(source) as made, atomic_write(place / "out/a.zarr", folder=True) as partial:
        (partial / "zarr.json").write_bytes(b"{}")
    kept = records.keep(made, {"file": "a.zarr"}, ["a.zarr"])
    assert records.finished(source, ["a.zarr"]) == kept
    (place / "out/a.zarr/zarr.json").rename(place / "out/a.zarr/other.json")
    assert records.finished(source, ["a.zarr"]) is None
    (place / "out/a.zarr/other.json").rename(place / "out/a.zarr/zarr.json")
    in_place(source / "0/c", b"c/0")
    assert records.finished(source, ["a.zarr"]) is None


def test_other_settings_and_further_results_are_done_again(place):
    restored(Records(place / "out", {}, {"samples": 3}), place / "in/a.tif")
    assert Records(place / "out", {}, {"samples": 4}).finished(place / "in/a.tif", ["a.tif"]) is None
    assert Records(place / "out", {}, {"samples": 3}).finished(place / "in/a.tif", ["a.tif", "b.tif"]) is None


def test_records_of_other_files_in_the_folder_are_kept(place):
    for samples, name in ((1, "a"), (2, "b"), (3, "a")):
        Records(place / "out", {"samples": samples}, {}).write([{"file": name}])
    content = json.loads((place / "out/restore.json").read_text())
    assert content["samples"] == 3 and content["files"] == [{"file": "a"}]
    assert content["earlier"] == [{"samples": 2, "files": [{"file": "b"}]}]


def test_a_foreign_record_is_not_overwritten(place):
    (place / "out/restore.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="not a record of this program"):
        Records(place / "out", {}, {})


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"earlier": 5}', '{"files": [5]}', "[]", '{"files": [{"file": "a", "results": 1}]}'],
)
def test_a_malformed_record_is_named(place, text):
    records = Records(place / "out", {}, {})
    (place / "out/restore.json").write_text(text)
    with pytest.raises(UserError, match="not a record"):
        Records(place / "out", {}, {})
    (place / "out/restore.json").unlink()
    kept = restored(records, place / "in/a.tif")
    next((place / "out/.restore").iterdir()).write_text(text)
    if "files" not in text and "earlier" not in text:
        with pytest.raises(UserError, match="not a record"):
            records.finished(place / "in/a.tif", kept["results"])


def test_a_gigantic_record_is_not_read(place):
    with (place / "out/restore.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match="not a record"):
        Records(place / "out", {}, {})


def test_an_earlier_job_that_names_no_files(place):
    (place / "out/restore.json").write_text('{"earlier": [{"model": "m"}]}')
    records = Records(place / "out", {}, {})
    records.write([restored(records, place / "in/a.tif")])
    assert len(json.loads((place / "out/restore.json").read_text())["files"]) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to(os.devnull)], ids=["pipe", "device"])
def test_what_is_no_file_is_no_result(place, put):
    source, result = place / "in/a.tif", place / "out/a.tif"
    records = Records(place / "out", {}, {})
    restored(records, source)
    result.unlink()
    put(result)
    assert records.finished(source, ["a.tif"]) is None
    assert restored(records, source) == records.finished(source, ["a.tif"]) and result.read_bytes() == b"123"


def test_notes_are_not_written_through_a_link(place):
    (place / "out/.restore").symlink_to(place / "in")
    with pytest.raises(UserError, match=r"\.restore"):
        Records(place / "out", {}, {})


def test_what_killed_jobs_left_half_written_is_removed(place):
    (place / "out/pos0").mkdir()
    for name in (".a.tif", ".b.zarr", "pos0/.a.tif"):
        (place / f"out/{name}.0123456789abcdef.partial").mkdir()
    (place / "out/.a.tif.mine.partial").touch()
    Records(place / "out", {}, {}).begin({place / "in/a.tif": ["a.tif", "pos0/a.tif"]})
    names = {str(path.relative_to(place / "out")) for path in (place / "out").rglob("*")}
    assert names == {".a.tif.mine.partial", ".restore", "pos0"}


def test_what_other_settings_left_is_recorded_with_them(place):
    """Single samples and maps that a second job does not make stay, and one must be able to tell how they were made."""
    source, names = place / "in/a.tif", ["a.tif", "a_entropy.tif", "a_sample_01.tif", "a_sample_02.tif"]
    for seed, made in enumerate((names, names[:2], names[:1])):
        records = Records(place / "out", {"settings": {"seed": seed}}, {"seed": seed})
        record = restored(records, source, made, content=bytes([seed]))
        if seed == 2:
            (place / "out/a_sample_02.tif").unlink()
        records.write([record])
    written = json.loads((place / "out/restore.json").read_text())
    assert [list(record["results"]) for record in written["files"]] == [["a.tif"]]
    left = {
        name: job["settings"]["seed"]
        for job in written["earlier"]
        for record in job["files"]
        for name in record["results"]
    }
    assert left == {"a_sample_01.tif": 0, "a_entropy.tif": 1}
