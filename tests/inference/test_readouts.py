"""Readouts of restored files: calibrated on pairs, written with intervals, and without them where nobody checked."""

import csv
import json
import shutil

import numpy as np
import pytest
import tifffile
import torch

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.evaluation.distribution_shift import InputReference
from ddpm_lightning.evaluation.evaluate import evaluate
from ddpm_lightning.evaluation.settings import EvaluateSettings
from ddpm_lightning.inference.restore_folder import restore_folder
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.utils.errors import UserError
from tests.command import call
from tests.test_documents import ROOT, commands
from tests.trained import write_checkpoint

READOUT = ["puncta", {"name": "count", "smallest": 4}, "profile"]
MODEL = "runs/mine/checkpoints/best.ckpt"
WAY = {"preset": "stored", "samples": 2, "device": "cpu"}


def image(rng, side=32):
    y, x = np.mgrid[:side, :side]
    high = np.full((side, side), 5.0)
    for _ in range(5):
        cy, cx = rng.uniform(2, side - 2, 2)
        high += 60 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 8)
    return rng.poisson(high).astype(np.uint16), high.astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, 24 pairs of two groups to calibrate it on, and two files: one like them, one unlike them."""
    place, rng = tmp_path_factory.mktemp("readouts"), np.random.default_rng(0)
    pairs = [image(rng) for _ in range(25)]
    for number, (low, high) in enumerate(pairs[:24]):
        for role, plane in (("low", low), ("high", high)):
            path = place / "my_pairs/val" / role / f"{'ab'[number > 20]}_{number:02d}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, plane)
    (place / "noisy").mkdir()
    tifffile.imwrite(place / "noisy/a_like.tif", rng.poisson(pairs[3][1]).astype(np.uint16))
    unlike = np.kron(pairs[24][0][:8, :8], np.ones((4, 4), np.uint16)) * 3
    tifffile.imwrite(place / "noisy/b_unlike.tif", unlike)
    path = write_checkpoint(place / MODEL)
    content = torch.load(path, weights_only=True)
    scale = load(path).normalisation.input
    lows = [scale.scale(low).normalise(low) for low, _ in pairs]
    content["card"]["inputs"] = InputReference.of(lows).state()
    torch.save(content, path)
    return place


def calibrated(place, **values):
    data = {"_target_": "ddpm_lightning.datasets.folder.FolderData", "root": str(place / "my_pairs")}
    data |= {"crop": 32}
    settings = {"split": "val", "calibrate": True, "readout": READOUT, "spectra": False, **WAY, **values}
    return evaluate(place / MODEL, data, EvaluateSettings.of(settings))


def restored(place, output, **values):
    job = {"checkpoint": place / MODEL, "input": place / "noisy", "output": place / output}
    found = restore_folder(**job, **{"readout": READOUT, **WAY, **values})
    with (place / output / "readouts.csv").open(newline="") as file:
        return found, list(csv.DictReader(file))


def test_files_are_measured_with_intervals_only_where_these_were_checked(place):
    _, before = restored(place, "before")
    assert all(row["no_interval"] and not row["low"] and row["value"] and row["std"] for row in before)

    found = calibrated(place, readout_groups="(.)_")
    summary, rows = found.summary["readouts"], found.readouts
    assert len(rows) == 24 * 4 and summary["profile"]["intensity"]["images"] == 24
    truth = [row["clean"] for row in rows if row["number"] == "intensity"]
    assert truth[3] == pytest.approx(tifffile.imread(place / "my_pairs/val/high/a_03.tif").mean())
    # Of the calibration images themselves, group a has an interval: at least rank 20 of 22 is inside; b has too few.
    assert 20 / 21 <= summary["profile"]["intensity"]["coverage"] <= 1
    assert 17 <= summary["profile"]["intensity"]["with_interval"] <= 21
    assert "fewer" in {row["image"]: row["no_interval"] for row in rows}["b_22"]

    job, after = restored(place, "after")
    (like,), (unlike,) = (
        [row for row in after if row["file"] == name and row["number"] == "intensity"]
        for name in ("a_like.tif", "b_unlike.tif")
    )
    assert float(like["low"]) <= float(like["high"]) and like["level"] == "0.9" and not like["no_interval"]
    assert not unlike["low"] and unlike["no_interval"] and unlike["value"]
    assert "control" not in job.records[0]
    record = json.loads((place / "after/restore.json").read_text())
    assert record["files"][0]["readouts"] == job.records[0]["readouts"]
    assert record["settings"]["readout"] == READOUT

    restorer = Restorer.load(place / MODEL, **WAY)
    plane = tifffile.imread(place / "noisy/a_like.tif")
    row = restorer.restore(plane, image="a_like", readout=READOUT).readouts[-1]
    assert row.bounds.low == pytest.approx(float(like["low"]), rel=1e-6) and row.number == "intensity"
    (other,) = restorer.restore(plane, readout=[{"name": "count", "smallest": 9}]).readouts
    assert "not calibrated" in other.bounds.reason and np.isnan(other.bounds.low)
    one = restorer.restore(plane, samples=1, readout=["count"]).readouts[0]
    assert one.bounds.reason and np.isnan(one.measured.std)
    stack = restorer.restore(np.stack([plane, np.zeros_like(plane)]), axes="ZYX", readout=READOUT).readouts
    assert [row.plane for row in stack] == ["z0"] * 4 + ["z1"] * 4 and "constant" in stack[-1].bounds.reason


def test_too_few_images_and_a_varying_number_of_samples_are_refused(place):
    for values, about in (({"limit": 18}, "calibrate=true"), ({"readout_groups": "x"}, "readout_groups=x")):
        with pytest.raises(UserError) as error:
            calibrated(place, **values)
        assert error.value.subject == about
    with pytest.raises(UserError) as error:
        restored(place, "tolerant", tolerance=0.5, samples=8, on_error="stop")
    assert "readout" in str(error.value.subject)
    (place / "foreign").mkdir()
    (place / "foreign/readouts.csv").write_text("mine")
    with pytest.raises(UserError) as error:
        restored(place, "foreign")
    assert "foreign" in str(error.value.subject)


@pytest.mark.slow
def test_the_commands_of_the_page_work(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    shutil.copytree(place / "my_pairs/val", place / "my_pairs/test")
    for verb, *settings in commands(ROOT / "docs/numbers.md"):
        smaller = ["preset=stored", "samples=2", *["figures=0"] * (verb == "evaluate")]
        answer = call(verb, *settings, *smaller, capsys=capsys, monkeypatch=monkeypatch)
        assert answer.code == 0, answer.err
    assert (place / "counted/readouts.csv").is_file()
    for record in json.loads((place / "controlled/restore.json").read_text())["files"]:
        assert list(record["control"]) == ["restored"]  # in 32 x 32 pixels, noise cannot be measured
    assert "| count | objects |" in (place / "evaluations/numbers/summary.md").read_text()
