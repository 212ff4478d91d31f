"""Fourteen kinds of files restored: what tifffile reads of the results equals what it reads of the inputs."""

from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings, result_name
from ddpm_lightning.io.tiff import read_info
from tests.trained import write_checkpoint


def noisy(dtype, *shape):
    values = np.random.default_rng(0).poisson(30, shape)
    return (values - 5 if dtype.startswith("int") else values).astype(dtype)


UM = {"unit": "um"}
DEPTH, TIME = {"axes": "ZYX", "spacing": 0.3, **UM}, {"axes": "TYX", "finterval": 2.5, **UM}
IMAGEJ = {"imagej": True, "resolution": (9.6, 9.6)}
OME = {"ome": True, "photometric": "minisblack"}
SIZES = {"PhysicalSizeX": 0.104, "PhysicalSizeY": 0.104, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
GREY = {"photometric": "minisblack"}
CM = {**GREY, "resolution": (96_000, 96_000), "resolutionunit": 3}
#: Name of the file, its pixels, and how it is written.
KINDS = {
    "8-bit plane": ("a.tif", noisy("uint8", 40, 33), {}),
    "16-bit plane with a size": ("a.tif", noisy("uint16", 40, 33), CM),
    "12-bit OME plane": (
        "a.ome.tif",
        noisy("uint16", 40, 33),
        {**OME, "metadata": {**SIZES, "SignificantBits": 12}},
    ),
    "32-bit integers": ("a.tif", noisy("uint32", 40, 33), {}),
    "signed 16-bit": ("a.tif", noisy("int16", 40, 33), {}),
    "float32": ("a.tif", noisy("float32", 40, 33), {}),
    "big-endian BigTIFF": ("a.tif", noisy("uint16", 40, 33), {"bigtiff": True, "byteorder": ">"}),
    "deflate, predictor, tiles": (
        "a.tif",
        noisy("uint16", 48, 64),
        {"compression": "zlib", "predictor": True, "tile": (16, 16)},
    ),
    "LZW stack": ("a.tiff", noisy("uint8", 3, 40, 33), {**GREY, "compression": "lzw"}),
    "ImageJ volume": (
        "a.tif",
        noisy("uint16", 3, 40, 33),
        {**IMAGEJ, "metadata": {"axes": "ZYX", "spacing": 0.3, **UM}},
    ),
    "ImageJ movie": (
        "a.tif",
        noisy("uint8", 3, 40, 33),
        {**IMAGEJ, "metadata": {"axes": "TYX", "finterval": 2.5, **UM}},
    ),
    "ImageJ hyperstack": (
        "a.tif",
        noisy("float32", 2, 2, 2, 40, 33),
        {
            **IMAGEJ,
            "metadata": {"axes": "TZCYX", "mode": "composite", "Ranges": (0.0, 50.0, 0.0, 60.0), **UM},
        },
    ),
    "OME with channel names": (
        "a.ome.tif",
        noisy("uint16", 2, 40, 33),
        {**OME, "metadata": {"axes": "CYX", **SIZES, "Channel": {"Name": ["tubulin", "actin"]}}},
    ),
    "OME in five dimensions": (
        "a.ome.tif",
        noisy("uint16", 2, 2, 2, 40, 33),
        {**OME, "metadata": {"axes": "TCZYX", **SIZES, "PhysicalSizeZ": 0.3, "TimeIncrement": 1.5}},
    ),
}
#: Tags that are about where pixels are, who wrote them, or that differ by the description.
OWN = {
    "StripOffsets",
    "StripByteCounts",
    "RowsPerStrip",
    "TileOffsets",
    "TileByteCounts",
    "TileWidth",
    "TileLength",
    "Software",
    "ImageDescription",
    "DocumentName",
    "NewSubfileType",
    "SampleFormat",
}


@pytest.fixture(scope="module")
def restorer(tmp_path_factory):
    return Restorer.load(write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt"), "cpu")


def told(path):
    """What tifffile says of a file: type, axes, tags and descriptions without names and places of the file."""
    with tifffile.TiffFile(path) as tif:
        series, page = tif.series[0], tif.pages[0]
        tags = {tag.name: tag.value for tag in page.tags if tag.name not in OWN}
        imagej = tif.imagej_metadata
        ome = tif.ome_metadata
        about = (series.axes, series.shape, str(series.dtype), tif.byteorder, tif.is_bigtiff, len(tif.pages))
    if ome:
        root = ElementTree.fromstring(ome)
        pixels = root.find(".//{*}Pixels")
        channels = [channel.attrib for channel in pixels.findall("{*}Channel")]
        # Bytes are in the order of the TIFF, whether or not the XML repeats it.
        ome = (
            {key: value for key, value in pixels.attrib.items() if key not in ("ID", "BigEndian")},
            channels,
        )
    return about, tags, imagej, ome


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_come_out_as_they_went_in(restorer, tmp_path, kind):
    name, pixels, options = KINDS[kind]
    source, out = tmp_path / name, tmp_path / "out"
    tifffile.imwrite(source, pixels, **options)
    restore_file(restorer, source, out, FileSettings(samples=2))
    assert told(out / name) == told(source)
    before, after = read_info(source), read_info(out / name)
    assert before == after
    restored = tifffile.imread(out / name)
    assert restored.shape == pixels.shape and not np.array_equal(restored, pixels)
    if before.bits:
        assert restored.max() < 2**before.bits
    spread = read_info(out / result_name(source, "std"))
    assert spread.dtype == np.float32 and spread.pixel_size == before.pixel_size
    assert (spread.axes, spread.shape, spread.kind) == (before.axes, before.shape, before.kind)
    assert (spread.z_step, spread.time_step, spread.channel_names) == (
        before.z_step,
        before.time_step,
        before.channel_names,
    )
