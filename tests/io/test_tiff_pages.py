"""What each page says comes out on the page of the same plane."""

import pickle

import numpy as np
import pytest
import tifffile

from ddpm_lightning.io.tiff import TiffStack, TiffStackWriter
from tests.io.tiffs import GREY

KEPT = (270, 274, 285, 306, 315, 65000, 65001 + 99, 51123, 700)


def write(path, count, shape=(20, 18), texts=True, **options):
    """Writes pages with words of their own, as different programs do."""
    pixels = np.random.default_rng(0).integers(0, 999, (count, *shape)).astype("uint16")
    with tifffile.TiffWriter(
        path, **{key: options.pop(key) for key in ("bigtiff", "byteorder") if key in options}
    ) as tif:
        for number, page in enumerate(pixels):
            tags = [
                (274, 3, 1, 6, True),
                (285, 2, 0, f"page {number}", True),
                (65000, 2, 0, f"exposure {number}", True),
                (65100, 12, 3, (0.5 * number, 1.0, -2.25), True),
                (51123, 2, 0, f'{{"PositionX": {number}}}', True),
                (700, 1, 4, bytes([number, 1, 2, 3]), True),
            ]
            description = {"description": f"Time_From_Start = {number / 10}"} if texts else {}
            date = f"2024:01:01 10:00:{number:02d}"
            tif.write(page, metadata=None, extratags=tags, datetime=date, **description, **GREY, **options)
    return pixels


def told(path):
    with tifffile.TiffFile(path) as tif:
        pages = [page.aspage() for page in tif.pages]
        return [{tag.code: (tag.dtype, tag.value) for tag in page.tags if tag.code in KEPT} for page in pages]


def copy(path, out, channels=None, **options):
    with TiffStack(path, channels) as stack, TiffStackWriter(out, stack.info, **options) as writer:
        planes = list(stack)
        for plane in planes:
            writer.write(plane.astype(writer.info.dtype))
    return np.stack(planes), stack.notes


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"bigtiff": True}, {"byteorder": ">"}, {"tile": (16, 16)}]
)
def test_tags_of_each_page_are_kept(tmp_path, options):
    pixels = write(tmp_path / "a.tif", 4, **options)
    planes, notes = copy(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(planes, pixels)
    assert notes == [] and told(tmp_path / "b.tif") == told(tmp_path / "a.tif")
    assert len(told(tmp_path / "b.tif")[3]) == 8
    copy(tmp_path / "a.tif", tmp_path / "std.tif", dtype="float32")
    assert told(tmp_path / "std.tif") == told(tmp_path / "a.tif")


def test_tags_of_a_single_page_are_kept(tmp_path):
    write(tmp_path / "a.tif", 1)
    copy(tmp_path / "a.tif", tmp_path / "b.tif")
    assert told(tmp_path / "b.tif") == told(tmp_path / "a.tif")


def test_tags_follow_the_channels_that_are_chosen(tmp_path):
    write(tmp_path / "a.tif", 6)
    xml = tifffile.OmeXml()
    xml.addimage("uint16", (3, 2, 20, 18), (6, 1, 1, 20, 18, 1), axes="TCYX")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        tif.pages[0].tags[270].overwrite(xml.tostring())
    copy(tmp_path / "a.tif", tmp_path / "b.tif", channels=[1])
    source, kept = told(tmp_path / "a.tif"), told(tmp_path / "b.tif")
    source[1].pop(270), kept[0].pop(270)  # that of the first page is the OME-XML
    assert kept == source[1::2]
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert (tif.series[0].kind, tif.series[0].axes, tif.series[0].shape) == ("ome", "TYX", (3, 20, 18))


def test_tags_of_an_imagej_stack_are_kept(tmp_path):
    pixels = write(tmp_path / "a.tif", 3)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        tif.pages[0].tags[270].overwrite(tifffile.imagej_description((3, 20, 18), axes="TYX", finterval=0.5))
    copy(tmp_path / "a.tif", tmp_path / "b.tif")
    source, kept = told(tmp_path / "a.tif"), told(tmp_path / "b.tif")
    source[0].pop(270), kept[0].pop(270)
    assert source == kept
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert (tif.series[0].kind, tif.series[0].axes) == ("imagej", "TYX")
        np.testing.assert_array_equal(tif.asarray(), pixels)


def test_pages_that_share_a_header_stay_contiguous(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 999, (3, 20, 18)).astype("uint16")
    tags = [(65000, 2, 0, "of the file", True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=tags, metadata={"axes": "ZYX"}, **GREY)
    copy(tmp_path / "a.tif", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert tif.series[0].dataoffset and tif.pages[0].tags[65000].value == "of the file"
        assert tif.series[0].axes == "ZYX"


def test_what_cannot_be_kept_is_said(tmp_path):
    pixels = np.zeros((20, 18), "uint16")
    pixels[3] = 7
    tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=[(33628, 4, 1, 5, True)], metadata=None, **GREY)
    with TiffStack(tmp_path / "a.tif") as stack:
        (note,) = stack.notes
    assert note.kind == "left_aside" and "UIC1tag" in note.text


def test_the_description_of_a_file_travels_to_other_processes(tmp_path):
    write(tmp_path / "a.tif", 3)
    with TiffStack(tmp_path / "a.tif") as stack:
        info = pickle.loads(pickle.dumps(stack.info))
        planes = list(stack)
    with TiffStackWriter(tmp_path / "b.tif", info) as writer:
        for plane in planes:
            writer.write(plane)
    assert told(tmp_path / "b.tif") == told(tmp_path / "a.tif")


def test_large_tags_that_repeat_are_written_once(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 999, (3, 20, 18)).astype("uint16")
    tags = [(65000, 2, 0, "x" * 5000, True)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for number, page in enumerate(pixels):
            tif.write(page, extratags=[*tags, (65100, 2, 0, str(number), True)], metadata=None, **GREY)
    copy(tmp_path / "a.tif", tmp_path / "b.tif")
    assert [sorted(page) for page in told(tmp_path / "b.tif")] == [[65000, 65100], [65100], [65100]]
