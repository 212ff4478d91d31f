"""Folders of noisy images without clean ones: trained on by what needs none, refused by all that does, never scored."""

import shutil

import numpy as np
import pytest
import tifffile

from ddpm_lightning.datasets.folder import FolderPairs
from ddpm_lightning.simulation.degradations import Crosstalk
from ddpm_lightning.simulation.degraded_pairs import DegradedPairs
from tests.trained import write_checkpoint

BLIND = ["model=noise2void_small", "trainer=cpu", "data.crop=32", "trainer.max_steps=2"]


@pytest.fixture
def noisy_folder(pair_folder):
    for split in ("train", "val"):
        shutil.rmtree(pair_folder / split / "high")
    return pair_folder


def test_pairs_say_that_they_are_none(noisy_folder):
    train, test = (FolderPairs(noisy_folder, split) for split in ("train", "test"))
    assert not train[0].paired and test[0].paired
    np.testing.assert_array_equal(train[0].high, train[0].low)
    assert not DegradedPairs(train, [Crosstalk(1.0)])[0].paired


def test_noise2void_learns_and_restores(command, noisy_folder, tmp_path):
    """Validation draws pictures, and logs no number that would compare an image with itself."""
    run = tmp_path / "run"
    answer = command("train", "data=folder", f"data.root={noisy_folder}", f"run_folder={run}", *BLIND)
    assert answer.code == 0, answer.err
    assert "restore checkpoint=" in answer.out and "evaluate" not in answer.out
    columns = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert "val/loss" in columns and not [name for name in columns if "psnr" in name]
    assert list((run / "figures").glob("samples_*.png"))
    best = run / "checkpoints" / "best.ckpt"
    answer = command(
        "restore", f"checkpoint={best}", f"input={noisy_folder}/train/low", f"output={tmp_path / 'out'}"
    )
    assert answer.code == 0 and tifffile.imread(tmp_path / "out" / "00000.tif").std() > 0
    # The split that has clean images can be scored, the others cannot.
    assert command("evaluate", f"checkpoint={best}", "figures=0", f"output={tmp_path / 'test'}").code == 0
    answer = command("evaluate", f"checkpoint={best}", "split=val", f"output={tmp_path / 'val'}")
    assert answer.code == 2 and "has no clean images in its split 'val'" in answer.err
    assert not (tmp_path / "val").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model=regression_small"], ["no clean images in its split 'train'", "noise2void_small"]),
        (["model=gaussian"], ["no clean images in its split 'train'"]),
        (["callbacks.checkpoint.monitor=val/psnr"], ["callbacks.checkpoint.monitor"]),
    ],
)
def test_what_needs_clean_images_is_refused(command, noisy_folder, tmp_path, settings, words):
    run = tmp_path / "run"
    answer = command(
        "train", "data=folder", f"data.root={noisy_folder}", f"run_folder={run}", *BLIND, *settings
    )
    assert answer.code == 2 and all(word in answer.err for word in words), answer.err
    assert not run.exists()


def test_a_trained_model_is_not_tuned_to_them(command, noisy_folder, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "model.ckpt")
    answer = command(
        "train", f"finetune={checkpoint}", "data=folder", f"data.root={noisy_folder}", "data.crop=32"
    )
    assert answer.code == 2 and "no clean images" in answer.err


def test_the_audit_says_so(command, noisy_folder, tmp_path):
    answer = command(
        "prepare", "data=folder", f"data.root={noisy_folder}", "check=true", f"output={tmp_path / 'audit'}"
    )
    assert answer.code == 0, answer
    assert "train: has no clean images" in answer.out and "more than once" not in answer.out
