"""Pairs are found in the folders that the sets are published in, and nowhere else; nothing is guessed."""

import shutil

import imagecodecs
import numpy as np
import pytest
import tifffile

from ddpm_lightning.datasets.microtubules import Microtubules
from ddpm_lightning.datasets.mitochondria import Mitochondria
from ddpm_lightning.datasets.preparation.images import check_pair, encode, read_planes, saturation
from ddpm_lightning.datasets.preparation.layouts import check_pattern, field_of, find_pairs
from ddpm_lightning.datasets.synapses import Synapses
from ddpm_lightning.datasets.zebrafish import Zebrafish
from ddpm_lightning.io.tiff import read_image, read_info
from ddpm_lightning.utils.errors import UserError
from tests.datasets.miniatures import (
    blobs,
    png,
    tif,
    write_microtubules,
    write_mitochondria,
    write_release,
    write_synapses,
    write_zebrafish,
)


def found(data, folder, pattern=None):
    return find_pairs(folder, data.card.layouts, pattern)


def test_microtubules_as_published(tmp_path):
    write_microtubules(tmp_path, 64)
    pairs = found(Microtubules, tmp_path)
    assert [pair.split for pair in pairs] == [None] * 2 + ["train"] * 4
    assert all(pair.low.name == pair.high.name and not pair.registered for pair in pairs)
    assert pairs[0].low.parent.name == "low_intensity_image_patches" and pairs[0].field == "test_data/4"


def test_mitochondria_as_published(tmp_path):
    folder = write_mitochondria(tmp_path, 64)
    for place in (tmp_path, folder):  # the folder of the archive, or what is in it
        pairs = found(Mitochondria, place)
        assert len({pair.field for pair in pairs}) == 7 and {pair.split for pair in pairs} == {None}
    assert pairs[4].field == "test_and_training_data_2/cell_04"


def test_synapses_as_volumes(tmp_path):
    write_synapses(tmp_path, 64)
    pairs = found(Synapses, tmp_path)
    assert [pair.field for pair in pairs] == [f"XTC/volume_{number}" for number in range(4)]
    assert read_planes(pairs[0].low).shape == (3, 64, 64)


def test_zebrafish_as_published(tmp_path):
    folder = write_zebrafish(tmp_path, 64)
    (folder / "raw" / "1" / ".DS_Store").touch()
    (folder / "avg2" / "1").mkdir(parents=True)
    pairs = found(Zebrafish, tmp_path)
    assert len(pairs) == 40
    # 2 comes before 10; each capture has the mean of its own field.
    assert list(dict.fromkeys(pair.field for pair in pairs)) == [str(number) for number in range(1, 21)]
    assert all(pair.high == folder / "gt" / pair.field / "avg50.png" for pair in pairs)
    assert found(Zebrafish, folder) == pairs


def test_zebrafish_among_the_other_samples_of_fmd(tmp_path):
    expected = write_zebrafish(tmp_path, 64, fields=2)
    shutil.copytree(expected, tmp_path / "Confocal_MICE")
    assert {pair.low.parents[2] for pair in found(Zebrafish, tmp_path)} == {expected}


@pytest.mark.parametrize("data", [Microtubules, Synapses])
def test_the_layout_of_the_paper_s_code_is_registered_and_split_already(data, tmp_path):
    write_release(tmp_path)
    pairs = found(data, tmp_path)
    assert [pair.split for pair in pairs] == ["test"] * 2 + ["train"] * 3 + ["val"]
    assert all(pair.registered for pair in pairs)


def test_a_pattern_gives_the_fields_of_view(tmp_path):
    for number in range(4):
        for role in ("low_intensity_images", "ground_truth_images"):
            tif(tmp_path / "set" / role / f"fov{number // 2}_frame{number}.tif", blobs(number, (64, 64))[0])
    pairs = found(Mitochondria, tmp_path, r"fov(\d+)")
    assert [pair.field for pair in pairs] == ["set/0", "set/0", "set/1", "set/1"]
    for pattern, words in (("(nucleus)", "does not match"), ("fov", "has no group"), ("(", "cannot be used")):
        with pytest.raises(UserError, match=words):
            found(Mitochondria, tmp_path, pattern)


def lose_partner(folder):
    path = folder / "test_and_training_data_1" / "ground_truth_images" / "cell_01.tif"
    path.unlink()
    return ["low_intensity_images/cell_01.tif", "no partner", "ground_truth_images"]


def add_partner(folder):
    place = folder / "test_and_training_data_1" / "ground_truth_images"
    png(place / "cell_01.png", blobs(0, (64, 64))[1])
    return ["cell_01.tif", "cell_01.png", "two candidates", "keep one"]


def lose_everything(folder):
    for path in folder.iterdir():
        path.rename(path.with_name(path.name + "_old"))
        shutil.rmtree(folder / (path.name + "_old") / "ground_truth_images")
    return ["no pairs in a known layout", "test_and_training_data_1_old", "low_intensity_images/NAME beside"]


@pytest.mark.parametrize("spoil", [lose_partner, add_partner, lose_everything])
def test_what_does_not_pair_is_named(spoil, tmp_path):
    folder = write_mitochondria(tmp_path, 64)
    words = spoil(folder)
    with pytest.raises(UserError) as caught:
        found(Mitochondria, tmp_path)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("means", [0, 2])
def test_each_field_of_captures_needs_one_mean(means, tmp_path):
    folder = write_zebrafish(tmp_path, 64, fields=3)
    mean = folder / "gt" / "2" / "avg50.png"
    shutil.copy(mean, mean.with_name("avg16.png")) if means else mean.unlink()
    with pytest.raises(UserError, match=f"raw/2: needs one clean image[\\s\\S]*there are {means}"):
        found(Zebrafish, tmp_path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_keeps_its_depth(dtype, tmp_path):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (20, 30)).astype(dtype)
    png(tmp_path / "a.png", image)
    planes = read_planes(tmp_path / "a.png")
    assert planes.dtype == dtype
    np.testing.assert_array_equal(planes[0], image)
    png(tmp_path / "grey.png", np.stack([image] * 3, axis=-1))
    np.testing.assert_array_equal(read_planes(tmp_path / "grey.png")[0], image)


@pytest.mark.parametrize("pixel_size", [0.025, None])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int32"])
def test_written_files_keep_values_and_pixel_size_and_are_the_same_each_time(pixel_size, dtype, tmp_path):
    image = np.random.default_rng(0).integers(0, 200, (20, 30)).astype(dtype)
    content = encode(image, pixel_size)
    assert content == encode(image, pixel_size)
    (tmp_path / "a.tif").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), image)
    recorded = read_info(tmp_path / "a.tif").pixel_size
    if pixel_size and dtype != "int32":
        assert recorded == pytest.approx((pixel_size, pixel_size), rel=1e-6)
    else:
        assert recorded is None


def test_images_that_cannot_be_a_pair_are_named(tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 99, (1, 16, 16)).astype(np.uint8)
    white = np.where(rng.random((1, 16, 16)) < 0.4, 255, grey).astype(np.uint8)
    paths = tmp_path / "low.png", tmp_path / "high.png"
    check_pair(grey, white, *paths, most=0.5)
    assert saturation(white) == pytest.approx((white == 255).mean()) and saturation(grey) == 0
    assert saturation(np.where(white == 255, 4095, grey).astype(np.uint16)) == saturation(white)
    for high, words in (
        (white, "high.png: is saturated"),
        (np.full_like(grey, 7), "high.png: is constant: every pixel is 7"),
        (
            grey[:, :, :12],
            "low.png: has 1 plane of 16 x 16 pixels, its partner high.png has 1 plane of 16 x 12",
        ),
    ):
        with pytest.raises(UserError, match=words):
            check_pair(grey, high, *paths, most=0.25)


def test_colour_damage_and_channels_are_named(tmp_path):
    rng = np.random.default_rng(0)
    png(tmp_path / "colour.png", rng.integers(0, 255, (16, 16, 3)).astype(np.uint8))
    png(tmp_path / "alpha.png", rng.integers(0, 255, (16, 16, 4)).astype(np.uint8))
    (tmp_path / "cut.png").write_bytes(
        imagecodecs.png_encode(rng.integers(0, 255, (64, 64)).astype(np.uint8))[:900]
    )
    tif(tmp_path / "cut.tif", rng.integers(0, 255, (64, 64)).astype(np.uint8))
    (tmp_path / "cut.tif").write_bytes((tmp_path / "cut.tif").read_bytes()[:900])
    tifffile.imwrite(
        tmp_path / "channels.tif", np.zeros((2, 16, 16), np.uint8), imagej=True, metadata={"axes": "CYX"}
    )
    for name, words in (
        ("colour.png", "colour image"),
        ("alpha.png", "colour image \\(4 channels\\)"),
        ("cut.png", "cannot be read as PNG"),
        ("cut.tif", "truncated"),
        ("channels.tif", "several channels"),
    ):
        with pytest.raises(UserError, match=f"{name}: .*{words}"):
            read_planes(tmp_path / name)


def test_a_pattern_that_takes_years_is_refused_in_time(tmp_path):
    name = ",".join(map(str, range(1, 29)))
    with pytest.raises(UserError, match="takes more than"):
        field_of(name, r"(.*?,){25}P(x)", tmp_path / f"{name}.tif")
    with pytest.raises(UserError, match="characters"):
        check_pattern("(a)" * 1000, "field_pattern")
    assert field_of("fov12_a", r"fov(\d+)", tmp_path / "fov12_a.tif") == "12"
