"""What the plugin does, without a window: selections of layers, jobs, results and files."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from ddpm_lightning.inference.observer import Cancelled, Observer
from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings
from ddpm_lightning.io.stacks import open_stack
from ddpm_lightning.io.tiff import read_info
from ddpm_lightning.napari.job import Job
from ddpm_lightning.napari.reader import get_reader, read_layers
from ddpm_lightning.napari.restoring import Request, measure, restore
from ddpm_lightning.napari.results import layers_of, live_layer, save
from ddpm_lightning.napari.selection import axes_of, box_of_corners, pixel_size_of, select
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint

STACK = np.random.default_rng(0).poisson(30, (2, 2, 40, 48)).astype(np.uint16)


def layer(data=STACK, **values):
    defaults = {
        "name": "cells.ome",
        "data": data,
        "scale": np.ones(data.ndim),
        "translate": np.zeros(data.ndim),
        "units": ("pixel",) * data.ndim,
        "axis_labels": tuple(str(axis) for axis in range(-data.ndim, 0)),
        "metadata": {},
        "multiscale": False,
        "rgb": False,
    }
    return SimpleNamespace(**defaults | values)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt")


def test_axes_and_pixel_size_are_those_of_the_layer():
    assert axes_of(layer()) == "CZYX" and pixel_size_of(layer()) is None
    named = layer(
        axis_labels=("t", "z", "y", "x"), scale=(1, 500, 100, 200), units=("second", *["nanometer"] * 3)
    )
    assert axes_of(named) == "TZYX" and pixel_size_of(named) == pytest.approx((0.1, 0.2))
    assert select(named).info.z_step == 0.5 and select(named).info.time_step == 1
    assert pixel_size_of(layer(scale=(1, 1, 0.1, 0.1))) == (0.1, 0.1)  # µm, as most readers set it
    assert pixel_size_of(layer(scale=(1, 1, 2, 2), units=("hour",) * 4)) is None


def test_a_part_of_a_layer_has_its_place():
    one = layer(scale=(1, 0.5, 0.1, 0.1), translate=(0, 0, 5, 7), axis_labels=("t", "z", "y", "x"))
    box = box_of_corners(one, np.array([[6.0, 8.0], [6.0, 9.65], [7.95, 9.65], [7.95, 8.0]]))
    part = select(one, step=[1, 1.2, 0, 0], box=box)
    assert np.array_equal(part.plane(0), STACK[1, 1, 10:30, 10:27]) and part.info.axes == "YX"
    assert part.translate == pytest.approx((6, 8)) and part.scale == pytest.approx((0.1, 0.1))
    assert select(one, box=box).info.shape == (2, 2, 20, 17)
    for wrong, subject in (
        (lambda: box_of_corners(one, np.array([[-9, -9], [-8, -8]])), "region"),
        (lambda: select(one, box=(slice(0, 9), slice(0, 40))), "region"),
        (lambda: select(one, "ZYX"), "axes"),
        (lambda: select(layer(rgb=True)), "cells.ome"),
    ):
        with pytest.raises(UserError) as error:
            wrong()
        assert error.value.subject == subject


def test_a_layer_is_restored_as_its_file_and_saved_like_it(checkpoint, tmp_path):
    path = tmp_path / "cells.ome.tif"
    metadata = {"axes": "CZYX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.1, "Channel": {"Name": ["a", "b"]}}
    tifffile.imwrite(path, STACK, ome=True, photometric="minisblack", metadata=metadata)
    assert get_reader(str(path)) and get_reader(str(tmp_path / "a.txt")) is None
    ((pixels, described, _),) = read_layers(str(path))
    described["units"], opened = tuple(described["units"]), layer(pixels)
    vars(opened).update(described)
    selection = select(opened)
    assert selection.info.channel_names == ("a", "b") and selection.info.pixel_size == (0.1, 0.2)
    request = Request.of({"checkpoint": str(checkpoint), "samples": 2, "keep": 2})
    job = Job(lambda job: restore(selection, request, job))
    assert job.wait(60) and job.state == "finished", job.error
    parts = job.messages()
    assert {part.plane for part in parts} == set(range(4)) and len(parts) > 4
    assert job.progress.fraction == 1 and "100%" in str(job.progress)
    result = job.result
    layers = {described["name"]: pixels for pixels, described, _ in layers_of(result)}
    assert list(layers) == ["cells restored", "cells std", "cells samples"]
    assert layers["cells samples"].shape == (2, *STACK.shape)
    np.testing.assert_allclose(layers["cells samples"].mean(0), layers["cells restored"], rtol=1e-5)
    assert np.isnan(live_layer(selection)[0]).all()
    assert any("std" in line or "standard deviation" in line for line in result.lines)
    restore_file(Restorer.load(checkpoint, "cpu"), path, tmp_path / "file", FileSettings(samples=2))
    saved = save(result, tmp_path / "layer" / "cells.ome.tif")
    assert len(saved) == 4
    for name in ("cells.ome.tif", "cells_std.ome.tif"):
        expected, found = tmp_path / "file" / name, tmp_path / "layer" / name
        np.testing.assert_array_equal(tifffile.imread(found), tifffile.imread(expected))
        assert read_info(found) == read_info(expected)
    pytest.importorskip("zarr")
    save(result, tmp_path / "cells.ome.zarr")
    with open_stack(tmp_path / "cells.ome.zarr") as stack:
        assert stack.info.pixel_size == (0.1, 0.2) and stack.info.dtype == np.uint16
        assert stack.info.channel_names == ("a", "b")
    with pytest.raises(UserError):
        save(result, tmp_path / "cells.png")


def test_a_job_is_cancelled_between_two_layers(checkpoint, monkeypatch):
    class Impatient(Observer):
        calls = 0

        def check(self):
            self.calls += 1
            if self.calls > 20:
                raise Cancelled

    restorer = Restorer(Restorer.load(checkpoint, "cpu").trained, observer=(observer := Impatient()))
    with pytest.raises(Cancelled):
        restorer.restore(STACK[0, 0], samples=1)
    assert observer.calls == 21
    restorer.networks.release()
    monkeypatch.setattr("ddpm_lightning.napari.restoring.MEASURED", 32)
    model = Job(lambda job: measure(Request(checkpoint=str(checkpoint)), job))
    assert model.wait(60) and model.result is not None, model.error
    costs = model.result.presets(select(layer()).info)
    assert all(seconds > 0 and use for seconds, use in costs.values()) and "mean" in costs
    endless = Job(lambda job: [time.sleep(0.01) or job.check() for _ in range(10_000)])
    endless.cancel()
    assert endless.wait(5) and endless.state == "cancelled"
    failing = Job(lambda job: 1 / 0)
    assert failing.wait(5) and failing.state == "failed" and isinstance(failing.error, ZeroDivisionError)
