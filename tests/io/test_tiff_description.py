"""Files come out of the writer as they went in, pixels excepted."""

from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from ddpm_lightning.io import tiff
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.tiff import TiffStack, TiffStackWriter, read_info
from tests.io.tiffs import GREY

LUTS = [np.random.default_rng(seed).integers(0, 256, (3, 256), np.uint8) for seed in range(3)]
IMAGEJ = {"imagej": True, "resolution": (5, 4)}
CHANNELS = {
    "Name": ["dapi", "gfp", "µ <&>"],
    "Color": [255, -1, 65280],
    "EmissionWavelength": [461, 509, 610],
}
OME_SCALE = {"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 300, "PhysicalSizeZUnit": "nm"}
OME_TIMES = {"DeltaT": [0.5 * number for number in range(12)], "ExposureTime": [0.1] * 12}


def pixels(shape, dtype="uint16"):
    return (
        np.random.default_rng(0).integers(0, 4000, (*shape, 33, 41)) // (16 if dtype == "uint8" else 1)
    ).astype(dtype)


KINDS = {
    "imagej YX 8 bit with display range": (
        pixels((), "uint8"),
        {
            **IMAGEJ,
            "metadata": {"axes": "YX", "unit": r"\u00B5m", "min": 10.0, "max": 200.0, "Info": "objective µ"},
        },
    ),
    "imagej YX 16 bit big-endian": (
        pixels(()),
        {**IMAGEJ, "byteorder": ">", "metadata": {"axes": "YX", "unit": "micron"}},
    ),
    "imagej YX palette": (
        pixels((), "uint8"),
        {**IMAGEJ, "colormap": LUTS[0].astype("uint16") * 257, "metadata": {"axes": "YX"}},
    ),
    "imagej ZYX float": (
        pixels((4,), "float32"),
        {**IMAGEJ, "metadata": {"axes": "ZYX", "unit": "nm", "spacing": 300.0}},
    ),
    "imagej TYX": (
        pixels((4,), "uint8"),
        {**IMAGEJ, "metadata": {"axes": "TYX", "unit": "um", "finterval": 2.5, "fps": 7.0}},
    ),
    "imagej CYX composite": (
        pixels((3,)),
        {
            **IMAGEJ,
            "metadata": {
                "axes": "CYX",
                "mode": "composite",
                "LUTs": LUTS,
                "Ranges": (0.0, 100.0, 5.0, 4000.0, 1.0, 2.0),
                "Labels": ["dapi", "gfp", "rfp"],
                "ROI": b"Iout-bytes",
                "Properties": {"a": "1", "b": "2"},
            },
        },
    ),
    "imagej TZCYX": (
        pixels((2, 2, 3)),
        {
            **IMAGEJ,
            "metadata": {"axes": "TZCYX", "unit": "um", "spacing": 0.3, "finterval": 2.5, "loop": True},
        },
    ),
    "imagej TZCYX lzw": (
        pixels((2, 2, 3)),
        {**IMAGEJ, "compression": "lzw", "metadata": {"axes": "TZCYX", "unit": "um"}},
    ),
    "ome YX 12 bit": (
        pixels(()),
        {"ome": True, "metadata": {"axes": "YX", "SignificantBits": 12, "Description": "µ <&>"}},
    ),
    "ome ZYX float deflate": (
        pixels((4,), "float32"),
        {"ome": True, "compression": "deflate", "metadata": {"axes": "ZYX", **OME_SCALE}},
    ),
    "ome TCZYX": (
        pixels((2, 3, 2)),
        {
            "ome": True,
            "metadata": {
                "axes": "TCZYX",
                "DimensionOrder": "XYZCT",
                **OME_SCALE,
                "TimeIncrement": 2.5,
                "Channel": CHANNELS,
                "Plane": OME_TIMES,
                "MapAnnotation": {"stain": "DAPI"},
            },
        },
    ),
    "ome TZCYX bigtiff big-endian": (
        pixels((2, 2, 3), "uint8"),
        {
            "ome": True,
            "bigtiff": True,
            "byteorder": ">",
            "metadata": {"axes": "TZCYX", "Channel": {"Name": list("abc")}},
        },
    ),
    "ome lifetimes": (pixels((2, 3)), {"ome": True, "metadata": {"axes": "THYX"}}),
    "plain YX 8 bit": (pixels((), "uint8"), {"resolution": (50000, 40000), "resolutionunit": "centimeter"}),
    "plain YX float64": (pixels((), "float64"), {"datetime": "2024:01:02 03:04:05"}),
    "plain float16": (pixels((), "float16"), {"metadata": None}),
    "plain IYX with text": (
        pixels((4,)),
        {"metadata": None, "description": "lens µ".encode(), "resolution": (1e5, 1e5)},
    ),
    "plain ZYX int16 zstd": (pixels((4,), "int16") - 2000, {"compression": "zstd", "predictor": True}),
    "plain CYX uint32 lzw": (
        pixels((3,), "uint32") * 70000,
        {"compression": "lzw", "predictor": True, "metadata": {"axes": "CYX"}},
    ),
    "plain TYX float deflate": (
        pixels((4,), "float32"),
        {"compression": "zlib", "predictor": True, "metadata": {"axes": "TYX", "note": "kept"}},
    ),
    "plain TCZYX bigtiff": (pixels((2, 3, 2)), {"bigtiff": True, "metadata": {"axes": "TCZYX"}}),
    "plain miniswhite": (pixels((2,)), {"photometric": "miniswhite"}),
    "plain single header": (pixels((4,)), {"truncate": True, "metadata": {"axes": "ZYX"}}),
}


def write(path, kind):
    array, options = KINDS[kind]
    tifffile.imwrite(path, array, **{**({} if "colormap" in options else GREY), **options})
    return array


def restore(source, target, channels=None):
    """Writes every plane upside down, so that pixels that were merely copied would be seen."""
    with TiffStack(source, channels) as stack, TiffStackWriter(target, stack.info) as writer:
        for plane in stack:
            writer.write(plane[::-1])
        return stack.info


def words(path):
    """What tifffile reads in a file beside its pixels, without what tells files apart."""
    with tifffile.TiffFile(path) as tif:
        series, page = tif.series[0], tif.pages[0]
        tags = {
            name: page.tags.valueof(name)
            for name in ("XResolution", "YResolution", "ResolutionUnit", "DateTime")
        }
        layout = ("photometric", "compression", "predictor", "bitspersample", "sampleformat")
        ome = tifffile.xml2dict(tif.ome_metadata)["OME"] if tif.is_ome else {}
        if ome:
            ome.pop("UUID")
            ome["Image"]["Pixels"].pop("TiffData")
            ome["Image"]["Pixels"].pop("BigEndian", None)
        json = dict(tif.shaped_metadata[0]) if tif.is_shaped else {}
        json.pop("truncated", None)
        return {
            "series": (series.axes, series.shape, series.dtype, series.kind),
            "file": (tif.byteorder, tif.is_bigtiff, len(tif.series)),
            "page": [getattr(page, name) for name in layout],
            "colormap": page.colormap if page.photometric == 3 else None,
            "tags": tags,
            "imagej": tif.imagej_metadata,
            "ome": ome,
            "json": json,
            "text": None if ome or json or tif.is_imagej else page.description,
        }


@pytest.mark.parametrize("kind", KINDS)
def test_everything_but_the_pixels_comes_out_as_it_went_in(tmp_path, kind):
    array = write(tmp_path / "in.tif", kind)
    info = restore(tmp_path / "in.tif", tmp_path / "out.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), array[..., ::-1, :])
    np.testing.assert_equal(words(tmp_path / "out.tif"), words(tmp_path / "in.tif"))
    assert read_info(tmp_path / "out.tif") == info


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("ome")])
def test_ome_xml_describes_the_file_and_keeps_the_order_of_the_schema(tmp_path, kind):
    write(tmp_path / "in.tif", kind)
    for channels in (None, [2, 0]) if "C" in read_info(tmp_path / "in.tif").axes else (None,):
        info = restore(tmp_path / "in.tif", tmp_path / "out.tif", channels)
        with tifffile.TiffFile(tmp_path / "out.tif") as tif:
            root, pages = ElementTree.fromstring(tif.ome_metadata), len(tif.pages)
        (pixel_data,) = root.findall("{*}Image/{*}Pixels")
        sizes = [int(pixel_data.get(f"Size{axis}")) for axis in "XYZCT"]
        assert np.prod(sizes) == np.prod(info.shape)
        assert sorted(pixel_data.get("DimensionOrder")) == sorted("XYZCT")
        assert pixel_data.get("Type") == {"float32": "float"}.get(info.dtype.name, info.dtype.name)
        order = [child.tag.partition("}")[2] for child in pixel_data]
        assert order == sorted(order, key=["Channel", "TiffData", "Plane"].index)
        assert order.count("Channel") == sizes[3] and order.count("TiffData") == 1
        assert int(pixel_data.find("{*}TiffData").get("PlaneCount")) == info.plane_count == pages
        planes = [
            tuple(int(plane.get(f"The{axis}")) for axis in "ZCT") for plane in pixel_data.iterfind("{*}Plane")
        ]
        assert len(set(planes)) == len(planes) and np.all(np.array(planes or [[0, 0, 0]]) < sizes[2:])


def test_ome_channels_are_chosen_with_their_words_and_times(tmp_path):
    array = write(tmp_path / "in.tif", "ome TCZYX")
    restore(tmp_path / "in.tif", tmp_path / "out.tif", ["µ <&>", "dapi"])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), array[:, [2, 0], :, ::-1])
    ome = tifffile.xml2dict(tifffile.tiffcomment(tmp_path / "out.tif"))["OME"]["Image"]["Pixels"]
    assert [(c["Name"], c["Color"], c["EmissionWavelength"]) for c in ome["Channel"]] == [
        ("µ <&>", 65280, 610),
        ("dapi", 255, 461),
    ]
    times = {(p["TheT"], p["TheC"], p["TheZ"]): p["DeltaT"] for p in ome["Plane"]}
    # In the source, frame t, channel c, slice z was plane 6 t + 2 c + z, taken every half second.
    assert times == {
        (t, c, z): 0.5 * (6 * t + 2 * old + z) for t in (0, 1) for c, old in ((0, 2), (1, 0)) for z in (0, 1)
    }


def test_imagej_channels_are_chosen_with_their_colours(tmp_path):
    array = write(tmp_path / "in.tif", "imagej CYX composite")
    restore(tmp_path / "in.tif", tmp_path / "out.tif", [2, 0])
    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        found = tif.imagej_metadata
        np.testing.assert_array_equal(tif.asarray(), array[[2, 0], ::-1])
    assert (found["images"], found["channels"], found["mode"]) == (2, 2, "composite")
    assert (found["Labels"], found["Ranges"]) == (["rfp", "dapi"], (1.0, 2.0, 0.0, 100.0))
    np.testing.assert_array_equal(found["LUTs"], [LUTS[2], LUTS[0]])
    restore(tmp_path / "in.tif", tmp_path / "one.tif", "gfp")
    with tifffile.TiffFile(tmp_path / "one.tif") as tif:
        assert (tif.series[0].axes, tif.imagej_metadata["images"]) == ("YX", 1)
        assert tif.imagej_metadata["mode"] == "grayscale"


def test_plain_channels_are_chosen(tmp_path):
    array = write(tmp_path / "in.tif", "plain TCZYX bigtiff")
    restore(tmp_path / "in.tif", tmp_path / "out.tif", [1])
    assert words(tmp_path / "out.tif")["series"][:2] == ("TZYX", (2, 2, 33, 41))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), array[:, 1, :, ::-1])


@pytest.mark.parametrize("kind", ["plain", "imagej", "ome"])
def test_an_image_that_came_from_no_tiff_is_described_by_its_fields(tmp_path, kind):
    info = ImageInfo(
        "TZCYX",
        (2, 3, 2, 9, 8),
        np.dtype("uint16"),
        (0.25, 0.2),
        0.5,
        2.0,
        ("a", "b") if kind == "ome" else (),
        kind,
    )
    with TiffStackWriter(tmp_path / "a.tif", info) as writer:
        for _ in info.planes():
            writer.write(np.ones((9, 8), "uint16"))
    found = read_info(tmp_path / "a.tif")
    assert found.pixel_size == pytest.approx(info.pixel_size)
    for field in ("axes", "shape", "dtype", "z_step", "time_step", "channel_names", "kind"):
        assert getattr(found, field) == getattr(info, field), field


@pytest.mark.parametrize("kind", ["imagej TZCYX", "imagej TZCYX lzw", "plain TYX float deflate", "ome TCZYX"])
def test_files_beyond_four_gigabytes(tmp_path, monkeypatch, kind):
    array = write(tmp_path / "in.tif", kind)
    monkeypatch.setattr(tiff, "CLASSIC_BYTES", 2**12)
    restore(tmp_path / "in.tif", tmp_path / "out.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), array[..., ::-1, :])
    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        # ImageJ opens no BigTIFF: it reads the planes that follow a single page header.
        hyperstack = kind.startswith("imagej")
        assert tif.is_bigtiff is not hyperstack
        assert len(tif.pages) == (1 if hyperstack else len(array.reshape(-1, 33, 41)))
        assert tif.series[0].kind == words(tmp_path / "in.tif")["series"][3]


def test_a_lossy_codec_is_replaced_by_deflate(tmp_path):
    array = pixels((2,), "uint8")
    tifffile.imwrite(tmp_path / "in.tif", array, compression="jpeg", **GREY)
    stored = tifffile.imread(tmp_path / "in.tif")
    restore(tmp_path / "in.tif", tmp_path / "out.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), stored[:, ::-1])
    assert read_info(tmp_path / "out.tif").compression == "ADOBE_DEFLATE"


def test_of_several_ome_images_the_others_leave_no_trace(tmp_path):
    with tifffile.TiffWriter(tmp_path / "in.tif", ome=True) as writer:
        for size in (33, 20):
            image = {"axes": "ZYX", "Name": f"size {size}", "Dataset": {"Name": "both"}}
            writer.write(np.ones((2, size, 41), "uint8"), metadata=image, **GREY)
    restore(tmp_path / "in.tif", tmp_path / "out.tif")
    xml = tifffile.tiffcomment(tmp_path / "out.tif")
    assert 'Name="size 33"' in xml and "size 20" not in xml and "Image:1" not in xml


def test_equal_runs_give_equal_bytes(tmp_path):
    write(tmp_path / "in.tif", "ome TCZYX")
    for folder in ("a", "b"):
        restore(tmp_path / "in.tif", tmp_path / folder / "out.tif")
    restore(tmp_path / "in.tif", tmp_path / "other.tif")
    first, second = ((tmp_path / folder / "out.tif").read_bytes() for folder in ("a", "b"))
    assert first == second
    assert words(tmp_path / "other.tif") == words(tmp_path / "a" / "out.tif")
    # Files of a set are told apart by their identifiers.
    assert (tmp_path / "other.tif").read_bytes() != first
