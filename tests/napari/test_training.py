"""Pairs of folders and layers, the command that trains on them, and its curves."""

import numpy as np
import pytest

from ddpm_lightning.cli import compose
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.napari.selection import Selection
from ddpm_lightning.napari.training import METHODS, TrainRequest, curves, pairs_of_folders, pairs_of_layers
from ddpm_lightning.training.from_python import dataset
from ddpm_lightning.utils.errors import UserError
from tests.conftest import write_pairs


def selection(shape, name="noisy"):
    pixels = np.random.default_rng(0).poisson(30, shape).astype(np.uint16)
    return Selection(name, pixels, ImageInfo("ZYX", shape, pixels.dtype, (0.1, 0.1)), (1,) * 3, (0,) * 3, ())


def test_pairs_are_found_by_the_data_set(tmp_path):
    pairs = write_pairs(tmp_path / "given") / "train"
    root = pairs_of_folders(pairs / "low", pairs / "high", tmp_path / "linked")
    layers = pairs_of_layers(selection((2, 256, 300)), selection((2, 256, 300), "clean"), tmp_path / "cut")
    for folder, files in ((root, 4), (layers, 4)):
        assert len(list((folder / "high").iterdir())) == files
        data = dataset("folder", root=str(folder), crop=16).build()
        assert sum(len(data.pairs(split)) for split in ("train", "val", "test")) == files * (
            1 + (folder == layers)
        )
    (pairs / "low" / "more.tif").touch()
    for wrong in (
        lambda: pairs_of_folders(pairs / "low", pairs / "high", tmp_path / "a"),
        lambda: pairs_of_folders(tmp_path / "none", tmp_path / "none", tmp_path / "a"),
        lambda: pairs_of_layers(selection((1, 256, 256)), selection((1, 256, 260), "clean"), tmp_path / "a"),
        lambda: pairs_of_layers(selection((1, 128, 256)), selection((1, 128, 256)), tmp_path / "a"),
    ):
        with pytest.raises(UserError):
            wrong()
    assert not (tmp_path / "a").exists()


def test_commands_have_settings_that_exist_and_curves_are_read(tmp_path):
    for method in list(METHODS)[2:]:
        request = TrainRequest.of({"method": method, "minutes": 90.5, "folder": tmp_path, "root": tmp_path})
        compose.check("train", request.command[4:])
    assert "++trainer.max_time=00:01:30:30" in request.command
    assert curves(tmp_path) == []
    (tmp_path / "metrics.csv").write_text(
        "step,epoch,train/loss,val/loss\n9,0,0.5,\n19,0,0.25,\n20,0,,0.75\n"
    )
    train, val = curves(tmp_path)
    assert (train.steps, train.values, val.steps, val.values) == ([9, 19], [0.5, 0.25], [20], [0.75])
