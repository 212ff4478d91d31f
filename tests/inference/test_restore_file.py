import json

import numpy as np
import pytest
import tifffile

from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings, check_names, result_name, results_of
from ddpm_lightning.inference.sources import find_files
from ddpm_lightning.io.tiff import read_info
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.utils.errors import UserError
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
    record = restore_file(restorer, source, tmp_path / "out", FileSettings(samples=2))
    before, after = read_info(source), read_info(tmp_path / "out" / source.name)
    assert (after.axes, after.shape, after.dtype) == (before.axes, before.shape, before.dtype)
    assert after.pixel_size == before.pixel_size and after.kind == before.kind
    spread = read_info(tmp_path / "out" / result_name(source, "std"))
    assert (
        spread.dtype == np.float32 and spread.shape == before.shape and spread.pixel_size == before.pixel_size
    )
    assert record["planes"] == int(np.prod(shape[:-2])) and json.dumps(record)


def test_files_hold_what_the_restorer_returns(restorer, tmp_path):
    image = noisy((40, 33), "uint16")
    tifffile.imwrite(tmp_path / "cell.tif", image)
    restore_file(restorer, tmp_path / "cell.tif", tmp_path / "out", FileSettings(samples=3))
    expected = restorer.restore(image, 3, "cell")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/cell.tif"), np.rint(expected.mean))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/cell_std.tif"), expected.std)


def test_clipped_pixels_are_counted(restorer, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noisy((40, 33), "uint8"))
    restorer.method.bounds, kept = (4.2, 4.5), restorer.method.bounds  # 260 to 275 of a scale from 0 to 100
    try:
        record = restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", FileSettings(samples=1))
    finally:
        restorer.method.bounds = kept
    assert record["clipped_above"] == 40 * 33 and record["clipped_below"] == 0


def test_channels_are_chosen(restorer, tmp_path):
    image = noisy((3, 40, 33), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, metadata={"axes": "CYX"})
    restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", FileSettings(samples=1, channels=[1]))
    assert read_info(tmp_path / "out/a.tif").shape[-2:] == (40, 33)
    assert read_info(tmp_path / "out/a.tif").plane_count == 1


def test_a_bad_plane_leaves_nothing_and_is_named(restorer, tmp_path):
    stack = noisy((3, 40, 33), "float32")
    stack[1, 5, 5] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(UserError, match=r"a\.tif: 1 NaN or infinite pixel in plane 1"):
        restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", FileSettings(samples=1))
    assert not list((tmp_path / "out").iterdir())


def test_constant_planes_stay_as_they_are_and_are_reported(restorer, tmp_path):
    stack = noisy((3, 40, 33), "uint16")
    stack[1] = 7
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TYX"})
    settings = FileSettings(samples=2, entropy=True, single=True)
    record = restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", settings)
    assert record["blank_planes"] == ["t1"] and record["planes"] == 3
    restored = {
        name: tifffile.imread(tmp_path / "out" / name) for name in results_of(tmp_path / "a.tif", settings)
    }
    assert (restored["a.tif"][1] == 7).all() and (restored["a_sample_02.tif"][1] == 7).all()
    assert not restored["a_std.tif"][1].any() and not restored["a_entropy.tif"][1].any()
    assert restored["a.tif"][0].std() > 0 and restored["a_std.tif"][2].mean() > 0


def test_a_file_of_constant_planes_is_an_error(restorer, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((3, 40, 33), "uint8"), photometric="minisblack")
    with pytest.raises(UserError, match="constant in every plane"):
        restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", FileSettings(samples=1))
    assert not list((tmp_path / "out").iterdir())


def test_maps_and_samples_on_request(restorer, tmp_path):
    image = noisy((40, 33), "uint16")
    tifffile.imwrite(tmp_path / "a.ome.tif", image, ome=True)
    conformal = Conformal(factor=1.7, level=0.9, epsilon=0.01, images=20)
    settings = FileSettings(samples=3, entropy=True, intervals=True, single=True)
    restore_file(restorer, tmp_path / "a.ome.tif", tmp_path / "out", settings, conformal)
    found = {path.name: tifffile.imread(path) for path in (tmp_path / "out").iterdir()}
    assert sorted(found) == sorted(results_of(tmp_path / "a.ome.tif", settings))
    samples = np.stack(list(restorer.samples(image, 3, "a")))
    for number, sample in enumerate(samples):
        np.testing.assert_array_equal(found[f"a_sample_{number + 1:02d}.ome.tif"], np.rint(sample).clip(0))
    half = 1.7 * (samples.std(0) + 0.01 * 50)  # a scale from 0 to 100: 50 intensities for each unit
    np.testing.assert_allclose(found["a_interval_high.ome.tif"], samples.mean(0) + half, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(found["a_interval_low.ome.tif"], samples.mean(0) - half, rtol=1e-3, atol=1e-2)
    # Entropy by counting equal 8-bit values over the range of the training's clean images, 0 to 125.
    values = (samples / 125 * 255).round().clip(0, 255)
    same = (values[:, None] == values[None]).sum(0)
    expected = -np.log(same / 3).mean(0)
    assert np.abs(found["a_entropy.ome.tif"] - expected).mean() < 0.01 and expected.mean() > 0.5


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.tif", "a_std.tif"), ("a.b.tiff", "a.b_std.tiff"), ("a.ome.tif", "a_std.ome.tif")],
)
def test_names_of_the_standard_deviation(tmp_path, name, expected):
    assert result_name(tmp_path / name, "std") == expected


def test_names_that_would_meet_are_refused(tmp_path):
    for name in ("a.tif", "a_std.tif"):
        (tmp_path / name).touch()
    results = {
        source: results_of(source, FileSettings(samples=15)) for source in find_files(tmp_path).sources
    }
    with pytest.raises(UserError, match="folder of the input"):
        check_names(results, tmp_path)
    with pytest.raises(UserError, match=r"both write a_std\.tif"):
        check_names(results, tmp_path / "out")


def test_a_single_sample_has_no_map(restorer, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noisy((40, 33), "uint16"))
    settings = FileSettings(samples=1, std=True).for_model(restorer.trained)
    record = restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", settings)
    assert (
        [path.name for path in (tmp_path / "out").iterdir()]
        == results_of(tmp_path / "a.tif", settings)
        == ["a.tif"]
    )
    assert "no standard deviation" in record["no_std"]
    for requested in ("entropy", "intervals"):
        settings = FileSettings.of({"samples": 1, requested: True})
        with pytest.raises(UserError) as error:
            restore_file(restorer, tmp_path / "a.tif", tmp_path / "other", settings)
        assert error.value.subject == f"{requested}=true" and not (tmp_path / "other").exists()
