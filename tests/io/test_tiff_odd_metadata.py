"""Metadata that cannot be true, or that nobody understands, do no harm, and are said."""

import numpy as np
import pytest
import tifffile

from ddpm_lightning.io.tiff import TiffStack, TiffStackWriter
from tests.io.tiffs import GREY


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 999, (*shape, 20, 18)).astype("uint16")


def read(path):
    """Reads a file, writes it again, and checks that its copy can be read."""
    with TiffStack(path) as stack:
        planes = list(stack)
        with TiffStackWriter(path.with_name("copy.tif"), stack.info) as writer:
            for plane in planes:
                writer.write(plane)
    np.testing.assert_array_equal(tifffile.imread(path.with_name("copy.tif")).reshape(-1, 20, 18), planes)
    return np.stack(planes), stack.info, stack.notes


@pytest.mark.parametrize("value", ["0", "-0.1", "nan", "inf", "1e30", "1e-30", "0.1 um", "1e-7"])
def test_sizes_of_ome_that_cannot_be(tmp_path, value):
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.123, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.3}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels(3), metadata=metadata, **GREY)
    xml = tifffile.tiffcomment(tmp_path / "a.ome.tif")
    tifffile.tiffcomment(tmp_path / "a.ome.tif", xml.replace("0.123", value).encode())
    _, info, (note,) = read(tmp_path / "a.ome.tif")
    assert (info.pixel_size, info.z_step, note.kind) == (None, 0.3, "left_aside")
    assert value in note.text and "X" in note.text


@pytest.mark.parametrize(
    ("value", "unit", "size"), [("1e-7", "m", 0.1), ("0.0001", "mm", 0.1), ("1000", "Å", 0.1)]
)
def test_sizes_of_ome_in_other_units(tmp_path, value, unit, size):
    metadata = {"axes": "YX"} | {
        f"PhysicalSize{axis}{what}": given for axis in "XY" for what, given in (("", value), ("Unit", unit))
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels(), metadata=metadata, **GREY)
    _, info, notes = read(tmp_path / "a.ome.tif")
    assert (info.pixel_size, notes) == (pytest.approx((size, size)), [])


@pytest.mark.parametrize(
    ("metadata", "resolution", "noted"),
    [
        ({"unit": "furlong"}, (5, 5), 2),
        ({"unit": "um"}, (1e-7, 5), 1),
        ({"unit": "um", "spacing": 1e30}, (5, 5), 1),
        ({"unit": "um", "finterval": -3}, (5, 5), 1),
        ({"unit": "um", "finterval": 0}, (5, 5), 0),
        ({"unit": "pixel"}, (1, 1), 0),
        ({"unit": "um", "spacing": "wide"}, (5, 5), 1),
    ],
)
def test_lists_of_imagej(tmp_path, metadata, resolution, noted):
    metadata = {"axes": "ZYX", **metadata}
    tifffile.imwrite(tmp_path / "a.tif", pixels(3), imagej=True, resolution=resolution, metadata=metadata)
    _, info, notes = read(tmp_path / "a.tif")
    assert [note.kind for note in notes] == ["left_aside"] * noted
    assert info.axes == "ZYX"


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("ImageJ=1.53\nimages=many\nslices=some\n", "IYX"),
        ("ImageJ=1.53\nimages=-3\nslices=-3\n", "IYX"),
        ('{"shape": [3, 20, 18', "IYX"),
        ('{"shape": [7, 5, 18], "axes": "ZYX"}', "IYX"),
        ('{"shape": "wide"}', "IYX"),
        ("<OME><Image>", "IYX"),
        ("<OME></OME>", "IYX"),
        ("<?xml version='1.0'?><OME", "IYX"),
        ("free text, \x01 and \x1b[31m", "IYX"),
    ],
)
def test_descriptions_that_cannot_be_parsed(tmp_path, text, axes):
    stack = pixels(3)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for number, page in enumerate(stack):
            tif.write(page, metadata=None, description=None if number else text.encode(), **GREY)
    planes, info, notes = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(planes, stack)
    assert info.axes.lstrip("IQ") == "YX" and info.shape == (3, 20, 18)
    if text.endswith("OME>") or "many" in text:
        assert "guessed" in [note.kind for note in notes]


def test_significant_bits_that_are_no_number(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels(), metadata={"axes": "YX", "SignificantBits": 12}, **GREY)
    xml = tifffile.tiffcomment(tmp_path / "a.ome.tif")
    tifffile.tiffcomment(tmp_path / "a.ome.tif", xml.replace('Bits="12"', 'Bits="12.5"').encode())
    assert read(tmp_path / "a.ome.tif")[1].bits is None
