"""Files of microscopes: with a reader that only has the interface of ``bioio``, and with the real ones if installed."""

import sys
from datetime import timedelta
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from ddpm_lightning.inference.sources import find_files
from ddpm_lightning.io.formats import converted
from ddpm_lightning.io.stacks import (
    container,
    file_of,
    image_name,
    images_in,
    is_image,
    open_stack,
    open_writer,
)
from ddpm_lightning.io.tiff import read_info
from ddpm_lightning.utils.errors import UserError

#: Of each scene: sizes of its axes.
SCENES = {"Cells 1/Merged": (2, 2, 3, 20, 24), "": (1, 1, 1, 20, 24), "cells 1/merged": (1, 1, 1, 16, 16)}


def pixels(scene):
    shape = SCENES[scene]
    return np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)


class FakeImage:
    """What ``bioio.BioImage`` documents, as far as it is used."""

    stored: SimpleNamespace | None = None

    def __init__(self, path, reader, **options):
        self.scenes = tuple(SCENES)
        assert path.endswith(".lif") and reader == "reader of LIF" and options == {"chunk_dims": ["Y", "X"]}

    def set_scene(self, index):
        self.pixels = pixels(self.scenes[index])
        self.dims = SimpleNamespace(order="TCZYX", shape=self.pixels.shape)
        self.dtype = self.pixels.dtype
        self.channel_names = ["DAPI", "GFP"][: self.pixels.shape[1]]
        self.physical_pixel_sizes = (0.5, 0.1, 0.2)
        self.time_interval = timedelta(seconds=3)
        self.reader = SimpleNamespace(dims=self.stored or self.dims)

    def get_image_dask_data(self, order, **place):
        index = tuple(place.get(axis, 0) for axis in "TCZ")
        assert order == "YX"
        return SimpleNamespace(compute=lambda: self.pixels[index])


@pytest.fixture
def lif(tmp_path, monkeypatch):
    """A file, and a reader for it."""
    for name, content in (("bioio", {"BioImage": FakeImage}), ("bioio_lif", {"Reader": "reader of LIF"})):
        module = ModuleType(name)
        module.__dict__.update(content, __spec__=ModuleSpec(name, None))
        monkeypatch.setitem(sys.modules, name, module)
    path = tmp_path / "in" / "day1.lif"
    path.parent.mkdir()
    path.write_bytes(b"fake")
    return path


def test_scenes_are_images_with_names_of_their_own(lif):
    scenes = images_in(lif)
    assert [scene.name for scene in scenes] == ["1_Cells_1_Merged", "2", "3_cells_1_merged"]
    assert image_name(scenes[0]) == "day1_1_Cells_1_Merged.ome.tif" and is_image(lif)
    assert file_of(scenes[0]) == lif and container(scenes[1]) == (lif, "2")
    names = ["day1_1_Cells_1_Merged.ome.tif", "day1_2.ome.tif", "day1_3_cells_1_merged.ome.tif"]
    for given in (lif, lif.parent, lif.parent / "*.lif"):
        found = find_files(given)
        assert [source.name for source in found.sources] == names and not found.notes
    assert find_files(scenes[1]).sources == [find_files(lif).sources[1]]
    assert find_files(lif, output_format="ome-zarr").sources[1].name == "day1_2.ome.zarr"
    assert find_files(lif).sources[1].within == "day1.lif/2"


@pytest.mark.parametrize("kind", ["same", "ome-zarr", "ome-zarr-0.4"])
def test_a_scene_is_written_with_its_axes_sampling_and_channels(lif, tmp_path, kind):
    if kind != "same":
        pytest.importorskip("zarr")
    path = tmp_path / "out" / ("a.ome.tif" if kind == "same" else "a.ome.zarr")
    with open_stack(images_in(lif)[0], ["GFP", "DAPI"]) as stack:
        info, _ = converted(stack.info, kind, lif)
        with open_writer(path, info) as writer:
            for plane in stack:
                writer.write(plane)
        assert [note.kind for note in stack.notes] == ["left_aside"]
    with open_stack(path) as again:
        found = again.info
        assert np.array_equal(np.stack(list(again)).reshape(found.shape), pixels("Cells 1/Merged")[:, ::-1])
    assert (found.axes, found.shape, found.dtype) == ("TCZYX", (2, 2, 3, 20, 24), np.uint16)
    assert found.pixel_size == pytest.approx((0.1, 0.2)) and found.z_step == 0.5 and found.time_step == 3
    assert found.channel_names == ("GFP", "DAPI")
    if kind == "same":
        assert read_info(path).kind == "ome"


def test_what_cannot_be_read_is_refused(lif, monkeypatch):
    with pytest.raises(UserError) as error:
        open_stack(lif)
    assert "2" in error.value.allowed and error.value.subject == lif
    with pytest.raises(UserError) as error:
        open_stack(lif / "4")
    assert "'4'" in error.value.found
    for order, shape, word in (("TCZYXS", (1, 1, 1, 20, 24, 3), "colour"), ("HYX", (5, 20, 24), "H = 5")):
        monkeypatch.setattr(FakeImage, "stored", SimpleNamespace(order=order, shape=shape))
        with pytest.raises(UserError, match=word):
            open_stack(lif / "2")
    monkeypatch.setattr(FakeImage, "stored", SimpleNamespace(order="MTCZYX", shape=(9, 1, 1, 1, 7, 8)))
    with open_stack(lif / "2") as stack:  # nine tiles, stitched
        assert stack.info.axes == "YX" and stack.info.shape == (20, 24)


def test_a_missing_reader_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioio", None)
    monkeypatch.setattr("ddpm_lightning.io.vendor_files.find_spec", lambda name: None)
    path = tmp_path / "a.nd2"
    path.write_bytes(b"\0" * 8)
    for read in (find_files, open_stack):
        with pytest.raises(UserError) as error:
            read(path)
        assert "ddpm-lightning[microscopes]" in error.value.remedy
    (tmp_path / "b.tif").touch()
    assert [source.path.name for source in find_files(tmp_path).sources] == ["b.tif"]
    (note,) = find_files(tmp_path).notes
    assert "ddpm-lightning[microscopes]" in note.text
