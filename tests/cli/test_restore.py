"""The verb restore: its results, warnings and errors, and that a resumed job writes the same bytes."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.inference import restore_folder as jobs
from ddpm_lightning.metrics.conformal import Conformal
from tests.trained import TINY, store, write_checkpoint

#: Few and small evaluations: three steps, planes of four tiles.
SMALL = ["preset=stored", "samples=2", "tile=32", "overlap=8", "margin=0"]


@pytest.fixture
def model(tmp_path):
    return write_checkpoint(tmp_path / "model" / "best.ckpt")


@pytest.fixture
def noisy(tmp_path):
    """A folder of a stack and three planes."""
    folder, rng = tmp_path / "noisy", np.random.default_rng(0)
    folder.mkdir()
    stack = rng.poisson(30, (3, 20, 24)).astype(np.uint16)
    tifffile.imwrite(
        folder / "stack.tif", stack, imagej=True, resolution=(10, 10), metadata={"axes": "ZYX", "unit": "um"}
    )
    for name in ("a", "b", "c"):
        tifffile.imwrite(folder / f"{name}.tif", rng.poisson(30, (40, 36)).astype(np.uint16))
    return folder


@pytest.fixture
def do(command, model, noisy, tmp_path):
    """Restores the folder; returns the answer, the files and the record."""

    def run(*arguments, output="out", code=0):
        answer = command(
            "restore",
            f"checkpoint={model}",
            *([] if any(a.startswith("input=") for a in arguments) else [f"input={noisy}"]),
            f"output={tmp_path / output}",
            *SMALL,
            *arguments,
        )
        assert answer.code == code, answer
        found = sorted(path for path in (tmp_path / output).rglob("*") if path.is_file())
        images = {path.name: path.read_bytes() for path in found if path.suffix == ".tif"}
        record = tmp_path / output / "restore.json"
        return answer, images, json.loads(record.read_text()) if record.is_file() else {}

    return run


def test_everything_on_request_and_its_record(do, tmp_path):
    answer, images, record = do("entropy=true", "single=true", "preview=true")
    parts = ("", "_std", "_entropy", "_sample_01", "_sample_02")
    assert set(images) == {f"{name}{part}.tif" for name in ("a", "b", "c", "stack") for part in parts}
    previews = sorted((tmp_path / "out" / "preview").iterdir())
    assert [path.name for path in previews] == ["a.png", "b.png", "c.png", "stack.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in previews)
    assert (record["preset"], record["sampler"]) == (
        "stored",
        "ancestral with 3 of 200 steps, test-time augmentation",
    ) and len(record["model"]["sha256"]) == 64
    assert record["settings"]["seed"] == 0 and record["versions"]["torch"] and record["seconds"] > 0
    training = record["model"]["training"]
    assert training["data"] == "simulated_microtubules" and training["data_settings"]["crop"] == 32
    assert (
        training["model"]["network"]["base"] == 8
        and training["normalisation"]["state"]["input"]["high"] == 100
    )
    stack = record["files"][3]
    assert stack["planes"] == 3 and stack["pixel_size_um"] == pytest.approx([0.1, 0.1])
    assert "4 of 4 files restored" in answer.out
    assert not list((tmp_path / "out").glob(".*"))


def test_inputs_unlike_the_training_are_warned_of(do):
    """The tiny model says that it has seen noise of half its scale; a dose of 30 has a tenth of that."""
    answer, _, record = do()
    assert any(line.startswith("noise: 0.2") for line in record["files"][0]["warnings"])
    assert "a.tif is unlike the training images: " in answer.out
    assert record["checked_against_training"] == ["intensity", "blank", "noise", "spectrum"]


def test_lists_and_patterns(do, noisy):
    _, images, _ = do(f"input=[{noisy}/c.tif,{noisy}/a.tif]")
    assert set(images) == {"a.tif", "a_std.tif", "c.tif", "c_std.tif"}
    _, images, record = do(f"input='{noisy}/[bc].tif'", output="two")
    assert [file["file"] for file in record["files"]] == ["b.tif", "c.tif"]


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.mark.parametrize("plane", [1, 4])
def test_a_killed_job_resumes_to_the_same_bytes(do, monkeypatch, plane, tmp_path):
    _, undisturbed, _ = do()
    seen = []
    original = jobs.restore_file

    def dies(restorer, path, folder, settings, intervals, on_plane):
        def count(restored):
            on_plane(restored)
            seen.append(path.name)
            if len(seen) == plane + 1:
                (folder / f".{path.name}.0123456789abcdef.partial").write_bytes(b"half-written")
                raise Killed

        return original(restorer, path, folder, settings, intervals, count)

    monkeypatch.setattr(jobs, "restore_file", dies)
    with pytest.raises(Killed):
        do(output="again")
    assert not [
        name for name in seen[:plane] if not (tmp_path / "again" / name).is_file() and name != seen[-1]
    ]
    before = len(seen)
    answer, images, record = do(output="again")
    assert images == undisturbed and [file["file"] for file in record["files"]][-1] == "stack.tif"
    finished = sum(name != seen[before - 1] for name in set(seen[:before]))
    assert (f"{finished} of 4 files were finished before" in answer.out) == bool(finished)
    assert not set(seen[before:]) & {name for name in seen[:before] if name != seen[before - 1]}
    assert not list((tmp_path / "again").glob(".*"))


def test_nothing_is_done_twice_unless_something_changed(do, noisy, monkeypatch):
    do()
    done = []
    original = jobs.restore_file
    monkeypatch.setattr(jobs, "restore_file", lambda *a: done.append(a[1].name) or original(*a))
    answer, _, _ = do()
    assert done == [] and "4 of 4 files were finished before" in answer.out
    tifffile.imwrite(noisy / "b.tif", np.eye(40, dtype=np.uint16) * 50)
    answer, _, _ = do()
    assert done == ["b.tif"] and "3 of 4 files were finished before" in answer.out
    assert "1 file was restored before and changed since" in answer.out
    do("seed=1")
    assert len(done) == 5


@pytest.mark.slow
def test_another_request_does_only_what_is_new_and_says_so(do, monkeypatch, tmp_path):
    _, first, _ = do()
    done = []
    original = jobs.restore_file
    monkeypatch.setattr(jobs, "restore_file", lambda *a: done.append(a[1].name) or original(*a))
    answer, images, record = do("preview=true")
    assert done == [] and images == first and len(list((tmp_path / "out/preview").glob("*.png"))) == 4
    assert "4 files were restored before: the previews are plotted from the results" in answer.out
    assert all("preview" in " ".join(file["results"]) for file in record["files"])
    answer, _, _ = do("preview=true")
    assert done == [] and "4 of 4 files were finished before" in answer.out
    answer, images, record = do("entropy=true", "single=true")
    assert len(done) == 4 and "their samples were not stored" in answer.out
    assert {name: images[name] for name in first} == first and "a_entropy.tif" in images
    assert {"preview/a.png", "a_sample_02.tif", "a.tif", "a_std.tif"} <= set(record["files"][0]["results"])
    for fewer in ([], ["std=false"], ["entropy=true", "preview=true"]):
        answer, _, _ = do(*fewer)
        assert len(done) == 4 and "4 of 4 files were finished before" in answer.out
    (tmp_path / "out" / "preview" / "a.png").unlink()
    (tmp_path / "out" / "b_entropy.tif").write_bytes(b"spoilt")
    answer, images, _ = do("entropy=true", "preview=true")
    assert done[4:] == ["b.tif"] and "2 of 4 files were finished before" in answer.out
    assert (
        "1 file was restored before: the previews are plotted" in answer.out
        and "b_entropy.tif" in answer.out
        and len(images["b_entropy.tif"]) > 99
    )
    answer, images, _ = do("seed=1", "samples=3")
    assert (
        len(done) == 9 and "seed: 0 before, 1 now" in answer.out and "samples: 2 before, 3 now" in answer.out
    )
    assert (
        "4 files were restored before with other settings" in answer.out and images["a.tif"] != first["a.tif"]
    )
    assert "left unchanged in" in answer.out and "a_sample_02.tif" in images


@pytest.mark.slow
def test_two_processes_and_any_number_of_workers_give_the_bytes_of_one(do, noisy, model, tmp_path):
    _, one, record = do("workers=1")
    _, several, _ = do("workers=3", output="several")
    output = tmp_path / "two"
    arguments = [f"checkpoint={model}", f"input={noisy}", f"output={output}", *SMALL]
    command = [sys.executable, "-m", "ddpm_lightning", "restore", *arguments, "processes=2"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert answer.returncode == 0, answer.stderr
    two = {path.name: path.read_bytes() for path in output.glob("*.tif")}
    assert one == several == two
    ours, theirs = (
        [file["results"] for file in json.loads((folder / "restore.json").read_text())["files"]]
        for folder in (tmp_path / "out", output)
    )
    assert ours == theirs


def test_workers_do_not_change_a_byte(do, noisy):
    one, other = (do(f"input={noisy}/a.tif", f"workers={n}", output=str(n))[1] for n in (1, 3))
    assert one == other


def test_intervals_need_a_calibration_and_use_it(do, model, noisy, tmp_path):
    answer, images, _ = do("intervals=true", code=2)
    assert (
        "was not calibrated for 2 samples" in answer.err
        and "calibrate=true samples=2" in answer.err
        and "preset=stored" in answer.err
        and not images
    )
    intervals = Conformal(factor=2.0, level=0.9, epsilon=0.001, images=20)
    store(load(model, preset="stored", samples=2), std_factor=3.0, intervals=intervals)
    do("intervals=true")
    low, high, std = (
        tifffile.imread(tmp_path / "out" / f"a_{part}.tif")
        for part in ("interval_low", "interval_high", "std")
    )
    # The factor of the map is not applied to the intervals, which have their own.
    np.testing.assert_allclose(high - low, 4 * (std / 3 + 0.001 * 50), rtol=1e-3, atol=1e-4)


def test_the_map_is_multiplied_by_the_factor_and_says_so(do, model, tmp_path):
    answer, before, record = do("entropy=true")
    assert "ranks pixels" in answer.out and "calibrate=true" in answer.out and "preset=stored" in answer.out
    assert all(file["std_map"]["calibrated"] is False for file in record["files"])
    store(load(model, preset="stored", samples=2), std_factor=2.75, images=21, data="beads")
    answer, after, record = do("entropy=true")
    assert "4 files were restored before with other settings" in answer.out
    assert "scaled by 2.75" in answer.out.splitlines()[-1] and "21 images of beads" in answer.out
    for file in record["files"]:
        found = file["std_map"]
        assert (found["std_factor"], found["images"], found["data"]) == (2.75, 21, "beads")
        assert found["split"] == "val" and found["samples"] == 2
    for name in before:
        if name.endswith("_std.tif"):
            old, new = (tifffile.imread(io.BytesIO(images[name])) for images in (before, after))
            assert np.array_equal(new, np.float32(2.75) * old), name
        else:
            assert before[name] == after[name], name
    again, *_ = do("entropy=true")
    assert "4 of 4 files were finished before" in again.out and "scaled by 2.75" in again.out
    # Made in another way: not applied.
    for number, other in enumerate(("samples=4", "sampler.antithetic=true", "tta=false", "tolerance=0.5")):
        answer, _, record = do(other, f"input={tmp_path}/noisy/a.tif", output=f"other {number}")
        assert record["files"][0]["std_map"]["calibrated"] is False and "ranks pixels" in answer.out
    answer, _, record = do("std=false", output="without")
    assert "std_map" not in record["files"][0] and "standard deviation" not in answer.out


def test_a_method_of_one_sample_has_no_standard_deviation(do, tmp_path, noisy):
    settings = [setting for setting in TINY[1:] if "sampler" not in setting]
    regression = write_checkpoint(
        tmp_path / "regression" / "best.ckpt", model=["model=regression_small", *settings]
    )
    _, images, record = do(f"checkpoint={regression}", f"input={noisy}/a.tif", "preset=null")
    assert set(images) == {"a.tif"} and record["files"][0]["samples"] == 1
    answer, _, _ = do(f"checkpoint={regression}", "entropy=true", "preset=null", output="other", code=2)
    assert "entropy=true: needs several different samples" in answer.err


def test_a_plan_says_what_the_job_costs_and_does_nothing(do, tmp_path):
    answer, images, _ = do("plan=true", "samples=10")
    tiles = (3 * 2 * 2 + 3) * 10 * 3  # three planes of 40 x 36 pixels, and three that fit in a tile
    assert f"10 samples: {tiles} network evaluations on tiles of up to 24 x 24 pixels" in answer.out
    assert "samples=5" in answer.out and "GB that are free" in answer.out
    assert not (tmp_path / "out").exists()


def test_folders_of_positions_with_equal_names_are_restored_side_by_side(do, noisy, tmp_path):
    for place in ("Pos0", "Pos1"):
        (tmp_path / "experiment" / place).mkdir(parents=True)
        (tmp_path / "experiment" / place / "img.tif").write_bytes((noisy / "a.tif").read_bytes())
    (tmp_path / "experiment" / "Pos1" / "view.png").touch()
    (tmp_path / "experiment" / "Pos1" / "bad.tif").touch()
    answer, _, record = do(f"input={tmp_path}/experiment", "preview=true", code=3)
    made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    images = [f"{place}/img{part}.tif" for place in ("Pos0", "Pos1") for part in ("", "_std")]
    assert made == sorted([*images, "preview/Pos0/img.png", "preview/Pos1/img.png", "restore.json"])
    assert [file["file"] for file in record["files"]] == ["Pos0/img.tif", "Pos1/bad.tif", "Pos1/img.tif"]
    assert [note["count"] for note in record["left_aside"]] == [1] and "1 .png file" in answer.out
    assert (
        "2 of 3 files were finished before"
        in do(f"input={tmp_path}/experiment", "preview=true", code=3)[0].out
    )


def test_one_sample_of_each_image_has_no_map(do, tmp_path):
    answer, images, record = do("samples=1", "preview=true", f"input={tmp_path}/noisy/a.tif")
    assert set(images) == {"a.tif"} and (tmp_path / "out" / "preview" / "a.png").is_file()
    assert "no standard deviation" in answer.out and "no standard deviation" in record["files"][0]["no_std"]
    _, images, record = do("samples=2", f"input={tmp_path}/noisy/a.tif")
    assert set(images) == {"a.tif", "a_std.tif"} and "no_std" not in record["files"][0]
    for asked in ("entropy", "intervals"):
        answer, *_ = do("samples=1", f"{asked}=true", f"input={tmp_path}/noisy/a.tif", output="new", code=2)
        assert asked in answer.err and not (tmp_path / "new").exists()


@pytest.mark.parametrize(("setting", "allowed"), [("hot_pixels=remove", "keep"), ("dtype=int8", "float32")])
def test_unknown_words_are_refused(command, model, noisy, tmp_path, setting, allowed):
    answer = command(
        "restore", f"checkpoint={model}", f"input={noisy}", f"output={tmp_path / 'out'}", setting
    )
    assert (
        answer.code == 2
        and not (tmp_path / "out").exists()
        and setting.split("=")[0] in answer.err
        and allowed in answer.err
    )
