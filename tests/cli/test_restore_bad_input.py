"""Files and folders that cannot be restored: named, explained, exit code 2, nothing half-written; 3 among others."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import tifffile

from ddpm_lightning.io.tiff import TiffStackWriter
from tests.trained import write_checkpoint

RNG = np.random.default_rng(0)
GOOD = RNG.poisson(20, (40, 40)).astype(np.uint16)


def tiff(array, **options):
    return lambda path: tifffile.imwrite(path, array, **options)


def grey(array, **metadata):
    return tiff(array, photometric="minisblack", metadata=metadata or None)


def cut(share):
    def write(path):
        tifffile.imwrite(path, GOOD)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return write


def stack_without_end(path):
    tifffile.imwrite(path, np.stack([GOOD] * 4), imagej=True)
    path.write_bytes(path.read_bytes()[: -GOOD.nbytes // 2])


FILES = {
    "truncated in its pixels": (cut(0.5), "truncated|cannot be read"),
    "truncated in its header": (cut(0.01), "cannot be read"),
    "zero bytes": (lambda path: path.touch(), "an empty file"),
    "text": (lambda path: path.write_text("hello"), "cannot be read as TIFF"),
    "a PNG by another name": (
        lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)),
        "cannot be read",
    ),
    "an RGB photograph": (tiff(np.zeros((40, 40, 3), np.uint8), photometric="rgb"), "colour|RGB|grey"),
    "NaN": (grey(np.where(GOOD > 20, np.nan, GOOD).astype(np.float32)), "NaN or infinite"),
    "infinity": (grey(np.where(GOOD > 20, np.inf, GOOD).astype(np.float32)), "NaN or infinite"),
    "complex numbers": (grey(GOOD.astype(np.complex64)), "complex64"),
    "a constant image": (grey(np.full((40, 40), 7, np.uint8)), "constant: every pixel is 7"),
    "a constant stack": (grey(np.zeros((3, 40, 40), np.uint8), axes="ZYX"), "constant in every plane"),
    "one pixel": (grey(np.ones((1, 1), np.uint8)), "1 x 1 pixels"),
    "3 x 200000 pixels": (grey(RNG.poisson(9, (3, 200_000)).astype(np.uint8)), "3 x 200000 pixels"),
    "axes that end in X alone": (grey(np.zeros((40, 2, 40), np.uint16), axes="YZX"), "axes"),
}


@pytest.fixture
def model(tmp_path):
    return write_checkpoint(tmp_path / "model" / "best.ckpt")


@pytest.fixture
def restore(command, model, tmp_path):
    def run(source, *arguments, output=None):
        given = [
            f"checkpoint={model}",
            f"input={source}",
            f"output={output or tmp_path / 'out'}",
            "samples=2",
        ]
        answer = command("restore", *given, *arguments)
        assert "Traceback" not in answer.out + answer.err
        return answer

    return run


@pytest.mark.parametrize("name", FILES)
def test_a_single_file_is_refused_and_leaves_nothing(restore, tmp_path, name):
    make, words = FILES[name]
    make(tmp_path / "bad.tif")
    answer = restore(tmp_path / "bad.tif")
    assert answer.code == 2 and answer.err.startswith(f"error: {tmp_path}/bad.tif"), answer
    assert any(word in answer.err for word in words.split("|")), answer.err
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_all_of_them_among_good_ones(restore, tmp_path):
    (tmp_path / "in").mkdir()
    for number, (make, _) in enumerate(FILES.values()):
        make(tmp_path / "in" / f"bad_{number:02d}.tif")
    tifffile.imwrite(tmp_path / "in" / "good.tif", GOOD)
    tifffile.imwrite(tmp_path / "in" / "last.tif", GOOD)
    answer = restore(tmp_path / "in")
    assert answer.code == 3 and f"2 of {len(FILES) + 2} files restored" in answer.out
    left = {path.name for path in (tmp_path / "out").rglob("*")}
    assert left == {"good.tif", "good_std.tif", "last.tif", "last_std.tif", "restore.json"}
    records = json.loads((tmp_path / "out" / "restore.json").read_text())["files"]
    assert ["error" in record for record in records] == [True] * len(FILES) + [False] * 2


def test_of_a_stack_without_its_end_the_sound_planes_are_restored(restore, tmp_path):
    stack_without_end(tmp_path / "a.tif")
    answer = restore(tmp_path / "a.tif")
    assert answer.code == 0 and tifffile.imread(tmp_path / "out" / "a.tif").shape == (3, *GOOD.shape)
    (record,) = json.loads((tmp_path / "out" / "restore.json").read_text())["files"]
    assert sum(note["count"] for note in record["notes"] if note["kind"] == "left_aside") == 1
    assert "1 item ignored" in answer.out


@pytest.mark.parametrize(
    ("channels", "words"),
    [("[2]", "indices 0 to 1"), ("[actin]", "channels=['actin']"), ("[0,0]", "indices 0 to 1")],
)
def test_channels_that_the_file_does_not_have(restore, tmp_path, channels, words):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GOOD] * 2), imagej=True, metadata={"axes": "CYX"})
    answer = restore(tmp_path / "a.tif", f"channels={channels}")
    assert answer.code == 2 and words in answer.err and not (tmp_path / "out").exists()


def test_a_folder_that_is_both_input_and_output(restore, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GOOD)
    answer = restore(tmp_path / "a.tif", output=tmp_path)
    assert answer.code == 2 and "is the folder of the input" in answer.err
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), GOOD)


def test_two_inputs_of_one_name(restore, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", GOOD)
    assert restore(f"[{tmp_path}/one,{tmp_path}/two]").code == 0
    made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.tif"))
    assert made == ["one/a.tif", "one/a_std.tif", "two/a.tif", "two/a_std.tif"]


@pytest.mark.parametrize("source", ["''", "[]", "5", "{here}/none.tif", "{here}/*.png", "{here}/empty"])
def test_inputs_that_mean_no_file(restore, tmp_path, source):
    (tmp_path / "empty").mkdir()
    answer = restore(source.format(here=tmp_path))
    assert answer.code == 2 and "input" in answer.err and not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_half_written(restore, tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", GOOD)

    def full(self, plane):
        with self._disk():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    monkeypatch.setattr(TiffStackWriter, "write", full)
    answer = restore(tmp_path / "a.tif")
    assert answer.code == 2 and "the disk is full" in answer.err
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("what", ["file", "output"])
def test_what_may_not_be_read_or_written(restore, tmp_path, what):
    if os.geteuid() == 0:
        pytest.skip("permissions do not hold for the superuser")
    tifffile.imwrite(tmp_path / "a.tif", GOOD)
    place = tmp_path / ("a.tif" if what == "file" else "out")
    (tmp_path / "out").mkdir()
    place.chmod(0o000 if what == "file" else 0o500)
    answer = restore(tmp_path / "a.tif")
    place.chmod(0o700)
    assert answer.code == 2 and "permission" in answer.err.lower() and str(place) in answer.err


def test_a_damaged_record_is_not_overwritten(restore, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GOOD)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "restore.json").write_text("{")
    answer = restore(tmp_path / "a.tif")
    assert answer.code == 2 and "not a record of this program" in answer.err
    assert (tmp_path / "out" / "restore.json").read_text() == "{"


def test_a_checkpoint_of_another_program(restore, model, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GOOD)
    shutil.copy(tmp_path / "a.tif", model)
    answer = restore(tmp_path / "a.tif")
    assert answer.code == 2 and "cannot be read as a checkpoint" in answer.err
