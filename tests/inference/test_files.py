import json

import numpy as np
import pytest
import tifffile

from ddpm_lightning.data.tiff import read_info
from ddpm_lightning.errors import UserError
from ddpm_lightning.inference.files import Settings, check_names, find_files, restore_file, std_name
from ddpm_lightning.inference.restorer import Restorer
from tests.trained import write_checkpoint


@pytest.fixture(scope="module")
def restorer(tmp_path_factory):
    return Restorer.load(write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt"), "cpu")


def noisy(shape, dtype):
    return np.random.default_rng(0).poisson(30, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((40, 33), {}),
        ((3, 40, 33), {"imagej": True, "resolution": (50, 50), "metadata": {"axes": "TYX", "unit": "um"}}),
        (
            (2, 2, 40, 33),
            {"ome": True, "metadata": {"axes": "CZYX", "PhysicalSizeX": 0.02, "PhysicalSizeY": 0.02}},
        ),
    ],
    ids=["plain", "imagej", "ome"],
)
def test_type_axes_size_and_sampling_come_out_as_they_went_in(restorer, tmp_path, shape, options, dtype):
    source = tmp_path / ("a.ome.tif" if options.get("ome") else "a.tif")
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(source, noisy(shape, dtype), **options)
    record = restore_file(restorer, source, tmp_path / "out", Settings(draws=2))
    before, after = read_info(source), read_info(tmp_path / "out" / source.name)
    assert (after.axes, after.shape, after.dtype) == (before.axes, before.shape, before.dtype)
    assert after.pixel_size == before.pixel_size and after.kind == before.kind
    spread = read_info(tmp_path / "out" / std_name(source))
    assert (
        spread.dtype == np.float32 and spread.shape == before.shape and spread.pixel_size == before.pixel_size
    )
    assert record["planes"] == int(np.prod(shape[:-2])) and json.dumps(record)


def test_files_hold_what_the_restorer_returns(restorer, tmp_path):
    image = noisy((40, 33), "uint16")
    tifffile.imwrite(tmp_path / "cell.tif", image)
    restore_file(restorer, tmp_path / "cell.tif", tmp_path / "out", Settings(draws=3))
    expected = restorer.restore(image, 3, "cell")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/cell.tif"), np.rint(expected.mean))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/cell_std.tif"), expected.std)


def test_clipped_pixels_are_counted(restorer, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noisy((40, 33), "uint8"))
    restorer.method.bounds, kept = (4.2, 4.5), restorer.method.bounds  # 260 to 275 of a scale from 0 to 100
    try:
        record = restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", Settings(draws=1))
    finally:
        restorer.method.bounds = kept
    assert record["clipped_above"] == 40 * 33 and record["clipped_below"] == 0


def test_channels_are_chosen(restorer, tmp_path):
    image = noisy((3, 40, 33), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, metadata={"axes": "CYX"})
    restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", Settings(draws=1, channels=[1]))
    assert read_info(tmp_path / "out/a.tif").shape[-2:] == (40, 33)
    assert read_info(tmp_path / "out/a.tif").plane_count == 1


def test_a_bad_plane_leaves_nothing_and_is_named(restorer, tmp_path):
    stack = noisy((3, 40, 33), "uint16")
    stack[1] = 7
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(UserError, match=r"a\.tif \(t1\): is constant"):
        restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", Settings(draws=1))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.tif", "a_std.tif"), ("a.b.tiff", "a.b_std.tiff"), ("a.ome.tif", "a_std.ome.tif")],
)
def test_names_of_the_spread(tmp_path, name, expected):
    assert std_name(tmp_path / name) == expected


def test_names_that_would_meet_are_refused(tmp_path):
    for name in ("a.tif", "a_std.tif"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="folder of the input"):
        check_names(find_files(tmp_path), tmp_path)
    with pytest.raises(UserError, match=r"both write a_std\.tif"):
        check_names(find_files(tmp_path), tmp_path / "out")


def test_inputs_are_found(tmp_path):
    for name in ("b.TIF", "a.tiff", "note.txt", ".hidden.tif"):
        (tmp_path / name).touch()
    assert [path.name for path in find_files(tmp_path)] == ["a.tiff", "b.TIF"]
    with pytest.raises(UserError, match="no such file or folder"):
        find_files(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no TIFF files"):
        find_files(tmp_path / "empty")
