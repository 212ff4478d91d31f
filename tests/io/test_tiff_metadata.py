import re

import numpy as np
import pytest
import tifffile

from ddpm_lightning.io.tiff import read_image, read_info
from tests.io.tiffs import GREY

STACK = np.zeros((3, 9, 8), "uint16")
PLANE = np.zeros((9, 8), "uint16")


@pytest.mark.parametrize(
    ("unit", "micrometres"),
    [
        ("um", 1),
        ("micron", 1),
        ("microns", 1),
        (r"\u00B5m", 1),
        ("µm", 1),
        ("nm", 0.001),
        ("mm", 1000),
        ("pixel", None),
        ("furlong", None),
    ],
)
def test_units_of_imagej(tmp_path, unit, micrometres):
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "unit": "UNIT", "spacing": 0.3, "finterval": 1.5}
    tifffile.imwrite(path, STACK, imagej=True, resolution=(5, 4), metadata=metadata)
    comment = tifffile.tiffcomment(path).replace("UNIT", unit)
    tifffile.tiffcomment(path, comment.encode("latin-1"))
    info = read_info(path)
    if micrometres is None:
        assert info.pixel_size is None and info.z_step is None
    else:
        assert info.pixel_size == pytest.approx((0.25 * micrometres, 0.2 * micrometres))
        assert info.z_step == pytest.approx(0.3 * micrometres)
    assert info.time_step == 1.5
    assert (info.kind, info.axes, info.shape) == ("imagej", "ZYX", (3, 9, 8))


@pytest.mark.parametrize(
    ("interval", "time_step"),
    [({"finterval": 250, "tunit": "ms"}, 0.25), ({"finterval": 2, "tunit": "min"}, 120), ({"fps": 10}, None)],
)
def test_time_step_of_imagej_is_the_interval_and_not_the_playing_speed(tmp_path, interval, time_step):
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "TYX", **interval})
    assert read_info(tmp_path / "a.tif").time_step == time_step


@pytest.mark.parametrize(
    ("resolution", "unit", "size"),
    [
        ((50000, 40000), "centimeter", (0.25, 0.2)),
        ((254000, 254000), "inch", (0.1, 0.1)),
        ((20000, 20000), "millimeter", (0.05, 0.05)),
        ((5, 5), "none", None),
        # Sizes on paper, not in the sample
        ((72, 72), "inch", None),
        ((300, 300), "inch", None),
        ((600, 600), "inch", None),
        ((28.35, 28.35), "centimeter", None),
    ],
)
def test_resolution_of_a_plain_file(tmp_path, resolution, unit, size):
    tifffile.imwrite(tmp_path / "a.tif", PLANE, resolution=resolution, resolutionunit=unit, **GREY)
    info = read_info(tmp_path / "a.tif")
    assert info.pixel_size == (None if size is None else pytest.approx(size))
    assert (info.kind, info.z_step, info.time_step) == ("plain", None, None)


def test_a_file_that_says_neither_its_resolution_nor_what_is_white(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, **GREY)
    data = bytearray(path.read_bytes())
    for code in (262, 282, 283, 296):
        at = data.index(code.to_bytes(2, "little"), 8)
        data[at : at + 2] = (60000 + code).to_bytes(2, "little")
    path.write_bytes(data)
    assert read_info(path).pixel_size is None
    np.testing.assert_array_equal(read_image(path), PLANE)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 0.5}, ((0.25, 0.2), 0.5, None)),
        (
            {
                "PhysicalSizeX": 200,
                "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 0.0002,
                "PhysicalSizeYUnit": "mm",
                "TimeIncrement": 250,
                "TimeIncrementUnit": "ms",
            },
            ((0.2, 0.2), None, 0.25),
        ),
        ({"PhysicalSizeX": 3, "PhysicalSizeXUnit": "pixel", "TimeIncrement": 2}, (None, None, 2.0)),
        (
            {"PhysicalSizeX": 1, "PhysicalSizeY": 1, "PhysicalSizeXUnit": "reference frame"},
            (None, None, None),
        ),
    ],
)
def test_sampling_of_ome(tmp_path, attributes, expected):
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata={"axes": "ZYX", **attributes})
    info = read_info(tmp_path / "a.ome.tif")
    assert info.kind == "ome"
    pixel_size, z_step, time_step = expected
    assert info.pixel_size == (None if pixel_size is None else pytest.approx(pixel_size))
    assert (info.z_step, info.time_step) == (z_step, time_step)


def test_channel_names_of_ome(tmp_path):
    metadata = {"axes": "CYX", "Channel": {"Name": ["dapi", "gfp", "µ <&>"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata=metadata)
    assert read_info(tmp_path / "a.ome.tif").channel_names == ("dapi", "gfp", "µ <&>")
    tifffile.imwrite(tmp_path / "b.ome.tif", STACK, metadata={"axes": "CYX"})
    assert read_info(tmp_path / "b.ome.tif").channel_names == ()


@pytest.mark.parametrize(
    ("labels", "names"), [(["a", "b", "a", "b"], ("a", "b")), (["1", "2", "3", "4"], ()), (["a"], ())]
)
def test_channel_names_of_imagej_are_labels_shared_by_all_planes(tmp_path, labels, names):
    stack = np.zeros((2, 2, 9, 8), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TCYX", "Labels": labels})
    assert read_info(tmp_path / "a.tif").channel_names == names


def test_a_tinted_image_of_imagej_is_grey(tmp_path):
    pixels = np.arange(72, dtype="uint8").reshape(9, 8)
    fire = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype("uint16")
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, colormap=fire, metadata={"axes": "YX"})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), pixels)
    green = np.zeros((3, 256), "uint16")
    green[1] = np.arange(256) * 257
    tifffile.imwrite(tmp_path / "b.tif", pixels, colormap=green)
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), pixels)


@pytest.mark.parametrize(
    "break_xml", [lambda xml: xml[:-20] + "OME>", lambda xml: re.sub('SizeX="8"', 'SizeX="9"', xml)]
)
def test_ome_xml_that_is_broken_or_wrong_does_not_hide_the_planes(tmp_path, break_xml):
    pixels = np.arange(3 * 72, dtype="uint16").reshape(3, 9, 8)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, pixels, metadata={"axes": "ZYX"})
    tifffile.tiffcomment(path, break_xml(tifffile.tiffcomment(path)))
    info = read_info(path)
    assert (info.kind, info.axes, info.shape) == ("plain", "IYX", (3, 9, 8))


def test_dialect_layout_and_codec(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, bigtiff=True, compression="lzw", predictor=True, **GREY)
    info = read_info(tmp_path / "a.tif")
    assert (info.bigtiff, info.compression, info.tags.predictor) == (True, "LZW", True)
    tifffile.imwrite(tmp_path / "b.tif", STACK, byteorder=">", **GREY)
    info = read_info(tmp_path / "b.tif")
    assert (info.bigtiff, info.compression, info.tags.byteorder) == (False, None, ">")
    assert info.dtype == np.dtype("uint16") and info.dtype.isnative
