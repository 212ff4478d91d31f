"""Recordings that were stopped and copies that were cut: what is there is read, what is missing is said."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from ddpm_lightning.io.cached_planes import CachedPlanes
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.tiff import TiffStack
from ddpm_lightning.io.tiff_missing import describe_complete_part
from ddpm_lightning.utils.errors import UserError
from tests.io.tiffs import GREY, copied, random


def read(path):
    """Copies a file, and returns its planes, their description and the notes."""
    planes, stack, series = copied(path)
    assert stack.info.shape == series[0].get_shape(squeeze=stack.info.axes == series[0].axes)
    return planes, stack.info, stack.notes


def ome(path, pixels, axes, there, sizes=None, order="XYCZT", extra="", pages=None):
    """Writes an OME-TIFF whose XML promises the shape of ``pixels``, and that holds the planes ``there`` alone."""
    sizes = dict(zip(axes, pixels.shape, strict=True)) | (sizes or {})
    places = list(np.ndindex(pixels.shape[:-2]))
    listed = [(place, number) for number, place in enumerate(there)]
    data = "".join(
        f'<TiffData IFD="{page}" PlaneCount="1" '
        + " ".join(f'First{axis}="{at}"' for axis, at in zip(axes, place, strict=False))
        + "/>"
        for place, page in listed
    )
    planes = "".join(
        "<Plane "
        + " ".join(f'The{axis}="{dict(zip(axes, place, strict=False)).get(axis, 0)}"' for axis in "ZCT")
        + f' DeltaT="{number}"/>'
        for number, place in enumerate(places)
    )
    channels = "".join(f'<Channel ID="Channel:0:{c}" Name="c{c}"/>' for c in range(sizes.get("C", 1)))
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint16" PhysicalSizeX="0.1" PhysicalSizeY="0.1" '
        + " ".join(f'Size{axis}="{sizes.get(axis, 1)}"' for axis in "XYZCT")
        + f">{channels}{data}{planes}</Pixels>{extra}</Image></OME>"
    )
    with tifffile.TiffWriter(path, ome=False) as tif:
        for number, place in enumerate(there[:pages]):
            tif.write(pixels[place], metadata=None, description=xml.encode() if number == 0 else None, **GREY)


@pytest.mark.parametrize(
    ("shape", "axes", "count", "left"),
    [
        ((10, 16, 12), "TYX", 6, (6,)),
        ((5, 2, 16, 12), "TCYX", 7, (3, 2)),
        ((2, 5, 16, 12), "TZYX", 3, (1, 3)),
        ((3, 2, 2, 16, 12), "TZCYX", 9, (2, 2, 2)),
        ((1, 4, 16, 12), "TZYX", 3, (1, 3)),
    ],
)
def test_an_ome_recording_that_was_stopped(tmp_path, shape, axes, count, left):
    pixels, path = random(*shape), tmp_path / "a.ome.tif"
    order = "XY" + axes[-3::-1] + "".join(axis for axis in "CZT" if axis not in axes)
    ome(path, pixels, axes, list(np.ndindex(shape[:-2]))[:count], order=order)
    planes, info, (note,) = read(path)
    kept = pixels[tuple(slice(size) for size in left)].reshape(-1, 16, 12)
    np.testing.assert_array_equal(planes, kept)
    assert info.pixel_size == (0.1, 0.1) and info.kind == "ome"
    assert dict(zip(info.axes, info.shape, strict=True)) == {
        axis: size for axis, size in zip(axes, (*left, 16, 12), strict=True) if axis in info.axes
    }
    assert (note.kind, note.count) == ("left_aside", np.prod(shape[:-2]) - len(kept))
    xml = ElementTree.fromstring(tifffile.tiffcomment(tmp_path / "copy_a.ome.tif"))
    stated = xml.find(".//{*}Pixels")
    for axis, size in zip(axes, left, strict=False):
        assert int(stated.get(f"Size{axis}")) == size
    assert len(stated.findall("{*}Plane")) == len(kept)
    assert len(CachedPlanes(path).info.shape) == len(info.shape) if "C" not in info.axes else True


def test_an_ome_file_of_which_planes_are_missing_in_between(tmp_path):
    pixels = random(5, 16, 12)
    ome(tmp_path / "a.ome.tif", pixels, "TYX", [(0,), (1,), (3,), (4,)])
    with pytest.raises(UserError, match="plane t2"):
        TiffStack(tmp_path / "a.ome.tif")


def test_an_ome_file_that_promises_pages_that_are_not_there(tmp_path):
    pixels = random(5, 16, 12)
    ome(tmp_path / "a.ome.tif", pixels, "TYX", [(number,) for number in range(5)], pages=3)
    planes, info, (note,) = read(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(planes, pixels[:3])
    assert (info.axes, note.count) == ("TYX", 2)


@pytest.mark.parametrize(
    ("axes", "shape", "promised", "left"),
    [
        ("ZYX", (3,), {"images": 5, "slices": 5}, (3,)),
        ("TYX", (3,), {"images": 8, "frames": 8}, (3,)),
        ("TCYX", (2, 2), {"images": 6, "frames": 3}, (2, 2)),
        ("TZCYX", (3, 2, 2), {"images": 16, "frames": 4}, (3, 2, 2)),
    ],
)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_an_imagej_file_that_promises_more(tmp_path, axes, shape, promised, left, compression):
    pixels, path = random(*shape, 16, 12), tmp_path / "a.tif"
    labels = [f"plane {number}" for number in range(np.prod(shape))]
    tifffile.imwrite(
        path, pixels, imagej=True, compression=compression, metadata={"axes": axes, "Labels": labels}
    )
    text = tifffile.tiffcomment(path)
    for key, value in promised.items():
        text = re.sub(rf"{key}=\d+", f"{key}={value}", text)
    tifffile.tiffcomment(path, text)
    planes, info, (note,) = read(path)
    np.testing.assert_array_equal(planes, pixels.reshape(-1, 16, 12))
    assert (info.axes, info.shape, info.kind) == (axes, (*left, 16, 12), "imagej")
    assert (note.kind, note.count) == ("left_aside", promised["images"] - len(planes))
    with tifffile.TiffFile(tmp_path / "copy_a.tif") as tif:
        assert tif.imagej_metadata["images"] == len(planes) and tif.imagej_metadata["Labels"] == labels


def test_a_description_of_tifffile_that_promises_more(tmp_path):
    pixels, path = random(3, 16, 12), tmp_path / "a.tif"
    for compression in (None, "zlib"):
        tifffile.imwrite(
            path, pixels, compression=compression, metadata={"axes": "ZYX", "lens": "60x"}, **GREY
        )
        tifffile.tiffcomment(path, tifffile.tiffcomment(path).replace("[3,", "[5,"))
        planes, info, (note,) = read(path)
        np.testing.assert_array_equal(planes, pixels)
        assert (info.axes, note.kind, note.count) == ("ZYX", "left_aside", 2)
        with tifffile.TiffFile(tmp_path / "copy_a.tif") as tif:
            assert tif.shaped_metadata[0]["lens"] == "60x" and tif.series[0].axes == "ZYX"


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True},
        {"ome": True},
        {"compression": "zlib"},
        {"metadata": None},
        {"metadata": None, "compression": "lzw"},
        {"metadata": {"axes": "ZYX"}},
    ],
)
def test_a_file_cut_anywhere_is_an_error_or_its_first_planes_and_a_note(tmp_path, options):
    pixels, path = random(4, 12, 10), tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, **GREY, **options)
    whole, counts = path.read_bytes(), []
    for size in range(1, len(whole), 13):
        path.write_bytes(whole[:size])
        try:
            with TiffStack(path) as stack:
                planes = np.stack(list(stack))
        except UserError:
            continue
        np.testing.assert_array_equal(planes, pixels[: len(planes)])
        assert len(planes) == len(pixels) or stack.notes
        counts.append(len(planes))
    assert counts == sorted(counts) and {1, 2, 3} <= set(counts)


def cut(path, pixels, keep, **options):
    tifffile.imwrite(path, pixels, **GREY, **options)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


def test_a_cut_file_is_read_in_training_as_well(tmp_path):
    pixels = random(4, 64, 64)
    cut(tmp_path / "a.tif", pixels, 0.6, metadata={"axes": "TYX"})
    frames = CachedPlanes(tmp_path / "a.tif")
    assert (frames.planes, frames.info.axes) == (2, "TYX")
    for _ in range(2):
        np.testing.assert_array_equal([frames.plane(0), frames.plane(1)], pixels[:2])


def test_pixels_outside_of_the_file_in_between_are_an_error(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, random(4, 32, 32), compression="zlib", metadata=None, **GREY)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[2].tags["StripOffsets"].overwrite(2**31)
    with pytest.raises(UserError, match="plane 2"):
        TiffStack(path)


def test_what_is_left_of_an_image_is_a_whole_part_of_it():
    info = ImageInfo("TZCYX", (4, 3, 2, 9, 8), np.dtype("uint8"))
    for count, shape in [(24, (4, 3, 2)), (23, (3, 3, 2)), (6, (1, 3, 2)), (5, (1, 2, 2)), (1, (1, 1, 1))]:
        left, note = describe_complete_part(info, count)
        assert left.shape == (*shape, 9, 8) and left.axes == info.axes
        assert note.count == 24 - np.prod(shape)
