"""Folders of pairs as people have them: endings of all kinds, repeats of one clean image, other files among them."""

import shutil

import numpy as np
import pytest
import tifffile

from ddpm_lightning.data.normalise import PairNormalisation, Percentile
from ddpm_lightning.datasets.audit import audit
from ddpm_lightning.datasets.folder import FolderData, FolderPairs
from ddpm_lightning.utils.errors import UserError


def scene(seed, count=1):
    """Returns noisy images with shape (count, 64, 64) of a scene, and the scene."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    clean = 100 + sum(
        800 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 40) for cy, cx in rng.uniform(5, 59, (6, 2))
    )
    return rng.poisson(clean, (count, 64, 64)).astype(np.uint16), clean.astype(np.float32)


def put(folder, name, image, **options):
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / name, image, photometric="minisblack", **options)


def repeats(root, count=5, target=lambda low, clean: clean, fields=3):
    for split, start in (("train", 0), ("val", 10), ("test", 20)):
        for number in range(start, start + fields):
            low, clean = scene(number, count)
            put(root / split / "low", f"f{number}.tif", low, imagej=True, metadata={"axes": "TYX"})
            put(root / split / "high", f"f{number}.tif", target(low, clean))
    return root


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("f0.ome.tif", "f0.tif"),
        ("f0.btf", "f0.btf"),
        ("f0.TIF", "f0.tiff"),
        ("f0.tf8", "f0.ome.tif"),
        ("f0.v1.tif", "f0.v1.ome.tiff"),
    ],
)
def test_partners_have_equal_names_whatever_their_endings(tmp_path, low, high):
    image, clean = scene(0)
    put(tmp_path / "low", low, image[0], bigtiff=low.endswith(("btf", "tf8")), ome=".ome." in low)
    put(tmp_path / "high", high, clean, bigtiff=high.endswith("btf"), ome=".ome." in high)
    (pair,) = FolderPairs(tmp_path, "train", assignment={"train": 1})
    assert (
        pair.name
        == pair.field
        == low[: low.lower().index(".ome" if ".ome" in low else ".t" if "btf" not in low else ".b")]
    )
    np.testing.assert_array_equal(pair.low, image[0])
    np.testing.assert_array_equal(pair.high, clean)


def test_tables_name_files_with_endings_or_without(tmp_path):
    for name in ("a", "b", "c.1"):
        put(tmp_path / "low", f"{name}.ome.tif", scene(0)[0][0], ome=True)
    (tmp_path / "fields.csv").write_text("name,field\na.ome.tif,1\nb,2\nc.1,3\n")
    assert FolderPairs(tmp_path, "train", assignment={"train": 1}).fields == {"a": "1", "b": "2", "c.1": "3"}


@pytest.mark.parametrize("suffix", [".zarr", ".ome.zarr", ".zarr.zip"])
def test_zarr_is_read_as_it_is_restored(tmp_path, suffix):
    zarr = pytest.importorskip("zarr", reason="needs the extra zarr: pip install 'ddpm-lightning[zarr]'")
    image, clean = scene(0, 2)
    for role, pixels in (("low", image[:, None]), ("high", clean)):
        group = zarr.open_group(str(tmp_path / role / "made"), mode="w", zarr_format=2)
        group.create_array("0", data=pixels)
        axes = [
            {"name": axis, "type": {"t": "time", "c": "channel"}.get(axis, "space")}
            for axis in "tcyx"[-pixels.ndim :]
        ]
        group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
        if suffix.endswith("zip"):
            shutil.make_archive(str(tmp_path / role / "f0.zarr"), "zip", tmp_path / role / "made")
            shutil.rmtree(tmp_path / role / "made")
        else:
            (tmp_path / role / "made").rename(tmp_path / role / f"f0{suffix}")
    pairs = FolderPairs(tmp_path, "train", assignment={"train": 1})
    assert [pair.name for pair in pairs] == ["f0_t0", "f0_t1"]
    for _ in range(2):  # the first reading checks, the second need not
        np.testing.assert_array_equal(np.stack([pair.low for pair in pairs]), image)
    np.testing.assert_array_equal(pairs[1].high, clean)


def test_each_repeat_is_a_partner_of_the_one_clean_image(tmp_path):
    root = repeats(tmp_path)
    pairs = FolderPairs(root, "train")
    assert len(pairs) == 15 and [pair.name for pair in pairs][:6] == [
        *(f"f0_t{t}" for t in range(5)),
        "f1_t0",
    ]
    assert [pair.field for pair in pairs] == [name for name in ("f0", "f1", "f2") for _ in range(5)]
    for number, pair in enumerate(pairs):
        low, clean = scene(number // 5, 5)
        np.testing.assert_array_equal(pair.low, low[number % 5])
        np.testing.assert_array_equal(pair.high, clean)
    assert any("3 noisy series (TYX) with one clean image each" in text for text in pairs.notes())
    result = audit({split: FolderPairs(root, split) for split in ("train", "val", "test")})
    assert not result.errors and not result.warnings
    assert (result.splits["test"].pairs, result.splits["test"].fields) == (15, 3)


def test_repeats_of_a_field_stay_in_one_split(tmp_path):
    repeats(tmp_path / "all", fields=2)
    for role in ("low", "high"):
        (tmp_path / role).mkdir()
        for path in (tmp_path / "all").glob(f"*/{role}/*"):
            path.rename(tmp_path / role / path.name)
    shares = {"train": 1, "val": 1, "test": 1}
    fields = [{pair.field for pair in FolderPairs(tmp_path, split, assignment=shares)} for split in shares]
    assert [len(each) for each in fields] == [2, 2, 2] and len(set.union(*fields)) == 6


def test_repeats_of_a_z_stack_and_series_of_pairs(tmp_path):
    low, _ = scene(0, 6)
    high, _ = scene(1, 2)
    options = {"imagej": True, "metadata": {"axes": "TZYX"}}
    put(tmp_path / "low", "a.tif", low.reshape(3, 2, 64, 64), **options)
    put(tmp_path / "high", "a.tif", high.reshape(1, 2, 64, 64), **options)
    put(tmp_path / "low", "b.tif", low[:2])
    put(tmp_path / "high", "b.tif", high)
    pairs = list(FolderPairs(tmp_path, "train", assignment={"train": 1}))
    for number, pair in enumerate(pairs):
        np.testing.assert_array_equal(pair.high, high[number % 2])
        np.testing.assert_array_equal(pair.low, low[number % 6])
    assert len(pairs) == 8


@pytest.mark.parametrize(("low", "high"), [(1, 3), (3, 2), (2, 4), (4, 2)])
def test_series_that_do_not_fit_are_refused(tmp_path, low, high):
    put(tmp_path / "low", "a.tif", scene(0, low)[0])
    put(tmp_path / "high", "a.tif", scene(0, high)[0])
    with pytest.raises(UserError, match="partner"):
        FolderPairs(tmp_path, "train", assignment={"train": 1})[0]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (lambda low, clean: low.mean(0, dtype=np.float32), True),
        (lambda low, clean: np.rint(low.mean(0)).astype(np.uint16), True),
        (lambda low, clean: (low.mean(0) / 4 - 20).astype(np.float32), True),
        (lambda low, clean: clean, False),
        (lambda low, clean: np.random.default_rng(5).poisson(clean, (5, 64, 64)).mean(0).astype("f4"), False),
    ],
    ids=["mean", "rounded", "scaled", "truth", "mean of others"],
)
def test_a_clean_image_that_is_the_mean_of_its_repeats_is_reported(tmp_path, target, found):
    result = audit({"train": FolderPairs(repeats(tmp_path, target=target), "train")})
    told = [text for text in result.warnings if "mean of its own noisy repeats in 3 of 3" in text]
    assert len(told) == found and len(result.warnings) == found


def test_what_is_not_used_is_reported(tmp_path):
    root = repeats(tmp_path, fields=2)
    for name in ("f0.png", "f1.PNG", ".hidden.png", "notes.txt"):
        (root / "train" / "low" / name).touch()
    (root / "train" / "high" / "raw.czi").touch()
    put(root / "train" / "high" / "old", "x.tif", scene(0)[0])
    thumbnail, image = scene(0)[0][0][::4, ::4], scene(0, 1)[0][0]
    for role in ("low", "high"):
        with tifffile.TiffWriter(root / "train" / role / "z.tif") as file:
            file.write(image)
            file.write(thumbnail)
    data = FolderData(root, normalisation=PairNormalisation(Percentile(), Percentile()), crop=32)
    assert data.notes("train") == []
    for pair in data.source("train"):
        assert pair.low.shape == (64, 64)
    texts = data.notes("train")
    for words in ("2 .png files", "1 .czi file", "1 folder with images"):
        assert any(words in text for text in texts)
    assert sum("low/z.tif and 1 more: " in text for text in texts) == 1


def test_a_folder_of_png_files_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "a.png").touch()
    with pytest.raises(UserError, match=r"\.png[\s\S]*TIFF"):
        FolderPairs(tmp_path, "train", assignment={"train": 1})


def test_folders_of_positions_with_equal_names(tmp_path):
    for place in ("Pos0", "Pos1"):
        image, clean = scene(int(place[-1]))
        put(tmp_path / "low" / place, "img.ome.tif", image[0], ome=True)
        put(tmp_path / "high" / place, "img.tif", clean)
    pairs = FolderPairs(tmp_path, "train", assignment={"train": 1})
    assert [(pair.name, pair.field) for pair in pairs] == [("Pos0_img", "Pos0_img"), ("Pos1_img", "Pos1_img")]
    np.testing.assert_array_equal(pairs[1].high, scene(1)[1])
    put(tmp_path / "low", "Pos0_img.tif", scene(3)[0][0])
    with pytest.raises(
        UserError, match="no partner"
    ):  # images in the folder itself: those below are left aside
        FolderPairs(tmp_path, "train", assignment={"train": 1})
