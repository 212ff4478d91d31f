"""Which pages of a file are its image: appended ones are, thumbnails, masks and pyramid levels are not."""

import numpy as np
import pytest
import tifffile

from ddpm_lightning.io.cached_planes import CachedPlanes
from ddpm_lightning.io.tiff import TiffStack
from ddpm_lightning.utils.errors import UserError
from tests.io.tiffs import GREY, copied, random


def read(path):
    """Copies a file, and returns its planes, their description and the notes."""
    planes, stack, series = copied(path)
    assert (series[0].axes, series[0].shape) == (stack.info.axes, stack.info.shape)
    assert len(series) == 1
    return planes, stack.info, stack.notes


APPENDED = {
    "with tifffile's JSON": {},
    "without": {"metadata": None},
    "BigTIFF": {"bigtiff": True},
    "compressed": {"compression": "zlib"},
    "tiled": {"tile": (32, 32)},
    "with names": {"metadata": {"name": "frame", "exposure": 0.1}},
    "big-endian": {"byteorder": ">"},
}


@pytest.mark.parametrize("options", APPENDED.values(), ids=APPENDED.keys())
def test_equal_pages_that_were_appended_one_by_one(tmp_path, options):
    pixels, path = random(4, 40, 36), tmp_path / "a.tif"
    once = {key: options[key] for key in ("bigtiff", "byteorder") if key in options}
    each = {key: value for key, value in options.items() if key not in once}
    for number, page in enumerate(pixels):
        tifffile.imwrite(path, page, append=number > 0, **GREY, **each, **({} if number else once))
    planes, info, notes = read(path)
    np.testing.assert_array_equal(planes, pixels)
    assert (info.axes, info.shape) == ("IYX", (4, 40, 36))
    assert [note.kind for note in notes] in ([], ["guessed"])  # a plain stack of pages is no guess
    frames = CachedPlanes(path)
    assert frames.planes == 4
    for _ in range(2):
        np.testing.assert_array_equal([frames.plane(number) for number in range(4)], pixels)


def test_appended_pages_of_different_compression_come_in_their_order(tmp_path):
    pixels, path = random(5, 40, 36), tmp_path / "a.tif"
    codecs = [None, "zlib", None, "lzw", "zlib"]
    for metadata in (None, {}):
        path.unlink(missing_ok=True)
        for page, codec in zip(pixels, codecs, strict=True):
            tifffile.imwrite(path, page, append=path.exists(), compression=codec, metadata=metadata, **GREY)
        planes, info, (note,) = read(path)
        np.testing.assert_array_equal(planes, pixels)
        assert (info.axes, note.kind) == ("IYX", "guessed")


def test_appended_series_of_equal_shape(tmp_path):
    pixels, path = random(2, 3, 40, 36), tmp_path / "a.tif"
    for number, stack in enumerate(pixels):
        tifffile.imwrite(path, stack, append=number > 0, metadata={"axes": "ZYX"}, **GREY)
    planes, info, (note,) = read(path)
    np.testing.assert_array_equal(planes, pixels.reshape(-1, 40, 36))
    assert (info.axes, info.shape, note.kind) == ("IZYX", (2, 3, 40, 36), "guessed")


def test_series_of_pages_without_named_axes_are_one_stack(tmp_path):
    pixels, path = random(6, 40, 36), tmp_path / "a.tif"
    for part in (pixels[:1], pixels[1:4], pixels[4:]):
        tifffile.imwrite(path, part.squeeze(), append=path.exists(), **GREY)
    planes, info, _ = read(path)
    np.testing.assert_array_equal(planes, pixels)
    assert (info.axes, info.shape) == ("IYX", (6, 40, 36))


@pytest.mark.parametrize(
    "other",
    [random(20, 36), random(40, 36, dtype="uint8"), random(40, 36, 3, dtype="uint8"), random(2, 40, 35)],
)
def test_pages_that_differ_are_left_aside(tmp_path, other):
    pixels, path = random(3, 40, 36), tmp_path / "a.tif"
    photometric = "rgb" if other.shape[-1] == 3 else "minisblack"
    for metadata in (None, {"axes": "ZYX"}):
        tifffile.imwrite(path, pixels, metadata=metadata, **GREY)
        tifffile.imwrite(path, other, append=True, metadata=metadata and {}, photometric=photometric)
        planes, info, (note,) = read(path)
        np.testing.assert_array_equal(planes, pixels)
        assert (note.kind, note.count) == ("left_aside", 1) and str(other.shape) in note.text


def append_to(path, description, pixels, extra, codec):
    """Writes an image with a description, and pages after it that the description does not know."""
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels, description=description, metadata=None, compression=codec, **GREY)
        for page in extra:
            tif.write(page, metadata=None, compression=codec, **GREY)


@pytest.mark.parametrize("metadata", [None, {}])
@pytest.mark.parametrize("codec", [None, "zlib"])
def test_one_page_that_differs_wherever_it_is(tmp_path, metadata, codec):
    pixels, path = random(12, 20, 18), tmp_path / "a.tif"
    for odd in range(12):
        for other in (pixels[odd, :10], pixels[odd].astype("uint8"), pixels[odd].reshape(18, 20)):
            with tifffile.TiffWriter(path) as tif:
                for number, page in enumerate(pixels):
                    page = other if number == odd else page
                    tif.write(page, metadata=metadata, compression=codec, **GREY)
            if odd == 0 and other.shape != (10, 18):
                continue
            with TiffStack(path) as stack:
                np.testing.assert_array_equal(np.stack(list(stack)), np.delete(pixels, odd, 0))
                assert (stack.info.axes, stack.notes[-1].kind) == ("IYX", "left_aside")
                assert stack.notes[-1].count == 1


def test_a_page_of_a_described_stack_that_differs(tmp_path):
    pixels = random(5, 20, 18)
    for text in (tifffile.imagej_description((5, 20, 18), axes="ZYX"), '{"shape": [5, 20, 18]}'):
        with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
            for number, page in enumerate(pixels):
                page = page[:10] if number == 3 else page
                tif.write(
                    page, metadata=None, description=None if number else text, compression="zlib", **GREY
                )
        with pytest.raises(UserError, match="page 3"):
            TiffStack(tmp_path / "a.tif")


def append_to_stack(path, first, pixels):
    with tifffile.TiffWriter(path) as tif:
        tif.write(first, metadata=None, **GREY)
        for page in pixels:
            tif.write(page, metadata=None, **GREY)


def test_a_small_page_before_a_stack_is_a_preview(tmp_path):
    pixels = random(5, 40, 36)
    append_to_stack(tmp_path / "a.tif", random(12, 30), pixels)
    planes, info, notes = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(planes, pixels)
    assert [note.kind for note in notes] == ["guessed", "left_aside"]


@pytest.mark.parametrize("codec", [None, "zlib"])
@pytest.mark.parametrize(("first", "axes"), [(1, "IYX"), (3, "ZYX")])
def test_pages_appended_to_an_imagej_file(tmp_path, codec, first, axes):
    pixels, path = random(5, 40, 36), tmp_path / "a.tif"
    shape, stacked = ((3, 40, 36), "ZYX") if first > 1 else ((40, 36), "YX")
    append_to(
        path,
        tifffile.imagej_description(shape, axes=stacked),
        pixels[:first].reshape(shape),
        pixels[first:],
        codec,
    )
    planes, info, notes = read(path)
    np.testing.assert_array_equal(planes, pixels)
    assert (info.axes, info.kind) == (axes, "imagej")
    assert [note.kind for note in notes] == ["guessed"] * (first > 1)


@pytest.mark.parametrize("codec", [None, "zlib"])
@pytest.mark.parametrize("other", [random(3, 40, 36), random(1, 20, 36)])
def test_pages_that_do_not_fit_a_hyperstack_are_left_aside(tmp_path, codec, other):
    pixels, path = random(2, 3, 40, 36), tmp_path / "a.tif"
    append_to(path, tifffile.imagej_description(pixels.shape, axes="TZYX"), pixels, other, codec)
    planes, info, (note,) = read(path)
    np.testing.assert_array_equal(planes, pixels.reshape(-1, 40, 36))
    assert (info.axes, note.kind, note.count) == ("TZYX", "left_aside", len(other))


def test_pages_that_the_ome_xml_does_not_name_are_left_aside(tmp_path):
    pixels, path = random(3, 40, 36), tmp_path / "a.ome.tif"
    tifffile.imwrite(path, pixels, metadata={"axes": "ZYX"}, **GREY)
    append_to(path, tifffile.tiffcomment(path).encode(), pixels, pixels[:1], None)
    planes, info, (note,) = read(path)
    np.testing.assert_array_equal(planes, pixels)
    assert (info.axes, info.kind, note.kind, note.count) == ("ZYX", "ome", "left_aside", 1)


@pytest.mark.parametrize("flag", [1, None])
@pytest.mark.parametrize("metadata", [None, {}])
@pytest.mark.parametrize("small", [random(10, 9), random(10, 9, 3, dtype="uint8")])
def test_a_thumbnail_before_the_image(tmp_path, flag, metadata, small):
    pixels, path = random(40, 36), tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        photometric = "rgb" if small.ndim == 3 else "minisblack"
        tif.write(small, subfiletype=flag, metadata=metadata, photometric=photometric)
        tif.write(pixels, metadata=metadata, **GREY)
    planes, info, notes = read(path)
    np.testing.assert_array_equal(planes, pixels[None])
    assert (info.axes, CachedPlanes(path).plane(0).shape) == ("YX", (40, 36))
    assert [note.kind for note in notes] == ["guessed"] * (flag is None) + ["left_aside"]
    assert str(small.shape) in notes[-1].text


def write_ome(path, *images):
    with tifffile.TiffWriter(path, ome=True) as tif:
        for pixels in images:
            axes = "CYX"[-pixels.ndim :] if pixels.shape[-1] > 4 else "YXS"
            photometric = "rgb" if axes == "YXS" else "minisblack"
            tif.write(
                pixels,
                photometric=photometric,
                metadata={"axes": axes, "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1},
            )


def test_a_colour_thumbnail_before_the_image_of_an_ome_tiff(tmp_path):
    pixels, path = random(3, 80, 72), tmp_path / "a.ome.tif"
    write_ome(path, random(10, 9, 3, dtype="uint8"), random(20, 90), pixels, pixels)
    planes, stack, (series,) = copied(path)
    np.testing.assert_array_equal(planes, pixels)
    info, counts = stack.info, [(note.kind, note.count) for note in stack.notes]
    assert (info.axes, info.kind, info.pixel_size, series.kind) == ("CYX", "ome", (0.1, 0.1), "ome")
    assert counts == [("left_aside", 1), ("left_aside", 4)]  # the thumbnail; planes of the other images


@pytest.mark.parametrize("first", [(80, 72, 3), (40, 72, 3), (60, 54, 3)])
def test_another_colour_image_is_refused(tmp_path, first):
    path = tmp_path / "a.ome.tif"
    write_ome(path, random(*first, dtype="uint8"), random(80, 72))
    with pytest.raises(UserError) as refused:
        read(path)
    assert refused.value.subject == path and "file of its own" in refused.value.remedy


def test_of_a_pyramid_that_rises_the_last_level_is_taken(tmp_path):
    image = np.random.default_rng(0).integers(0, 4000, (3, 64, 80)).astype("uint16")
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for step in (4, 2, 1):
            file.write(image[0, ::step, ::step], photometric="minisblack", metadata=None)
    with TiffStack(path) as stack:
        assert stack.info.axes == "YX" and (stack.plane(0) == image[0]).all()
        assert [note.kind for note in stack.notes].count("guessed") == 2


def test_a_thumbnail_before_each_page(tmp_path):
    pixels, path = random(3, 40, 36), tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for page in pixels:
            tif.write(page[::4, ::4], subfiletype=1, metadata=None, **GREY)
            tif.write(page, metadata=None, **GREY)
    planes, info, (note,) = read(path)
    np.testing.assert_array_equal(planes, pixels)
    assert (info.axes, note.kind) == ("IYX", "left_aside")


def test_thumbnails_and_masks_elsewhere(tmp_path):
    pixels, path = random(64, 48), tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels, subifds=2, metadata=None, **GREY)
        tif.write(pixels[::2, ::2], subfiletype=1, metadata=None, **GREY)
        tif.write(pixels[::4, ::4], subfiletype=1, metadata=None, **GREY)
        tif.write(random(20, 60), subfiletype=1, metadata=None, **GREY)  # a label
    planes, _, notes = read(path)
    np.testing.assert_array_equal(planes, pixels[None])
    assert [note.kind for note in notes] == ["left_aside"] * 2 and sum(note.count for note in notes) == 3


def test_an_image_that_follows_a_smaller_one_of_another_form_is_no_reason_to_swap(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(random(20, 40), metadata=None, **GREY)
        tif.write(random(80, 80), metadata=None, **GREY)
    planes, info, (note,) = read(path)
    assert info.shape == (20, 40) and note.kind == "left_aside"


def test_single_page_header_of_many_planes_with_a_page_appended(tmp_path):
    pixels, path = random(2, 40, 36), tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, truncate=True, metadata={"axes": "ZYX"}, **GREY)
    tifffile.imwrite(path, random(9, 8), append=True, **GREY)
    planes, info, (note,) = read(path)
    np.testing.assert_array_equal(planes, pixels)
    assert (info.axes, note.kind) == ("ZYX", "left_aside")


def test_other_images_of_an_ome_file_are_said_once(tmp_path):
    pixels = random(3, 4, 20, 18)
    for codec in (None, "zlib"):
        with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
            for stack in pixels:
                tif.write(stack, metadata={"axes": "ZYX"}, compression=codec, **GREY)
        planes, info, (note,) = read(tmp_path / "a.ome.tif")
        np.testing.assert_array_equal(planes, pixels[0])
        assert (note.kind, note.count) == ("left_aside", 2)


def test_pages_in_a_circle_are_an_error(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, random(3, 20, 18), metadata=None, compression="zlib", **GREY)
    with tifffile.TiffFile(path) as tif:
        last, first = tif.pages.next_page_offset, tif.pages[0].offset
    data = bytearray(path.read_bytes())
    data[last : last + 4] = first.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(UserError, match="does not end"):
        TiffStack(path)
