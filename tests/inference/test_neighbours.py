"""Models that see neighbouring planes: which planes they see in a file, and what the record says."""

import json

import numpy as np
import pytest
import tifffile

from ddpm_lightning.inference.plane_window import PlaneWindow
from ddpm_lightning.inference.restore_folder import restore_folder
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.stack_axis import StackAxis
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint

MODEL = ["model=regression_small", "model.network.base=8", "model.network.multipliers=[1,2]", "data.crop=32"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "t.ckpt"
    return write_checkpoint(path, "data.neighbours=1", model=MODEL, axis="t")


@pytest.fixture(scope="module")
def restorer(checkpoint):
    return Restorer.load(checkpoint, margin=0)


def stack(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 100, (*shape, 32, 32)).astype(np.float32)


def test_each_plane_sees_its_neighbours_along_the_axis_of_the_training(restorer):
    low = stack(3, 2)
    restored = restorer.restore(low, axes="TZYX").mean
    before = restorer.normalisation.input.fitted

    def alone(t: int, z: int) -> np.ndarray:
        around = [low[at, z] if 0 <= at < 3 else None for at in (t - 1, t + 1)]
        return restorer.restore_plane(low[t, z], scale=before, neighbours=around).mean

    for t, z in ((0, 0), (1, 1), (2, 0)):
        assert np.array_equal(restored[t, z], alone(t, z))
    single = restorer.restore(low[1, 1]).mean
    assert not np.allclose(restored[1, 1], single, atol=0.1)
    # Along z, there is no neighbour for this model; nor has a single plane any.
    assert np.array_equal(restorer.restore(low[1], axes="ZYX").mean[1], single)


def test_constant_planes_are_no_neighbours(restorer):
    low = stack(3)
    low[0] = 7
    restored = restorer.restore(low, axes="TYX")
    around = restorer.restore_plane(
        low[1], scale=restorer.normalisation.input.fitted, neighbours=[None, low[2]]
    )
    assert restored.blank == ("t0",) and np.array_equal(restored.mean[1], around.mean)


@pytest.mark.parametrize(
    ("axes", "setting", "letter"),
    [
        ("TZYX", "auto", "T"),
        ("TZYX", "z", "Z"),
        ("ZYX", "auto", ""),
        ("ZYX", "z", "Z"),
        ("IYX", "auto", "I"),
        ("IYX", "t", ""),
    ],
)
def test_the_axis_is_chosen(checkpoint, axes, setting, letter):
    info = ImageInfo(axes, (3,) * (len(axes) - 2) + (32, 32), np.dtype(np.float32))
    assert Restorer.load(checkpoint, neighbours_axis=setting).stack_axis(info).letter == letter


def test_records_name_the_axis(checkpoint, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    tifffile.imwrite(source / "movie.tif", stack(3, 2), imagej=True, metadata={"axes": "TZYX"})
    tifffile.imwrite(source / "volume.tif", stack(3), imagej=True, metadata={"axes": "ZYX"})
    restore_folder(checkpoint=str(checkpoint), input=str(source), output=str(tmp_path / "out"))
    files = json.loads((tmp_path / "out" / "restore.json").read_text())["files"]
    found = {one["file"]: one["stack"]["neighbours"] for one in files}
    assert found == {"movie.tif": {"planes": 1, "axis": "t"}, "volume.tif": {"planes": 0, "axis": None}}


def test_the_axis_needs_a_model_with_neighbours(tmp_path):
    plain = write_checkpoint(tmp_path / "plain.ckpt", model=MODEL)
    with pytest.raises(UserError) as caught:
        Restorer.load(plain, neighbours_axis="z")
    assert caught.value.subject == "neighbours_axis=z"


@pytest.mark.parametrize(("step", "most"), [(1, 5), (3, 13)])
def test_planes_are_read_once_and_few_are_kept(step, most):
    """Time is the first axis; with three planes at each time, neighbours are three planes apart."""
    reads, length = [], 20

    def planes():
        for number in range(step * length):
            reads.append(number)
            yield np.full((8, 8), number)

    window, kept = PlaneWindow(planes(), lambda low: int(low[0, 0]), StackAxis("T", step, length), 2), 0
    for number in range(step * length):
        assert window.plane(number)[0, 0] == window.prepared(number) == number
        expected = [number + step * distance for distance in (-1, 1, -2, 2)]
        assert window.around(number) == [n if 0 <= n < step * length else None for n in expected]
        kept = max(kept, len(window._read), len(window._prepared))
    assert reads == list(range(step * length)) and kept == most
