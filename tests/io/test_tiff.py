import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from ddpm_lightning.io.tiff import TiffStack, read_image, read_info
from ddpm_lightning.utils.errors import UserError
from tests.io.tiffs import GREY, copy, random

# Reading


def test_read_image_gives_the_plane_in_native_byte_order(tmp_path):
    pixels = random(7, 5)
    tifffile.imwrite(tmp_path / "a.tif", pixels[None, None], byteorder=">", **GREY)
    image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image, pixels)
    assert image.dtype == np.dtype("uint16") and image.flags.writeable and image.flags.c_contiguous


def test_real_files_are_read_as_pillow_reads_them(shared):
    for folder in ("bacteria-16bit/test", "fmd/test", "sted-confocal-pairs/test"):
        for path in sorted((shared / "data" / folder).rglob("*.tif"))[:4]:
            image = read_image(path)
            np.testing.assert_array_equal(image, np.asarray(Image.open(path)))
            assert read_info(path).shape == image.shape


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((9, 8), {}, "YX"),
        ((3, 9, 8), {}, "QYX"),
        ((3, 9, 8), {"metadata": None}, "IYX"),
        ((3, 9, 8), {"metadata": {"axes": "ZYX"}}, "ZYX"),
        ((3, 9, 8, 1), {"metadata": {"axes": "TYXS"}}, "TYX"),
        ((1, 1, 9, 8), {"metadata": {"axes": "TCYX"}}, "TCYX"),
        ((2, 3, 9, 8), {"volumetric": True, "metadata": {"axes": "TZYX"}}, "TZYX"),
    ],
)
def test_axes_are_those_of_the_file(tmp_path, shape, options, axes):
    pixels = random(*shape)
    tifffile.imwrite(tmp_path / "a.tif", pixels, **GREY, **options)
    with TiffStack(tmp_path / "a.tif") as stack:
        assert stack.info.axes == axes
        np.testing.assert_array_equal(np.stack(list(stack)), pixels.reshape(-1, 9, 8))


@pytest.mark.parametrize(("planar", "axis"), [("contig", -1), ("separate", 0)])
def test_grey_samples_of_a_pixel_are_channels(tmp_path, planar, axis):
    pixels = random(2, 9, 8)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(pixels, 0, axis), planarconfig=planar, **GREY)
    with TiffStack(tmp_path / "a.tif") as stack:
        assert (stack.info.axes, stack.info.shape) == ("CYX", (2, 9, 8))
        np.testing.assert_array_equal(np.stack(list(stack)), pixels)
    copy(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), pixels)
    assert read_info(tmp_path / "b.tif").axes == "CYX"


def test_twelve_bits_packed_or_stated_are_known(tmp_path):
    pixels = random(9, 8) * 16
    bits = np.unpackbits(pixels.astype(">u2").view("uint8").reshape(9, 8, 2), axis=-1)[..., 4:]
    tifffile.imwrite(
        tmp_path / "packed.tif", np.packbits(bits.reshape(9, 96), axis=-1), metadata=None, **GREY
    )
    with tifffile.TiffFile(tmp_path / "packed.tif", mode="r+") as tif:
        tif.pages[0].tags["ImageWidth"].overwrite(8)
        tif.pages[0].tags["BitsPerSample"].overwrite(12)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata={"axes": "YX", "SignificantBits": 12})
    for name in ("packed.tif", "a.ome.tif"):
        assert read_info(tmp_path / name).bits == 12
        np.testing.assert_array_equal(read_image(tmp_path / name), pixels)


def test_zero_is_white_is_inverted_on_reading_and_on_writing(tmp_path):
    pixels = random(9, 8, dtype="uint8")
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), 255 - pixels)
    copy(tmp_path / "a.tif", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert tif.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE
        np.testing.assert_array_equal(tif.asarray(), pixels)


def test_of_several_images_the_first_is_taken_and_the_others_named(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(random(9, 8), **GREY)
        tif.write(random(4, 4), **GREY)
    with TiffStack(tmp_path / "a.tif") as stack:
        (note,) = stack.notes
        np.testing.assert_array_equal(stack.plane(0), random(9, 8))
    assert (note.kind, note.count) == ("left_aside", 1) and "(4, 4)" in note.text


def test_of_a_pyramid_the_full_resolution_is_taken(tmp_path):
    pixels = random(64, 48)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(pixels, subifds=1, metadata={"axes": "YX"})
        tif.write(pixels[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.ome.tif"), pixels)
    copy(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.ome.tif"), pixels)


def test_one_file_of_a_set_of_ome_files_is_read_for_itself(tmp_path):
    pixels = random(2, 9, 8)
    tifffile.imwrite(
        tmp_path / "0.ome.tif", pixels, metadata={"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    )
    xml = tifffile.tiffcomment(tmp_path / "0.ome.tif").replace('SizeT="2"', 'SizeT="4"')
    place = '<TiffData FirstT="{}" IFD="0" PlaneCount="2"><UUID FileName="{}.ome.tif">{}</UUID></TiffData>'
    places = "".join(place.format(2 * number, number, f"urn:uuid:{number}") for number in range(2))
    xml = re.sub(r'UUID="[^"]*"', 'UUID="urn:uuid:0"', re.sub("<TiffData[^>]*/>", places, xml), count=1)
    tifffile.tiffcomment(tmp_path / "0.ome.tif", xml)
    with TiffStack(tmp_path / "0.ome.tif") as stack:
        np.testing.assert_array_equal(np.stack(list(stack)), pixels)
        assert stack.info.pixel_size == (0.5, 0.5)
    copy(tmp_path / "0.ome.tif", tmp_path / "b.tif")
    assert read_info(tmp_path / "b.tif").pixel_size == pytest.approx((0.5, 0.5))


# Channels


@pytest.mark.parametrize("choice", [1, "gfp", ["gfp"], "1"])
def test_one_channel_by_index_or_name(tmp_path, choice):
    pixels = random(2, 3, 2, 9, 8)
    names = {"Name": ["dapi", "gfp", "rfp"]}
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        pixels,
        metadata={"axes": "TCZYX", "DimensionOrder": "XYZCT", "Channel": names},
    )
    with TiffStack(tmp_path / "a.ome.tif", channels=choice) as stack:
        assert (stack.info.axes, stack.info.shape) == ("TZYX", (2, 2, 9, 8))
        assert (stack.info.channel_names, len(stack)) == (("gfp",), 4)
        np.testing.assert_array_equal(np.stack(list(stack)).reshape(2, 2, 9, 8), pixels[:, 1])


def test_several_channels_come_in_the_order_asked_for(tmp_path):
    pixels = random(2, 3, 9, 8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "TCYX"})
    with TiffStack(tmp_path / "a.tif", channels=[2, 0]) as stack:
        np.testing.assert_array_equal(np.stack(list(stack)).reshape(2, 2, 9, 8), pixels[:, [2, 0]])


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (488, ["488"]),
        ("488", ["488"]),
        ([488, 561], ["488", "561"]),
        ([561, 0], ["561", "405"]),
        (2, ["561"]),
    ],
)
def test_channels_named_by_numbers(tmp_path, choice, names):
    pixels, all_names = random(3, 9, 8), ["405", "488", "561"]
    tifffile.imwrite(
        tmp_path / "a.ome.tif", pixels, metadata={"axes": "CYX", "Channel": {"Name": all_names}}, **GREY
    )
    with TiffStack(tmp_path / "a.ome.tif", channels=choice) as stack:
        assert stack.info.channel_names == tuple(names)
        np.testing.assert_array_equal(
            np.stack(list(stack)), pixels[[all_names.index(name) for name in names]]
        )


def test_a_number_that_is_a_name_is_no_index(tmp_path):
    pixels = random(3, 9, 8)
    metadata = {"axes": "CYX", "Channel": {"Name": ["2", "0", "2"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata=metadata, **GREY)
    with TiffStack(tmp_path / "a.ome.tif", channels=0) as stack:
        np.testing.assert_array_equal(stack.plane(0), pixels[1])
    with pytest.raises(UserError, match=r"channels \[0, 2\]"):
        TiffStack(tmp_path / "a.ome.tif", channels=2)


@pytest.mark.parametrize("choice", ["Gfp", "gfp ", " GFP", "GFB"])
def test_a_name_that_is_nearly_right_is_suggested(tmp_path, choice):
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", random(2, 9, 8), metadata=metadata, **GREY)
    with pytest.raises(UserError, match="did you mean 'GFP'"):
        TiffStack(tmp_path / "a.ome.tif", channels=choice)


@pytest.mark.parametrize("choice", [3, -1, "cy5", [], [1, 1]])
def test_a_channel_that_is_not_there(tmp_path, choice):
    tifffile.imwrite(
        tmp_path / "a.tif", random(3, 9, 8), imagej=True, metadata={"axes": "CYX", "Labels": list("abc")}
    )
    with pytest.raises(UserError, match=r"(?s)channels=.*indices 0 to 2 or names a, b, c"):
        TiffStack(tmp_path / "a.tif", channels=choice)


# Bad files


def truncated(path, keep=0.6, **options):
    tifffile.imwrite(path, random(32, 32), **GREY, **options)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


def damaged(path):
    tifffile.imwrite(path, random(32, 32), compression="zlib", **GREY)
    with tifffile.TiffFile(path) as tif:
        start = tif.pages[0].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)


def never_written(path):
    tifffile.imwrite(path, random(32, 32), compression="zlib", **GREY)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[0].tags["StripByteCounts"].overwrite(0)


def crossed_axes(path):
    tifffile.imwrite(path, random(9, 8, 6), metadata={"axes": "YXZ"}, **GREY)


def with_value(value):
    pixels = random(9, 8, dtype="float32")
    pixels[3, 3] = value
    return lambda path: tifffile.imwrite(path, pixels, **GREY)


def image(pixels, **options):
    return lambda path: tifffile.imwrite(path, pixels, **options)


BAD = {
    "missing": (lambda path: None, "no such file"),
    "folder": (lambda path: path.mkdir(), "a folder"),
    "zero bytes": (lambda path: path.touch(), "0 bytes"),
    "text": (lambda path: path.write_text("not an image, but long enough"), "not a TIFF"),
    "png": (lambda path: Image.fromarray(random(9, 8, dtype="uint8")).save(path, "png"), "not a TIFF"),
    "header only": (lambda path: path.write_bytes(b"II*\0\0\0\0\0"), "without an image"),
    "half a header": (lambda path: path.write_bytes(b"II*"), "cannot be read"),
    "truncated": (truncated, "truncated"),
    "truncated, compressed": (lambda path: truncated(path, compression="zlib"), "truncated"),
    "truncated, ImageJ": (lambda path: truncated(path, imagej=True), "truncated"),
    "truncated, OME": (lambda path: truncated(path, ome=True), "truncated"),
    "truncated, pages": (lambda path: truncated(path, metadata=None, compression="lzw"), "truncated"),
    "damaged": (damaged, "cannot be read"),
    "never written": (never_written, "never written"),
    "rgb": (image(random(9, 8, 3, dtype="uint8"), photometric="rgb"), "colour image .RGB"),
    "rgb planes": (image(random(3, 9, 8), photometric="rgb"), "colour image .RGB"),
    "cmyk": (image(random(9, 8, 4, dtype="uint8"), photometric="separated"), "colour image .SEPARATED"),
    "indexed": (image(random(9, 8, dtype="uint8"), colormap=random(3, 256)), "indexed colour"),
    "complex": (image(random(9, 8, dtype="complex64"), **GREY), "type complex64"),
    "mask": (image(random(9, 8, dtype="bool"), **GREY), "type bool"),
    "nan": (with_value(np.nan), "1 NaN or infinite"),
    "infinite": (with_value(np.inf), "1 NaN or infinite"),
    "beyond float32": (image(np.array([[0, -1e300]])), "up to 1e\\+300.*\n.*at most 1e\\+18"),
    "stack": (image(random(3, 9, 8), **GREY), "stack of 3 planes"),
    "crossed axes": (crossed_axes, "axes YXZ"),
    "empty": (image(np.zeros((0, 8), "uint8"), **GREY), "empty image"),
}


@pytest.mark.filterwarnings("ignore:.*zero-size array")
@pytest.mark.parametrize("make, found", BAD.values(), ids=BAD.keys())
def test_bad_files_are_named_with_a_way_out(tmp_path, make, found):
    path = tmp_path / "bad.tif"
    make(path)
    with pytest.raises(UserError, match=found) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert caught.value.allowed and caught.value.remedy


@pytest.mark.parametrize("options", [{"compression": "zlib"}, {"tile": (16, 16)}, {}])
def test_a_cut_file_is_noticed_before_any_plane_is_read(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, random(32, 32), **GREY, **options)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="truncated: .* bytes, but the pixels end"):
        read_info(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", random(9, 8), **GREY)
    (tmp_path / "a.tif").chmod(0)
    with pytest.raises(UserError, match="no permission"):
        read_image(tmp_path / "a.tif")


def test_a_codec_that_is_not_installed_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", random(9, 8), compression="zstd", **GREY)
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from ddpm_lightning.io.tiff import read_image\n"
        f"read_image({str(tmp_path / 'a.tif')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.search("UserError: .*a.tif: compressed, which needs imagecodecs", done.stderr), done.stderr
    assert "pip install imagecodecs" in done.stderr
