"""A file of a set of OME-TIFFs is read, and written, as what it is by itself."""

from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from ddpm_lightning.io.cached_planes import CachedPlanes
from ddpm_lightning.io.tiff import TiffStack, TiffStackWriter
from ddpm_lightning.utils.errors import UserError
from tests.io.tiffs import GREY

HEAD = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'


def random(*shape):
    return np.random.default_rng(0).integers(0, 999, (*shape, 20, 18)).astype("uint16")


def image(number, shape, places, size=0.1, order="XYCZT"):
    """An Image of (T, Z, C) planes; ``places`` are (file, page, (t, z, c))."""
    data = "".join(
        f'<TiffData FirstT="{t}" FirstZ="{z}" FirstC="{c}" IFD="{page}" PlaneCount="1">'
        f'<UUID FileName="{file}">urn:uuid:{file}</UUID></TiffData>'
        for file, page, (t, z, c) in places
    )
    channels = "".join(
        f'<Channel ID="Channel:{number}:{c}" Name="{name}"/>'
        for c, name in enumerate(("DAPI", "GFP", "RFP")[: shape[2]])
    )
    planes = "".join(
        f'<Plane TheT="{t}" TheZ="{z}" TheC="{c}" DeltaT="{10 * number + t}"/>'
        for t, z, c in np.ndindex(*shape)
    )
    return (
        f'<Image ID="Image:{number}" Name="Pos{number}"><Pixels ID="Pixels:{number}" DimensionOrder="{order}" '
        f'Type="uint16" SizeX="18" SizeY="20" SizeT="{shape[0]}" SizeZ="{shape[1]}" SizeC="{shape[2]}" '
        f'PhysicalSizeX="{size}" PhysicalSizeY="{size}" PhysicalSizeZ="0.5" TimeIncrement="2">'
        f"{channels}{data}{planes}</Pixels></Image>"
    )


def write(path, planes, xml, identifier=None):
    text = f'{HEAD}{f""" UUID="urn:uuid:{identifier}" """ if identifier else ""}>{xml}</OME>'
    with tifffile.TiffWriter(path) as tif:
        for number, plane in enumerate(planes):
            tif.write(plane, metadata=None, description=None if number else text.encode(), **GREY)


def restored(path, channels=None):
    out = path.with_name(f"copy_{path.name}")
    with TiffStack(path, channels) as stack, TiffStackWriter(out, stack.info) as writer:
        planes = list(stack)
        for plane in planes:
            writer.write(plane)
    with tifffile.TiffFile(out) as tif:
        np.testing.assert_array_equal(tif.asarray().reshape(-1, 20, 18), planes)
        return np.stack(planes), stack.info, stack.notes, tif.ome_metadata, tif.series[0]


def positions(folder, identifiers=True):
    """Two positions, each in a file of its own, with another pixel size."""
    pixels, sizes = random(2, 1, 3, 2), (0.1, 0.2)
    places = list(np.ndindex(1, 3, 2))
    xml = "".join(
        image(n, (1, 3, 2), [(f"pos{n}.ome.tif", page, place) for page, place in enumerate(places)], sizes[n])
        for n in range(2)
    )
    for n in range(2):
        name = f"pos{n}.ome.tif"
        write(folder / name, pixels[n].reshape(-1, 20, 18), xml, name if identifiers else None)
    return pixels


@pytest.mark.parametrize("identifiers", [True, False])
def test_each_position_is_itself(tmp_path, identifiers):
    pixels = positions(tmp_path, identifiers)
    for number, size in enumerate((0.1, 0.2)):
        planes, info, notes, xml, series = restored(tmp_path / f"pos{number}.ome.tif")
        np.testing.assert_array_equal(planes, pixels[number].reshape(-1, 20, 18))
        assert (info.axes, info.shape, info.kind) == ("ZCYX", (3, 2, 20, 18), "ome")
        assert (info.pixel_size, info.z_step, info.time_step) == ((size, size), 0.5, 2.0)
        assert (info.channel_names, notes, series.axes) == (("DAPI", "GFP"), [], "ZCYX")
        root = ElementTree.fromstring(xml)
        (one,) = root.findall("{*}Image")
        assert one.get("Name") == f"Pos{number}"
        assert {plane.get("DeltaT") for plane in one.iter() if "DeltaT" in plane.attrib} == {f"{10 * number}"}
        assert not root.findall(".//{*}UUID")
        planes, info, _, xml, series = restored(tmp_path / f"pos{number}.ome.tif", "GFP")
        np.testing.assert_array_equal(planes, pixels[number, 0, :, 1])
        assert (info.axes, series.axes, info.channel_names) == ("ZYX", "ZYX", ("GFP",))


def test_a_renamed_file_is_known_by_its_identifier(tmp_path):
    pixels = positions(tmp_path)
    (tmp_path / "pos1.ome.tif").replace(tmp_path / "b.ome.tif")
    (tmp_path / "pos0.ome.tif").replace(tmp_path / "pos1.ome.tif")
    for name, number in (("b", 1), ("pos1", 0)):
        planes, info, notes, *_ = restored(tmp_path / f"{name}.ome.tif")
        np.testing.assert_array_equal(planes, pixels[number].reshape(-1, 20, 18))
        assert info.pixel_size[0] == (0.1, 0.2)[number] and notes == []


def test_a_renamed_file_like_another_position_has_no_wrong_size(tmp_path):
    pixels = positions(tmp_path, identifiers=False)
    (tmp_path / "pos1.ome.tif").replace(tmp_path / "b.ome.tif")
    planes, info, (note,), *_ = restored_plain(tmp_path / "b.ome.tif")
    np.testing.assert_array_equal(planes, pixels[1].reshape(-1, 20, 18))
    assert (info.axes, info.pixel_size, note.kind) == ("IYX", None, "guessed")


def restored_plain(path):
    with TiffStack(path) as stack:
        return np.stack(list(stack)), stack.info, stack.notes


def test_a_renamed_file_of_a_set_of_equal_positions_is_taken_for_one_of_them(tmp_path):
    places = list(np.ndindex(1, 3, 2))
    xml = "".join(
        image(n, (1, 3, 2), [(f"pos{n}.ome.tif", page, place) for page, place in enumerate(places)])
        for n in range(2)
    )
    write(tmp_path / "a.ome.tif", random(6), xml)
    _, info, (note,), *_ = restored(tmp_path / "a.ome.tif")
    assert (info.axes, info.pixel_size, note.kind) == ("ZCYX", (0.1, 0.1), "guessed")


def test_a_single_file_that_was_renamed(tmp_path):
    places = [("original.ome.tif", page, place) for page, place in enumerate(np.ndindex(2, 1, 2))]
    write(tmp_path / "a.ome.tif", random(4), image(0, (2, 1, 2), places))
    _, info, (note,), *_ = restored(tmp_path / "a.ome.tif")
    assert (info.axes, note.kind) == ("TCYX", "guessed") and "original.ome.tif" in note.text


@pytest.mark.parametrize("split", [6, 5])
def test_a_series_that_continues_in_another_file(tmp_path, split):
    """Programs begin another file at 4 GB, wherever they are; the time point between two files is in neither."""
    pixels = random(5, 1, 2)
    order = list(np.ndindex(5, 1, 2))
    parts = {"a.ome.tif": order[:split], "b.ome.tif": order[split:]}
    xml = image(
        0, (5, 1, 2), [(name, page, place) for name, part in parts.items() for page, place in enumerate(part)]
    )
    for name, part in parts.items():
        write(tmp_path / name, [pixels[place] for place in part], xml, name)
    whole = {"a.ome.tif": range(split // 2), "b.ome.tif": range(-(-split // 2), 5)}
    for name, times in whole.items():
        planes, info, notes, xml, _ = restored(tmp_path / name)
        np.testing.assert_array_equal(planes, pixels[list(times)].reshape(-1, 20, 18))
        assert (info.axes, info.shape[0]) == ("TCYX", len(times))
        assert [note.kind for note in notes] == ["left_aside"] * (split % 2)
        listed = [element for element in ElementTree.fromstring(xml).iter() if "DeltaT" in element.attrib]
        assert [int(element.get("DeltaT")) for element in listed[::2]] == list(times)
        assert [int(element.get("TheT")) for element in listed[::2]] == list(range(len(times)))


def test_a_channel_per_file_with_a_companion(tmp_path):
    pixels = random(4, 1, 2)
    places = [(f"c{c}.ome.tif", t, (t, 0, c)) for c in range(2) for t in range(4)]
    reference = '<BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:companion"/>'
    for c in range(2):
        write(tmp_path / f"c{c}.ome.tif", pixels[:, 0, c], reference, f"c{c}.ome.tif")
    planes, info, (note,) = restored_plain(tmp_path / "c1.ome.tif")
    np.testing.assert_array_equal(planes, pixels[:, 0, 1])
    assert (info.axes, note.kind) == ("IYX", "guessed") and "set.companion.ome" in note.text
    (tmp_path / "set.companion.ome").write_text(f"{HEAD}>{image(0, (4, 1, 2), places)}</OME>")
    planes, info, notes, xml, _ = restored(tmp_path / "c1.ome.tif")
    np.testing.assert_array_equal(planes, pixels[:, 0, 1])
    assert (info.axes, info.channel_names, info.pixel_size, notes) == ("TYX", ("GFP",), (0.1, 0.1), [])
    assert "BinaryOnly" not in xml
    frames = CachedPlanes(tmp_path / "c0.ome.tif")
    assert (frames.planes, frames.pixel_size) == (4, 0.1)
    np.testing.assert_array_equal(frames.plane(3), pixels[3, 0, 0])


def test_pages_may_be_in_any_order(tmp_path):
    pixels, order = random(2, 3, 1), [(1, 2, 0), (0, 0, 0), (1, 0, 0), (0, 2, 0), (0, 1, 0), (1, 1, 0)]
    places = [("a.ome.tif", page, place) for page, place in enumerate(order)]
    write(tmp_path / "a.ome.tif", [pixels[place] for place in order], image(0, (2, 3, 1), places), "x")
    planes, info, *_ = restored(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(planes, pixels.reshape(-1, 20, 18))
    assert info.axes == "TZYX"


def test_a_set_of_which_planes_are_missing_in_between(tmp_path):
    pixels = random(4, 1, 1)
    places = [("a.ome.tif", page, (t, 0, 0)) for page, t in enumerate((0, 1, 3))]
    write(tmp_path / "a.ome.tif", pixels[[0, 1, 3], 0, 0], image(0, (4, 1, 1), places), "a.ome.tif")
    with pytest.raises(UserError, match="t2_z0_c0"):
        TiffStack(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    "break_xml",
    [
        lambda xml: xml.replace("</Pixels>", ""),
        lambda xml: xml.replace('SizeT="2"', 'SizeT="two"'),
        lambda xml: xml.replace('DimensionOrder="XYCZT"', 'DimensionOrder="XY"'),
        lambda xml: xml.replace('IFD="1"', 'IFD="-1"'),
        lambda xml: xml.replace('SizeX="18"', 'SizeX="17"'),
        lambda xml: xml.replace('PlaneCount="1"', 'PlaneCount="99999999999"').replace(
            'SizeT="2"', 'SizeT="9999999999"'
        ),
    ],
)
def test_xml_that_is_of_no_use_is_said(tmp_path, break_xml):
    pixels = random(2, 1, 1)
    places = [("a.ome.tif", t, (t, 0, 0)) for t in range(2)]
    write(tmp_path / "a.ome.tif", pixels[:, 0, 0], break_xml(image(0, (2, 1, 1), places)))
    planes, info, notes = restored_plain(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(planes, pixels[:, 0, 0])
    assert (info.axes, info.pixel_size, [note.kind for note in notes]) == ("IYX", None, ["guessed"])


def test_a_promise_of_any_size_costs_nothing(tmp_path):
    places = [("a.ome.tif", t, (t, 0, 0)) for t in range(2)]
    xml = (
        image(0, (2, 1, 1), places)
        .replace('SizeT="2"', f'SizeT="{10**12}"')
        .replace('SizeZ="1"', f'SizeZ="{10**9}"')
    )
    write(tmp_path / "a.ome.tif", random(2), xml)
    _, info, (note,), *_ = restored(tmp_path / "a.ome.tif")
    assert (info.axes, info.shape[0], note.count) == ("TYX", 2, 10**21 - 2)
