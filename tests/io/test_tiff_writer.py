import errno
import resource
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import tifffile

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.tiff import TiffStackWriter, read_image, read_info
from ddpm_lightning.utils.atomic import remove_partials
from ddpm_lightning.utils.errors import UserError
from tests.io.tiffs import GREY, copy, random


def test_the_standard_deviation_is_float_with_the_geometry_of_the_source(tmp_path):
    pixels = random(2, 3, 9, 8, dtype="uint8")
    metadata = {
        "axes": "TCYX",
        "unit": "um",
        "finterval": 2.0,
        "min": 3.0,
        "max": 90.0,
        "Ranges": (0.0, 9.0) * 3,
    }
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        imagej=True,
        resolution=(4, 4),
        compression="lzw",
        predictor=True,
        metadata=metadata,
    )
    copy(
        tmp_path / "a.tif", tmp_path / "a_std.tif", lambda plane: plane.astype("float32") / 8, dtype="float32"
    )
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a_std.tif"), pixels.astype("float32") / 8)
    source, derived = read_info(tmp_path / "a.tif"), read_info(tmp_path / "a_std.tif")
    assert (derived.axes, derived.pixel_size, derived.time_step) == (source.axes, (0.25, 0.25), 2.0)
    with tifffile.TiffFile(tmp_path / "a_std.tif") as tif:
        assert not {"min", "max", "Ranges"} & tif.imagej_metadata.keys()
        assert tif.pages[0].compression == tifffile.COMPRESSION.LZW
        # ImageJ does not know the predictor for floats.
        assert tif.pages[0].predictor == tifffile.PREDICTOR.NONE


def test_planes_that_do_not_fit_are_refused_and_nothing_is_left(tmp_path):
    info = ImageInfo("ZYX", (2, 9, 8), np.dtype("uint16"))
    for planes, message in [
        ([random(9, 8).astype("float32")], "takes .* uint16"),
        ([random(8, 9)], r"takes \(9, 8\)"),
        ([random(9, 8)], "1 of 2 planes"),
        ([random(9, 8)] * 3, "more planes than the 2"),
    ]:
        with pytest.raises(ValueError, match=message), TiffStackWriter(tmp_path / "a.tif", info) as writer:
            for plane in planes:
                writer.write(plane)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("compression", [None, "ZSTD"])
def test_an_interrupted_writer_leaves_the_former_file_alone(tmp_path, interruption, compression):
    info = ImageInfo("ZYX", (2, 9, 8), np.dtype("uint16"), compression=compression)
    (tmp_path / "a.tif").write_text("former")
    with pytest.raises(interruption), TiffStackWriter(tmp_path / "a.tif", info) as writer:
        writer.write(random(9, 8))
        raise interruption
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    assert (tmp_path / "a.tif").read_text() == "former"


def test_what_a_killed_process_left_is_replaced(tmp_path):
    info = ImageInfo("YX", (9, 8), np.dtype("uint16"))
    program = (
        "import os, numpy, pathlib\n"
        "from ddpm_lightning.io.image import ImageInfo\n"
        "from ddpm_lightning.io.tiff import TiffStackWriter\n"
        "info = ImageInfo('ZYX', (2, 512, 512), numpy.dtype('uint16'))\n"
        f"with TiffStackWriter({str(tmp_path / 'a.tif')!r}, info) as writer:\n"
        "    writer.write(numpy.ones((512, 512), 'uint16'))\n"
        "    os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", program])
    assert not (tmp_path / "a.tif").exists() and len(list(tmp_path.iterdir())) == 1
    with TiffStackWriter(tmp_path / "a.tif", info) as writer:
        writer.write(random(9, 8))
    remove_partials([tmp_path])
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), random(9, 8))


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left"), OSError("3096 requested and 0 written")]
)
@pytest.mark.parametrize("method", ["write", "close"])
def test_a_full_disk_is_said_and_nothing_is_left(tmp_path, monkeypatch, failure, method):
    def full(*_, **__):
        raise failure

    info = ImageInfo("ZYX", (2, 9, 8), np.dtype("uint16"))
    with pytest.raises(UserError, match="the disk is full") as caught:
        with TiffStackWriter(tmp_path / "out" / "a.tif", info) as writer:
            writer.write(random(9, 8))
            monkeypatch.setattr(tifffile.TiffWriter, method, full)
            writer.write(random(9, 8))
    assert "a.tif" in str(caught.value) and "MB" in caught.value.remedy
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("compression", [None, "ADOBE_DEFLATE"])
def test_a_file_system_that_takes_no_more(tmp_path, compression):
    info = ImageInfo("ZYX", (4, 512, 512), np.dtype("uint16"), compression=compression)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(UserError), TiffStackWriter(tmp_path / "a.tif", info) as writer:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, former[1]))
            for seed in range(4):
                writer.write(np.random.default_rng(seed).integers(0, 2**16, (512, 512), np.uint16))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    info = ImageInfo("YX", (9, 8), np.dtype("uint16"))
    with (
        pytest.raises(UserError, match="cannot be written"),
        TiffStackWriter(tmp_path / "file" / "a.tif", info),
    ):
        pass
    (tmp_path / "taken.tif").mkdir()
    with (
        pytest.raises(UserError, match="cannot be written"),
        TiffStackWriter(tmp_path / "taken.tif", info) as writer,
    ):
        writer.write(random(9, 8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.tif"]


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"ome": True}, {"imagej": True}])
def test_memory_does_not_grow_with_the_number_of_planes(tmp_path, options):
    def peak(planes):
        source = tmp_path / f"{planes}.tif"
        tifffile.imwrite(source, random(planes, 256, 256), **GREY, **options)
        tracemalloc.start()
        copy(source, tmp_path / "out.tif", lambda plane: plane + np.uint16(1))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(2)
    few, many = peak(4), peak(64)
    plane = 256 * 256 * 2
    assert many < 12 * plane
    assert many - few < 2 * plane
