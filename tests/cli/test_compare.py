"""``compare`` and the further wishes of ``evaluate``, from the command line."""

import csv
import json

import numpy as np
import pytest
import tifffile
import torch

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.cli import compose
from ddpm_lightning.cli.compare import spelled_out
from ddpm_lightning.cli.train import new_settings
from ddpm_lightning.evaluation.evaluate import input_reference
from ddpm_lightning.evaluation.tables import read_rows
from ddpm_lightning.training.card import make_card
from ddpm_lightning.utils.instantiate import build
from tests.conftest import write_pairs
from tests.trained import TINY, write_checkpoint


@pytest.fixture(autouse=True)
def no_backbone(monkeypatch, tmp_path):
    monkeypatch.setenv("DDPM_LIGHTNING_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def scored(command, tmp_path):
    """Evaluates a tiny model on blobs; returns a function of overrides that gives the answer and the folder."""
    checkpoint = write_checkpoint(tmp_path / "model" / "best.ckpt")
    pairs = write_pairs(tmp_path / "pairs", size=48)

    def score(name, *overrides):
        folder = tmp_path / name
        answer = command(
            "evaluate",
            f"checkpoint={checkpoint}",
            "data=folder",
            f"data.root={pairs}",
            f"output={folder}",
            "samples=2",
            "figures=0",
            *overrides,
        )
        return answer, folder

    score.pairs, score.checkpoint = pairs, checkpoint
    return score


def test_two_evaluations_are_compared(command, scored, tmp_path):
    for name, steps in (("three", 3), ("two", 2)):
        assert scored(name, f"sampler.steps={steps}")[0].code == 0
    answer = command("compare", "three/metrics.csv", "two", "output=table", "metrics=[psnr,mae]")
    assert answer.code == 0, answer.err
    assert "| three | average |" in answer.out and "Too few fields of view" in answer.out
    assert {path.name for path in (tmp_path / "table").iterdir()} == {
        "comparison.md",
        "comparison.csv",
        "comparison.tex",
        "differences.csv",
    }
    with (tmp_path / "table" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert float(rows[2]["median"]) == summary["estimators"]["average"]["psnr"]["median"]


@pytest.mark.slow
def test_bad_tables_are_refused(command, scored, tmp_path):
    assert scored("good", "also=[paper,affine]")[0].code == 0
    text = (tmp_path / "good" / "metrics.csv").read_bytes()
    (tmp_path / "cut.csv").write_bytes(text[:-200])
    before = sorted(tmp_path.rglob("*"))
    for files, words in (
        (["good", "cut.csv"], "cut off"),
        (["good", "good/metrics_paper.csv"], "different protocols"),
        (["good", "nowhere.csv"], "no such file"),
        (["good"], "two or more"),
        ([], "files"),
        (["good", "good", "estimator=mean"], "'mean'"),
        (["good", "good:sngle"], "did you mean good:single"),
        (["good", "good:single", "metrics=[psnrr]"], "did you mean psnr"),
    ):
        answer = command("compare", *files, "output=table")
        assert answer.code == 2 and words in answer.err and "Traceback" not in answer.err, files
    assert sorted(tmp_path.rglob("*")) == before
    other = command("compare", "good/metrics_paper.csv", "good/metrics_paper.csv:single", "output=table")
    assert other.code == 0 and "protocol `paper`" in other.out


def test_files_become_an_override(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seed=1").mkdir()
    assert spelled_out(["a.csv", "it's", "names=[a,b]"]) == ["names=[a,b]", r"files=[a.csv,'it\'s']"]
    assert spelled_out(["seed=1", "--cfg", "job"])[-1] == "files=['seed=1']"
    assert spelled_out(["files=[a]", "-m"]) == ["files=[a]", "-m"]


def test_further_protocols_have_tables_of_their_own(scored):
    answer, folder = scored("both", "also=[affine]", "protocol=paper", "align=true", "metrics.squirrel=true")
    assert answer.code == 0, answer.err
    for name, protocol in (("metrics.csv", "paper"), ("metrics_affine.csv", "affine")):
        with (folder / name).open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 9 and {row["protocol"] for row in rows} == {protocol}
        assert rows[2]["rsp"] and rows[2]["shift"] and rows[0]["estimator"] == "raw"
        assert (
            not rows[0]["rsp"] and "rsp, rse: it is itself what others are compared with" in rows[0]["absent"]
        )
    affine = [row for row in rows if row["pearson"] and row["nrmse"]]
    for row in affine:
        assert float(row["nrmse"]) == pytest.approx(np.sqrt(1 - float(row["pearson"]) ** 2), abs=1e-6)
    assert "Protocol `affine`" in (folder / "summary.md").read_text()


@pytest.mark.slow
def test_intervals_are_calibrated_on_val_and_checked_on_test(scored):
    for number in range(12):
        rng = np.random.default_rng(number)
        high = rng.gamma(2, 15, (32, 32))
        for role, image in (("low", rng.poisson(high / 3)), ("high", rng.poisson(high))):
            tifffile.imwrite(scored.pairs / "val" / role / f"more{number}.tif", image.astype(np.uint16))
    answer, folder = scored("val", "split=val", "calibrate=true", "level=0.8")
    assert answer.code == 0, answer.err
    (stored,) = torch.load(scored.checkpoint, weights_only=True)["card"]["calibrations"]
    assert stored["intervals"]["level"] == 0.8 and stored["images"] == 14 and stored["samples"] == 2
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["conformal"]["coverage"] == pytest.approx(0.8, abs=0.08)
    assert summary["std_map"]["ratio"] == pytest.approx(1, abs=1e-6)
    assert summary["checkpoint"]["sha256"] == load(scored.checkpoint).sha256
    _, test = scored("test")
    conformal = json.loads((test / "summary.json").read_text())["conformal"]
    assert conformal["factor"] == stored["intervals"]["factor"] and 0 < conformal["coverage"] <= 1
    assert "factor calibrated for 80%" in (test / "summary.md").read_text()
    _, other = scored("other", "samples=3")
    assert json.loads((other / "summary.json").read_text())["conformal"] is None, (
        "for another number of samples"
    )


def test_calibration_that_would_mean_nothing_is_refused(scored):
    for overrides, words in (
        (["calibrate=true"], "split=val"),
        (["calibrate=true", "split=val"], "at least 9"),
        (["calibrate=true", "split=val", "samples=1"], "samples"),
        (["level=1.5"], "level"),
        (["also=[papre]"], "'papre'"),
        (["processes=0"], "processes"),
    ):
        answer, folder = scored("refused", *overrides)
        assert answer.code == 2 and words in answer.err, overrides
        assert not folder.exists()


def test_an_image_that_cannot_be_read_is_listed(scored):
    path = scored.pairs / "test" / "low" / "00001.tif"
    path.write_bytes(path.read_bytes()[:300])
    answer, folder = scored("some")
    assert answer.code == 3, answer.err
    # Once for all metrics of an image, and once for the image.
    assert answer.out.count("00001.tif") == 1 and (folder / "summary.md").read_text().count("00001.tif") == 1
    with (folder / "metrics.csv").open() as file:
        row = [row for row in csv.DictReader(file) if row["image"] == "number 1"][0]
    assert row["absent"].count("00001.tif") == 1 and "psnr" in row["absent"]
    assert read_rows(folder / "metrics.csv")[3].absent.keys() >= {"psnr", "ms_ssim", "pearson"}
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["failed"]) == ["number 1"] and "00001.tif" in summary["failed"]["number 1"]
    assert summary["images"] == 3 and summary["estimators"]["average"]["psnr"]["images"] == 2
    for name in ("00000.tif", "00002.tif"):
        (scored.pairs / "test" / "low" / name).write_bytes(b"II*\0")
    answer, folder = scored("none")
    assert answer.code == 2 and "no image could be scored" in answer.err and not folder.exists()


def test_training_inputs_are_remembered_or_read_again(scored, tmp_path):
    settings = [f"data.root={scored.pairs}", "data=folder", *TINY]
    config = new_settings(compose.compose("train", [*settings, f"run_folder={tmp_path}/run"]), {})
    data = build(config.data)
    data.setup("fit")
    remembered = make_card(config, data)["inputs"]
    assert len(remembered["noise"]) == 4, "one for each training image"

    path = write_checkpoint(tmp_path / "old.ckpt", *settings)
    content = torch.load(path, weights_only=True)
    assert set(input_reference(load(path))[0].features) == set(remembered)
    # A checkpoint that says nothing of its inputs, with its data at hand, and without.
    del content["card"]["inputs"]
    torch.save(content, path)
    assert len(input_reference(load(path))[0].features["noise"]) == 4
    (scored.pairs / "train").rename(scored.pairs / "elsewhere")
    reference, reason = input_reference(load(path))
    assert reference is None and "the training images are not available" in reason
