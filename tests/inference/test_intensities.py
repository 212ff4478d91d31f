"""Grey values of files and arrays: offsets, few levels, stated bits, other types, defective pixels."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint

OFFSETS = [("uint32", 2_000_000_000), ("int32", -2_000_000_000), ("int64", 10**12), ("float64", 1e9)]


@pytest.fixture(scope="module")
def restorer(tmp_path_factory):
    path = write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt", per_image=True)
    return Restorer.load(path, "cpu")


@pytest.fixture
def counts():
    y, x = np.mgrid[:48, :40]
    return np.random.default_rng(0).poisson(100 + 400 * np.exp(-((y - 20) ** 2 + (x - 20) ** 2) / 100))


@pytest.fixture
def restore(restorer, tmp_path):
    """Restores a file that is written from pixels; returns the record and the folder of the results."""

    def restore(name, pixels, settings=None, **written):
        folder = tmp_path / "results"
        tifffile.imwrite(tmp_path / name, pixels, **written)
        return restore_file(restorer, tmp_path / name, folder, settings or FileSettings(samples=2)), folder

    return restore


def kinds(record):
    return {note["kind"]: note["count"] for note in record["notes"]}


@pytest.mark.parametrize(("dtype", "offset"), OFFSETS)
def test_an_offset_of_an_array_changes_nothing_but_the_offset(restorer, counts, dtype, offset):
    plain = restorer.restore(counts, 2, "a", keep_samples=True)
    moved = restorer.restore((counts + offset).astype(dtype), 2, "a", keep_samples=True)
    assert moved.mean.dtype == np.float64 and moved.std.dtype == np.float32
    np.testing.assert_allclose(moved.mean - offset, plain.mean, atol=1e-2)
    np.testing.assert_allclose(moved.samples - offset, plain.samples, atol=1e-2)
    np.testing.assert_allclose(moved.std, plain.std, atol=1e-3)


@pytest.mark.parametrize(("dtype", "offset"), OFFSETS)
def test_an_offset_of_a_file_changes_nothing_but_the_offset(restore, counts, dtype, offset):
    record, folder = restore("b.tif", (counts + offset).astype(dtype))
    restored = tifffile.imread(folder / "b.tif")
    assert restored.dtype == dtype and not record["clipped_below"] + record["clipped_above"]
    plain, _ = restore("a.tif", counts.astype("uint16"))
    assert plain["warnings"] == record["warnings"]
    # The name keys the noise: the same one, beside the first.
    again = restore("b.tif", counts.astype("float32"))[1] / "b.tif"
    np.testing.assert_allclose(restored - np.float64(offset), tifffile.imread(again), atol=0.6)
    assert len(np.unique(restored)) > 50


def test_a_constant_plane_keeps_an_offset(restorer, counts):
    stack = np.stack([counts + 2 * 10**9, np.full(counts.shape, 2 * 10**9 + 1)])
    restored = restorer.restore(stack, 1)
    assert (restored.mean[1] == 2 * 10**9 + 1).all() and restored.blank == ("z1",)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_few_grey_levels_are_warned_of(restore, dtype):
    photons = np.random.default_rng(1).poisson(0.8, (48, 40)).astype(dtype)
    record, folder = restore("photons.tif", photons)
    assert kinds(record)["rounded"] == 1 and any("dtype=float32" in line for line in record["warnings"])
    assert tifffile.imread(folder / "photons.tif").dtype == dtype
    record, folder = restore("photons.tif", photons, FileSettings(samples=2, dtype="float32", single=True))
    restored = tifffile.imread(folder / "photons.tif")
    assert "rounded" not in kinds(record) and restored.dtype == np.float32
    assert record["dtype"] == "float32" and record["source_dtype"] == dtype
    assert len(np.unique(restored)) > 100
    single = [tifffile.imread(folder / f"photons_sample_0{number}.tif") for number in (1, 2)]
    np.testing.assert_allclose(np.mean(single, axis=0), restored, atol=1e-3)


def test_many_grey_levels_are_not_warned_of(restore, counts):
    assert not restore("a.tif", counts.astype("uint16"))[0]["notes"]


@pytest.mark.parametrize(
    ("dtype", "offset", "settings", "remedy"),
    [
        ("uint32", 2 * 10**9, FileSettings(samples=2, dtype="float32"), "dtype=same"),
        ("float64", 1e9, FileSettings(samples=2, dtype="float32"), "dtype=same"),
        ("float32", 1e9, FileSettings(samples=2), "subtract"),
        ("float16", 30000, FileSettings(samples=2), "dtype=float32"),
    ],
)
def test_floats_that_cannot_hold_contrast_and_offset_are_warned_of(
    restore, counts, dtype, offset, settings, remedy
):
    offset = np.array([0, 0, offset], dtype)[:, None, None]  # of a stack, one plane
    values = (counts * 0.4 + offset).astype(dtype)
    grey = {"photometric": "minisblack"}
    record, folder = restore("a.tif", values, settings, **grey)
    assert len(np.unique(tifffile.imread(folder / "a.tif")[2])) <= 17
    assert kinds(record)["rounded"] == 1 and any(remedy in note["text"] for note in record["notes"])
    assert "rounded" not in kinds(restore("a.tif", values.astype("float64"), **grey)[0])


def test_integers_that_float64_cannot_represent_are_refused(restore, restorer, counts):
    for dtype, offset in (("uint64", 2**63), ("int64", -(2**62)), ("uint64", 2**53)):
        pixels = counts.astype(dtype) + np.array(offset, dtype)
        with pytest.raises(UserError, match="integers"):
            restore("a.tif", pixels)
        with pytest.raises(UserError, match="integers"):
            restorer.restore(pixels, 1)
    record, _ = restore("a.tif", counts.astype("uint64") + np.uint64(2**53 - 1000))
    assert not record["clipped_above"]


def test_float_values_become_uint16_as_they_are(restore, counts):
    values = (counts * 300.0 - 60000).astype("float32")
    record, folder = restore("a.tif", values, FileSettings(samples=2, dtype="uint16"))
    restored = tifffile.imread(folder / "a.tif")
    same, folder = restore("a.tif", values)
    exact = tifffile.imread(folder / "a.tif")
    below, above = int((np.rint(exact) < 0).sum()), int((np.rint(exact) > 65535).sum())
    assert restored.dtype == np.uint16 and below and above
    np.testing.assert_array_equal(restored, np.rint(exact).clip(0, 65535))
    assert (record["clipped_below"], record["clipped_above"]) == (below, above)
    assert kinds(record) == {"clipped": below + above} and not same["notes"]


@pytest.mark.parametrize("bits", [8, 12, 14])
@pytest.mark.parametrize("axes", ["YX", "ZYX"])
def test_values_decide_where_they_exceed_the_stated_bits(restore, counts, bits, axes):
    pixels = (counts * 40).astype("uint16")
    if axes == "ZYX":  # only the last plane says so
        pixels = np.stack([(pixels >> 8).astype("uint16"), pixels])
    written = {"ome": True, "metadata": {"axes": axes, "SignificantBits": bits}, "photometric": "minisblack"}
    record, folder = restore("a.ome.tif", pixels, **written)
    restored = tifffile.imread(folder / "a.ome.tif")
    assert restored.max() > 2**14 and kinds(record)["guessed"] == 1 and not record["clipped_above"]
    assert any(f"{bits} significant bits" in line for line in record["warnings"])
    with tifffile.TiffFile(folder / "a.ome.tif") as tif:
        stored = ElementTree.fromstring(tif.ome_metadata).find(".//{*}Pixels")
    assert stored.get("Type") == "uint16" and int(stored.get("SignificantBits", 16)) == 16


def test_stated_bits_that_hold_all_values_are_kept(restore, counts):
    written = {"ome": True, "metadata": {"SignificantBits": 10}, "photometric": "minisblack"}
    record, folder = restore("a.ome.tif", counts.astype("uint16"), **written)
    with tifffile.TiffFile(folder / "a.ome.tif") as tif:
        stored = ElementTree.fromstring(tif.ome_metadata).find(".//{*}Pixels")
    assert stored.get("SignificantBits") == "10" and "guessed" not in kinds(record)
    assert tifffile.imread(folder / "a.ome.tif").max() < 1024


def test_stated_bits_of_an_inverted_image(restore, counts):
    """White is the largest value of the type where the stated one is exceeded, on both ways."""
    inverted = 65535 - (counts * 40).astype("uint16")
    written = {"ome": True, "metadata": {"SignificantBits": 12}, "photometric": "miniswhite"}
    record, folder = restore("a.ome.tif", inverted, **written)
    _, upright = restore("a.tif", (counts * 40).astype("uint16"), photometric="minisblack")
    assert kinds(record)["guessed"] == 1
    np.testing.assert_array_equal(
        65535 - tifffile.imread(folder / "a.ome.tif"), tifffile.imread(upright / "a.tif")
    )


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_another_type_in_the_words_of_ome(restore, counts, dtype):
    metadata = {"axes": "ZYX", "SignificantBits": 8, "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2}
    pixels = np.stack([counts // 3] * 2).astype("uint8")
    _, folder = restore(
        "a.ome.tif",
        pixels,
        FileSettings(samples=1, dtype=dtype),
        ome=True,
        metadata=metadata,
        photometric="minisblack",
    )
    with tifffile.TiffFile(folder / "a.ome.tif") as tif:
        stored = ElementTree.fromstring(tif.ome_metadata).find(".//{*}Pixels")
        assert tif.series[0].axes == "ZYX" and tif.series[0].dtype == dtype
    assert stored.get("Type") == {"float32": "float"}.get(dtype, dtype)
    assert "SignificantBits" not in stored.attrib and stored.get("PhysicalSizeX") == "0.2"


def test_another_type_in_the_words_of_imagej(restore, counts):
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 0.5, "min": 3.0, "max": 90.0}
    pixels = np.stack([counts // 3] * 2).astype("uint8")
    _, folder = restore(
        "a.tif", pixels, FileSettings(samples=1, dtype="float32"), imagej=True, metadata=metadata
    )
    with tifffile.TiffFile(folder / "a.tif") as tif:
        assert tif.is_imagej and tif.series[0].axes == "ZYX" and tif.series[0].dtype == np.float32
        # Values are not rescaled, so that the display range still holds.
        assert (tif.imagej_metadata["min"], tif.imagej_metadata["max"]) == (3.0, 90.0)
        assert tif.imagej_metadata["spacing"] == 0.5


def test_a_float_image_is_written_with_black_as_zero(restore, counts):
    inverted = 255 - (counts // 3).astype("uint8")
    _, folder = restore("a.tif", inverted, FileSettings(samples=2, dtype="float32"), photometric="miniswhite")
    _, upright = restore(
        "a.tif", 255 - inverted, FileSettings(samples=2, dtype="float32"), photometric="minisblack"
    )
    assert tifffile.TiffFile(folder / "a.tif").pages[0].photometric == tifffile.PHOTOMETRIC.MINISBLACK
    np.testing.assert_array_equal(tifffile.imread(folder / "a.tif"), tifffile.imread(upright / "a.tif"))


@pytest.fixture
def hot(counts):
    image = counts.astype("uint16")
    image[[10, 30, 40], [5, 20, 33]] = 60000
    return image


def test_hot_pixels_are_replaced_counted_and_said(restore, restorer, hot):
    record, folder = restore("a.tif", np.stack([hot, hot]))
    assert record["replaced_pixels"] == 6 and kinds(record) == {"replaced": 6}
    assert any("6 hot or dead pixels were replaced" in line for line in record["warnings"])
    assert tifffile.imread(folder / "a.tif").max() < 2000
    restored = restorer.restore(hot, 2)
    assert restored.replaced == 3 and any("3 hot or dead pixels" in line for line in restored.warnings)
    assert restorer.restore(np.stack([hot, hot]), 1).replaced == 6


def test_hot_pixels_change_neither_scale_nor_result_elsewhere(restorer, counts, hot):
    """The network sees what it would see without them, but for the median of eight neighbours."""
    sound = counts.astype("uint16")
    prepared, count = restorer.prepared(hot)
    assert count == 3 and ((prepared != sound) <= (hot != sound)).all()
    scales = [restorer.input_scale(image) for image in (prepared, sound)]
    assert scales[0].low == pytest.approx(scales[1].low, rel=0.01)
    assert scales[0].high == pytest.approx(scales[1].high, rel=0.01)


def test_hot_pixels_are_kept_on_request(restorer, counts, hot):
    keeping = Restorer(restorer.trained, hot_pixels="keep")
    kept = keeping.restore(hot, 1, "a")
    assert kept.replaced == 0 and not any("hot" in line for line in kept.warnings)
    assert not np.array_equal(kept.mean, restorer.restore(hot, 1, "a").mean)
    sound = counts.astype("uint16")
    np.testing.assert_array_equal(keeping.restore(sound, 1, "a").mean, restorer.restore(sound, 1, "a").mean)
    with pytest.raises(UserError, match="hot_pixels"):
        Restorer(restorer.trained, hot_pixels="remove")


@pytest.mark.parametrize("factor", [1e-10, 1e-7, 1e6])
def test_a_restoration_scales_with_its_image(restorer, counts, factor):
    plain = restorer.restore(counts.astype(np.float32), 2, "a")
    small = restorer.restore((counts * factor).astype(np.float32), 2, "a")
    tolerance = 1e-4 * np.ptp(plain.mean)
    np.testing.assert_allclose(small.mean / factor, plain.mean, atol=tolerance)
    np.testing.assert_allclose(small.std / factor, plain.std, atol=tolerance)
    assert small.warnings == plain.warnings


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        (np.eye(32, dtype=bool), "the image itself"),
        ("images/a.tif", "tifffile.imread"),
        (Path("a.tif"), "tifffile.imread"),
        (np.float32(1e-35) * np.eye(32, dtype=np.float32), "multiply it"),
    ],
    ids=["mask", "text", "path", "tiny"],
)
def test_what_is_no_image_is_refused_with_the_way_out(restorer, image, remedy):
    with pytest.raises(UserError) as raised:
        restorer.restore(image)
    assert raised.value.subject == "image" and remedy in raised.value.remedy


def test_settings_from_python_are_those_of_the_command_line(tmp_path, counts):
    path = write_checkpoint(tmp_path / "best.ckpt")
    assert Restorer.load(path, "cpu", preset="stored", samples=3).restore(counts).sample_count == 3
    with pytest.raises(UserError, match="hot_pixels"):
        Restorer.load(path, "cpu", hot_pixel="keep")
    with pytest.raises(UserError, match="samples"):
        Restorer.load(path, "cpu", samples=0)
