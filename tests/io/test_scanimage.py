"""ScanImage files come out with their axes and their header."""

import struct

import numpy as np
import pytest
import tifffile

from ddpm_lightning.io.tiff import TiffStack, TiffStackWriter

ROIS = b'{"RoiGroups": {"imagingRoiGroup": null}}'


def recording(path, count, channels=1, slices=1, frames=1, **more):
    """Writes a BigTIFF as ScanImage does: settings before the first page, in Software, and frame data on each page."""
    pixels = np.random.default_rng(0).integers(-50, 400, (count, 20, 18)).astype("int16")
    saved = f"[{';'.join(str(number + 1) for number in range(channels))}]" if channels > 1 else "1"
    settings = {
        "SI.VERSION_MAJOR": "'2021'",
        "SI.hChannels.channelSave": saved,
        "SI.hStackManager.framesPerSlice": frames,
        "SI.hStackManager.numSlices": slices,
    }
    settings |= {f"SI.{key.replace('__', '.')}": value for key, value in more.items()}
    text = "\n".join(f"{key} = {value}" for key, value in settings.items()).encode()
    with path.open("w+b") as file:
        with tifffile.TiffWriter(file, bigtiff=True, byteorder="<", ome=False) as tif:
            file.write(struct.pack("<IIII", 0x07030301, 4, len(text) + 1, len(ROIS)) + text + b"\0" + ROIS)
            for number, page in enumerate(pixels):
                tif.write(
                    page,
                    photometric="minisblack",
                    metadata=None,
                    software=text,
                    description=f"frameNumbers = {number + 1}\nframeTimestamps_sec = {number / 30:.6f}",
                )
    return pixels


def copied(path, channels=None, **options):
    out = path.with_name("copy.tif")
    with TiffStack(path, channels) as stack, TiffStackWriter(out, stack.info, **options) as writer:
        planes = list(stack)
        for plane in planes:
            writer.write(plane.astype(writer.info.dtype))
    return np.stack(planes), stack.info, stack.notes, tifffile.TiffFile(out)


@pytest.mark.parametrize(
    ("settings", "count", "axes", "shape"),
    [
        ({"frames": 5}, 5, "TYX", (5,)),
        ({"frames": 3, "channels": 2}, 6, "TCYX", (3, 2)),
        ({"frames": 2, "channels": 2, "slices": 3}, 12, "ZTCYX", (3, 2, 2)),
        ({"slices": 4}, 4, "ZYX", (4,)),
        ({"frames": "Inf", "channels": 2}, 8, "TCYX", (4, 2)),
        ({"frames": 20, "hScan2D__logAverageFactor": 10}, 2, "TYX", (2,)),
    ],
)
def test_axes_and_header_are_kept(tmp_path, settings, count, axes, shape):
    path = tmp_path / "a.tif"
    pixels = recording(path, count, **settings)
    planes, info, notes, tif = copied(path)
    np.testing.assert_array_equal(planes, pixels)
    assert (info.axes, info.shape, notes) == (axes, (*shape, 20, 18), [])
    with tif, tifffile.TiffFile(path) as source:
        assert tif.is_scanimage and tif.is_bigtiff
        assert tif.scanimage_metadata == source.scanimage_metadata
        assert "RoiGroups" in tif.scanimage_metadata and tif.scanimage_metadata["version"] == 4
        assert (tif.series[0].axes, tif.series[0].shape) == (source.series[0].axes, source.series[0].shape)
        assert [page.description for page in tif.pages] == [page.description for page in source.pages]
        assert tif.pages[0].software == source.pages[0].software
        if "hScan2D__logAverageFactor" not in settings:
            np.testing.assert_array_equal(tif.asarray(), source.asarray())


def test_volumes_are_along_time(tmp_path):
    recording(tmp_path / "a.tif", 12, channels=2, slices=3, hStackManager__numVolumes=2)
    _, info, notes, tif = copied(tmp_path / "a.tif")
    assert (info.axes, info.shape, notes) == ("TZCYX", (2, 3, 2, 20, 18), [])
    tif.close()


@pytest.mark.parametrize(
    ("settings", "count", "axes", "left"),
    [
        ({"frames": 1000}, 7, "TYX", (7,)),
        ({"frames": 10, "channels": 2}, 7, "TCYX", (3, 2)),
        ({"frames": 2, "channels": 2, "slices": 3}, 10, "ZTCYX", (2, 2, 2)),
        ({"channels": 2, "slices": 5}, 6, "ZCYX", (3, 2)),
        ({"slices": 3, "hStackManager__numVolumes": 4}, 8, "TZYX", (2, 3)),
    ],
)
def test_a_recording_that_was_stopped(tmp_path, settings, count, axes, left):
    path = tmp_path / "a.tif"
    pixels = recording(path, count, **settings)
    planes, info, (note,), tif = copied(path)
    np.testing.assert_array_equal(planes, pixels[: np.prod(left)])
    assert (info.axes, info.shape) == (axes, (*left, 20, 18))
    assert note.kind == "left_aside"
    with tif:
        # What reads the header finds as many frames as there are.
        np.testing.assert_array_equal(tif.asarray().reshape(planes.shape), planes)
        stated = tif.scanimage_metadata["FrameData"]
        sizes = dict(zip(axes, left, strict=False))
        key = "numVolumes" if axes.startswith("TZ") else "framesPerSlice"
        assert stated[f"SI.hStackManager.{key}"] == sizes.get("T", 1)
        assert stated["SI.hStackManager.numSlices"] == sizes.get("Z", 1)
        np.testing.assert_array_equal(copied(tmp_path / "copy.tif")[0], planes)


def test_a_chosen_channel_is_the_only_one_in_the_header(tmp_path):
    pixels = recording(tmp_path / "a.tif", 6, channels=2, frames=3)
    planes, info, _, tif = copied(tmp_path / "a.tif", channels=1)
    np.testing.assert_array_equal(planes, pixels[1::2])
    with tif:
        assert tif.scanimage_metadata["FrameData"]["SI.hChannels.channelSave"] == 2
        assert (tif.series[0].axes, tif.series[0].shape) == ("TYX", (3, 20, 18))


def test_a_header_that_does_not_fit_the_pages_is_no_reason_to_lose_any(tmp_path):
    pixels = recording(tmp_path / "a.tif", 10, channels=2, frames=2, slices=2)
    planes, info, (note,), tif = copied(tmp_path / "a.tif")
    np.testing.assert_array_equal(planes, pixels)
    assert (info.axes, info.shape, note.kind) == ("ICYX", (5, 2, 20, 18), "guessed")
    tif.close()


def test_sampling_and_the_map(tmp_path):
    more = {"hStackManager__stackZStepSize": 2.5, "hRoiManager__scanFrameRate": 20}
    recording(tmp_path / "a.tif", 4, slices=4, **more)
    _, info, _, tif = copied(tmp_path / "a.tif", dtype="float32")
    assert (info.z_step, info.time_step) == (2.5, pytest.approx(0.05))
    with tif:
        assert tif.is_scanimage and tif.series[0].dtype == np.float32 and tif.series[0].axes == "ZYX"


def test_the_older_dialect_keeps_the_words_of_each_page(tmp_path):
    pixels, path = np.arange(3 * 20 * 18, dtype="uint16").reshape(3, 20, 18), tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for number, page in enumerate(pixels):
            text = f"Frame Number = {number}\nscanimage.SI4.version = 4.2\nscanimage.SI4.channelsSave = 1"
            tif.write(page, photometric="minisblack", metadata=None, description=text)
    planes, info, notes, tif = copied(path)
    np.testing.assert_array_equal(planes, pixels)
    assert (info.axes, notes) == ("IYX", [])
    with tif, tifffile.TiffFile(path) as source:
        assert tif.is_scanimage
        assert [page.description for page in tif.pages] == [page.description for page in source.pages]
