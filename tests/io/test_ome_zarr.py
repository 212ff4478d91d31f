"""OME-Zarr in and out, against what the zarr package reads."""

import json
import re

import numpy as np
import pytest

from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings
from ddpm_lightning.inference.sources import find_files
from ddpm_lightning.io.formats import converted
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.stacks import open_stack, open_writer
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint

zarr = pytest.importorskip("zarr", reason="needs the extra zarr: pip install 'ddpm-lightning[zarr]'")

IMAGE = np.random.default_rng(0).poisson(30, (2, 2, 3, 40, 50)).astype(np.uint16)
OMERO = {
    "channels": [
        {"label": "tubulin", "color": "00FF00", "window": {"start": 0, "end": 90, "min": 0, "max": 65535}},
        {"label": "actin", "color": "FF0000", "window": {"start": 0, "end": 80, "min": 0, "max": 65535}},
    ]
}


def write(path, version="0.4", image=IMAGE, axes="tczyx", scale=(2.0, 1.0, 300.0, 100.0, 100.0)):
    kinds = {"t": ("time", "second"), "c": ("channel", None)}
    named = [
        {"name": axis, "type": kinds.get(axis, ("space",))[0]}
        | ({} if axis == "c" else {"unit": kinds.get(axis, ("", "nanometer"))[1]})
        for axis in axes
    ]
    level = {"path": "full", "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}
    group = zarr.open_group(str(path), mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("full", data=image, chunks=(*(1,) * (image.ndim - 2), 16, 16))
    metadata = {"multiscales": [{"axes": named, "datasets": [level]}], "omero": OMERO}
    group.attrs.update({"ome": {"version": "0.5", **metadata}} if version == "0.5" else metadata)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_axes_sampling_channels_and_version_come_out_as_they_went_in(tmp_path, version):
    source = write(tmp_path / "a.zarr", version)
    with open_stack(source) as stack:
        info = stack.info
        assert (info.axes, info.shape, info.dtype) == ("TCZYX", IMAGE.shape, IMAGE.dtype)
        assert info.pixel_size == pytest.approx((0.1, 0.1)) and info.z_step == pytest.approx(0.3)
        assert info.time_step == 2 and info.channel_names == ("tubulin", "actin")
        assert np.array_equal(np.stack(list(stack)).reshape(IMAGE.shape), IMAGE)
        with open_writer(tmp_path / "out" / "a.zarr", info) as writer:
            for plane in stack:
                writer.write(plane)
    group = zarr.open(str(tmp_path / "out" / "a.zarr"), mode="r")
    assert np.array_equal(group["0"][:], IMAGE)
    metadata = dict(group.attrs).get("ome", dict(group.attrs))
    assert ("ome" in dict(group.attrs)) == (version == "0.5") and metadata["omero"] == OMERO
    scale = metadata["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [2.0, 1.0, 300.0, 100.0, 100.0]
    units = [axis.get("unit") for axis in metadata["multiscales"][0]["axes"]]
    assert units == ["second", None, "nanometer", "nanometer", "nanometer"]
    with open_stack(tmp_path / "out" / "a.zarr") as again:
        assert again.info == info


def test_a_zarr_is_restored_with_its_maps(tmp_path):
    restorer = Restorer.load(write_checkpoint(tmp_path / "best.ckpt"), "cpu", noise="independent")
    source = write(tmp_path / "in" / "a.zarr", "0.5")
    assert find_files(tmp_path / "in") == find_files(source)
    assert [found.path for found in find_files(source).sources] == [source]
    record = restore_file(restorer, source, tmp_path / "out", FileSettings(samples=2, channels=["actin"]))
    assert record["axes"] == "TZYX" and record["planes"] == 6
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.zarr", "a_std.zarr"]
    spread = zarr.open(str(tmp_path / "out" / "a_std.zarr"), mode="r")
    assert spread["0"].dtype == np.float32 and spread["0"].shape == (2, 3, 40, 50)
    assert dict(spread.attrs)["ome"]["omero"]["channels"] == [{"label": "actin", "color": "FF0000"}]
    expected = restorer.restore(IMAGE[1, 1, 2], 2, "a_t1_z2")
    np.testing.assert_array_equal(spread["0"][1, 2], expected.std)


def test_a_plain_array_has_axes_by_its_number_of_dimensions(tmp_path):
    zarr.save_array(str(tmp_path / "a.zarr"), IMAGE[0, 0])
    with open_stack(tmp_path / "a.zarr") as stack:
        assert stack.info.axes == "ZYX" and np.array_equal(stack.plane(2), IMAGE[0, 0, 2])


def test_what_fails_leaves_nothing(tmp_path):
    with open_stack(write(tmp_path / "a.zarr")) as stack, pytest.raises(RuntimeError):
        with open_writer(tmp_path / "out" / "a.zarr", stack.info) as writer:
            writer.write(stack.plane(0))
            raise RuntimeError
    assert not list((tmp_path / "out").iterdir())


def spoil(path):
    (path / ".zattrs").write_text(json.dumps({"multiscales": []}))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.mkdir(), "cannot be read as Zarr"),
        (lambda p: spoil(write(p)), "no multiscales"),
        (lambda p: write(p, image=IMAGE[0, 0], axes="yxz", scale=(1, 1, 1)), "axes YXZ"),
        (lambda p: write(p, image=IMAGE.astype(complex)), "complex128"),
        (lambda p: (write(p) / "full" / ".zarray").write_text("{"), "cannot be read as Zarr"),
    ],
    ids=["empty", "no image", "axes", "complex", "damaged"],
)
def test_bad_folders_are_refused(tmp_path, make, words):
    make(tmp_path / "a.zarr")
    with pytest.raises(UserError, match=words):
        open_stack(tmp_path / "a.zarr")


def test_channels_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="names tubulin, actin"):
        open_stack(write(tmp_path / "a.zarr"), "membrane")


@pytest.mark.parametrize(
    ("value", "found"), [(np.nan, "1 NaN or infinite pixel"), (1e30, "intensities up to 1e+30")]
)
def test_values_that_cannot_be_computed_with_are_refused(tmp_path, value, found):
    pixels = np.zeros((2, 8, 8), np.float32)
    pixels[1, 3, 4] = value
    zarr.create_array(tmp_path / "a.zarr", shape=pixels.shape, dtype=pixels.dtype)[:] = pixels
    with open_stack(tmp_path / "a.zarr") as stack:
        assert not stack.plane(0).any()
        with pytest.raises(UserError, match=re.escape(found)):
            stack.plane(1)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_smaller_levels_are_means_with_their_sampling(tmp_path, version):
    image = np.random.default_rng(0).poisson(30, (2, 2, 700, 1025)).astype(np.uint16)
    info = ImageInfo("ZCYX", image.shape, image.dtype, (0.1, 0.2), 0.5, channel_names=("a", "b"))
    info, _ = converted(info, "ome-zarr" if version == "0.5" else "ome-zarr-0.4", "a.tif")
    with open_writer(tmp_path / "a.ome.zarr", info) as writer:
        for plane in image.reshape(-1, *image.shape[-2:]):
            writer.write(plane)
    group = zarr.open(str(tmp_path / "a.ome.zarr"), mode="r")
    metadata = dict(group.attrs).get("ome", dict(group.attrs))["multiscales"][0]
    assert "".join(axis["name"] for axis in metadata["axes"]) == "czyx"
    levels = [group[dataset["path"]] for dataset in metadata["datasets"]]
    assert [level.shape for level in levels] == [
        (2, 2, 700, 1025),
        (2, 2, 350, 513),
        (2, 2, 175, 257),
        (2, 2, 88, 129),
    ]
    assert levels[0].chunks == (1, 1, 512, 512)
    assert levels[0].shards == ((1, 1, 1024, 1536) if version == "0.5" else None)
    first = np.moveaxis(image, 0, 1)
    assert np.array_equal(levels[0][:], first)
    means = first[..., :1024].reshape(2, 2, 350, 2, 512, 2).mean((3, 5))
    np.testing.assert_allclose(levels[1][..., :512], means, atol=0.5)
    scale, translation = (step[step["type"]] for step in metadata["datasets"][2]["coordinateTransformations"])
    assert scale == [1, 0.5, 0.4, 0.8] and translation == pytest.approx([0, 0, 0.15, 0.3])
    with open_stack(tmp_path / "a.ome.zarr") as again:
        assert again.info.pixel_size == (0.1, 0.2) and not again.notes
