import shutil

import numpy as np
import pytest
import tifffile
import torch

from ddpm_lightning.data.normalise import PairNormalisation, Percentile
from ddpm_lightning.datasets.folder import FolderData, FolderPairs
from ddpm_lightning.utils.errors import UserError


def module(root, **settings):
    normalisation = PairNormalisation(Percentile(per_image=True, blur=2), Percentile(per_image=True))
    return FolderData(root, normalisation=normalisation, **{"crop": 32, "batch_size": 2, **settings})


def test_pairs_are_found_by_equal_names(pair_folder):
    pairs = FolderPairs(pair_folder, "train")
    assert len(pairs) == 4
    pair = pairs[2]
    assert pair.name == pair.field == "00002"
    np.testing.assert_array_equal(pair.low, tifffile.imread(pair_folder / "train/low/00002.tif"))
    np.testing.assert_array_equal(pair.high, tifffile.imread(pair_folder / "train/high/00002.tif"))
    assert pair.low.dtype == np.uint16


@pytest.mark.parametrize("table", ["fields.csv", "index.csv"])
def test_fields_of_view_come_from_a_table(pair_folder, table):
    key = "name" if table == "fields.csv" else "id"
    (pair_folder / table).write_text(f"split,{key},field\ntrain,00000,a\ntrain,00001,a\ntest,00000,b\n")
    assert [pair.field for pair in (FolderPairs(pair_folder, "train")[k] for k in range(3))] == [
        "a",
        "a",
        "00002",
    ]
    assert FolderPairs(pair_folder, "test")[0].field == "b"


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8-sig", ","), ("utf-8-sig", ";"), ("utf-8", ";")])
def test_tables_are_read_as_spreadsheets_save_them(pair_folder, encoding, mark):
    rows = [("name", "field", "split"), ("00000", "Präparat 1", "train")]
    (pair_folder / "fields.csv").write_text("\r\n".join(map(mark.join, rows)), encoding=encoding, newline="")
    assert FolderPairs(pair_folder, "train")[0].field == "Präparat 1"


def test_a_table_in_another_encoding_is_refused_with_the_way_out(pair_folder):
    (pair_folder / "fields.csv").write_text("name,field\n00000,Präparat", encoding="latin-1")
    with pytest.raises(UserError, match=r"fields\.csv: is not UTF-8: byte 19 is 0xe4[\s\S]*CSV UTF-8"):
        FolderPairs(pair_folder, "train")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("00000,A\n00001,\n", "names no field for 00001"),
        ("00000,A\n00000,B\n", "puts 00000 into two fields, A and B"),
    ],
    ids=["no field", "two fields"],
)
def test_a_table_that_could_let_fields_leak_is_refused(pair_folder, lines, words):
    (pair_folder / "fields.csv").write_text(f"name,field\n{lines}")
    with pytest.raises(UserError, match=words):
        FolderPairs(pair_folder, "train")


def test_the_pixel_size_is_that_of_the_file_or_of_the_configuration(pair_folder):
    for role in ("low", "high"):
        path = pair_folder / "val" / role / "00000.tif"
        tifffile.imwrite(
            path, tifffile.imread(path), imagej=True, resolution=(50, 50), metadata={"unit": "um"}
        )
    assert FolderPairs(pair_folder, "val")[0].pixel_size == pytest.approx(0.02)
    assert FolderPairs(pair_folder, "val")[1].pixel_size is None
    assert FolderPairs(pair_folder, "val", pixel_size=0.1)[0].pixel_size == 0.1


def test_loaders_give_normalised_crops(pair_folder):
    data = module(pair_folder)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert len(batches) == 4 * (64 * 64 // 32**2) // 2
    assert batches[0]["low"].shape == (2, 1, 32, 32) and batches[0]["low"].dtype == torch.float32
    values = torch.cat([batch["high"] for batch in batches])
    assert -1.5 < values.min() < -0.7 and 0.3 < values.max() < 4


def test_validation_crops_are_the_same_each_time_and_all_distributed(pair_folder):
    data = module(pair_folder, validation_crops=7, batch_size=3)
    data.setup("fit")
    first, second = (list(data.val_dataloader()) for _ in range(2))
    assert [name for batch in first for name in batch["name"]] == [name for b in second for name in b["name"]]
    assert sum(len(batch["name"]) for batch in first) == 7


def test_a_loaded_normalisation_is_not_fitted_again(pair_folder):
    fitted = module(pair_folder)
    fitted.prepare_normalisation()
    other = module(pair_folder)
    state = fitted.normalisation.state()
    state["input"]["high"] = 12345.0
    other.load_normalisation(state)
    other.prepare_normalisation()
    assert other.normalisation.input.fitted.high == 12345.0


def spoil_partner(root):
    (root / "train/high/00001.tif").unlink()


def spoil_size(root):
    tifffile.imwrite(root / "train/high/00001.tif", np.arange(60 * 64, dtype=np.uint16).reshape(60, 64))


def spoil_constant(root):
    tifffile.imwrite(root / "train/low/00001.tif", np.full((64, 64), 9, np.uint16))


def spoil_nan(root):
    image = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    image[3, 4] = np.nan
    tifffile.imwrite(root / "train/low/00001.tif", image)


def spoil_truncated(root):
    path = root / "train/low/00001.tif"
    path.write_bytes(path.read_bytes()[:3000])


def spoil_empty(root):
    (root / "train/low/00001.tif").write_bytes(b"")


def spoil_axes(root):
    tifffile.imwrite(
        root / "train/high/00001.tif", np.zeros((3, 64, 64), np.uint16), photometric="minisblack"
    )


def spoil_rgb(root):
    tifffile.imwrite(root / "train/low/00001.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_partner, ["low/00001.tif", "no partner"]),
        (spoil_size, ["low/00001.tif", "64 x 64", "60 x 64"]),
        (spoil_constant, ["low/00001.tif", "constant", "9"]),
        (spoil_nan, ["low/00001.tif", "NaN"]),
        (spoil_truncated, ["low/00001.tif"]),
        (spoil_empty, ["low/00001.tif", "empty"]),
        (spoil_axes, ["low/00001.tif", "3 x 64 x 64", "64 x 64"]),
        (spoil_rgb, ["low/00001.tif"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_pairs_are_named_with_what_was_found(pair_folder, spoil, words):
    spoil(pair_folder)
    with pytest.raises(UserError) as caught:
        FolderPairs(pair_folder, "train")[1]
    for word in words:
        assert word in str(caught.value)


def test_bad_folders_are_named(pair_folder, tmp_path):
    with pytest.raises(UserError, match="not a folder"):
        module(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="no folder train, val, test or low"):
        module(tmp_path / "bare")
    shutil.rmtree(pair_folder / "val" / "low")
    with pytest.raises(UserError, match="low: is not a folder"):
        module(pair_folder).pairs("val")
    with pytest.raises(UserError, match="train, val, test"):
        module(pair_folder).pairs("validation")


def test_two_files_of_one_name_are_refused(pair_folder):
    shutil.copy(pair_folder / "train/low/00001.tif", pair_folder / "train/low/00001.tiff")
    with pytest.raises(UserError, match=r"same name \(00001\)"):
        FolderPairs(pair_folder, "train")


def test_crops_beyond_the_images_are_refused_before_training(pair_folder):
    with pytest.raises(UserError, match=r"00000 of train is only 64 pixels[\s\S]*data\.crop=64"):
        module(pair_folder, crop=128).setup("fit")


def test_appended_pages_are_pairs(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 999, (2, 4, 32, 32)).astype("uint16")
    for part, stack in zip(("low", "high"), pixels, strict=True):
        (tmp_path / "train" / part).mkdir(parents=True)
        for number, page in enumerate(stack):
            path = tmp_path / "train" / part / "movie.tif"
            tifffile.imwrite(path, page, append=number > 0, photometric="minisblack")
    pairs = FolderPairs(tmp_path, "train")
    assert [pair.name for pair in pairs] == [f"movie_i{number}" for number in range(4)]
    np.testing.assert_array_equal([pair.low for pair in pairs], pixels[0])
    np.testing.assert_array_equal([pair.high for pair in pairs], pixels[1])
