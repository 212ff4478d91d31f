"""The whole way from a server to pairs on disk, for each published layout in miniature, and what may be wrong."""

import json
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from ddpm_lightning.datasets.folder import FolderPairs
from ddpm_lightning.datasets.microtubules import Microtubules
from ddpm_lightning.datasets.mitochondria import Mitochondria
from ddpm_lightning.datasets.preparation import build, files
from ddpm_lightning.datasets.preparation.build import cut, windows
from ddpm_lightning.datasets.preparation.images import read_planes
from ddpm_lightning.datasets.synapses import Synapses
from ddpm_lightning.datasets.zebrafish import Zebrafish
from ddpm_lightning.io.tiff import read_image
from ddpm_lightning.utils.atomic import sha256
from ddpm_lightning.utils.errors import UserError
from tests.datasets.miniatures import (
    MICROTUBULES,
    NORMALISATION,
    PLANTED,
    Server,
    blobs,
    displaced,
    png,
    preparation,
    tif,
    tree,
    write_microtubules,
    write_mitochondria,
    write_release,
    write_synapses,
    write_zebrafish,
    zipped,
)


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "published")
    yield server
    server.shutdown()
    server.server_close()


def prepared(data_class, root, settings=None, **arguments):
    data = data_class(root, preparation(**settings or {}), normalisation=NORMALISATION, **arguments)
    return data, data.prepare()


def published(data_class, folder, server):
    """Puts a folder on the server, under the true name of its archive."""
    zipped(folder, server.folder / data_class.card.remote.name)
    return {"mirrors": [server.url]}


def pairs_of(data):
    return {split: data.source(split) for split in ("train", "val", "test")}


def test_microtubules_from_the_server_to_registered_pairs(tmp_path, server):
    where = published(Microtubules, write_microtubules(tmp_path), server)
    settings = {"register": True, "size": 256, "split": {"val": 89, "test": 265}}
    data, manifest = prepared(Microtubules, tmp_path / "set", settings, **where)
    assert manifest["counts"] == {"train": 4, "val": 1, "test": 1}
    assert manifest["differences"][0] == "train: 4 pairs, published are 1272 (-1268)"
    assert manifest["source"]["name"] == f"{MICROTUBULES}.rar" and not manifest["left_out"]
    for record in manifest["pairs"]:
        planted = PLANTED[int(record["low"].split("/")[-1].removesuffix(".png")) % 3]
        motion = record["motion"]
        assert motion["applied"]
        assert abs(motion["down"] - planted.down) < 0.1 and abs(motion["right"] - planted.right) < 0.1
        assert abs(motion["angle"] - planted.angle) < 0.1
        low, high = (
            read_image(tmp_path / "set" / record["split"] / r / f"{record['name']}.tif")
            for r in ("low", "high")
        )
        # The padding of the moved image is on both.
        border = ~high.any(axis=1)
        assert border.any() and not low[border].any()
        assert high.dtype == low.dtype == np.uint8
    pair = data.source("train")[0]
    assert pair.pixel_size == 0.025 and pair.field == "training_data/0"


def test_mitochondria_give_nine_overlapping_crops_of_16_bits(tmp_path, server):
    folder = write_mitochondria(tmp_path)
    settings = {"crops_per_side": 3, "split": {"train": 294, "val": 17, "test": 34}}
    data, manifest = prepared(
        Mitochondria, tmp_path / "set", settings, **published(Mitochondria, folder, server)
    )
    assert manifest["counts"] == {"train": 45, "val": 9, "test": 9}
    fields = {split: {pair.field for pair in source} for split, source in pairs_of(data).items()}
    assert [len(fields[split]) for split in ("train", "val", "test")] == [5, 1, 1]
    assert not fields["train"] & fields["test"] and not fields["train"] & fields["val"]
    record = manifest["pairs"][4]
    top, left, height, width = record["crop"]
    assert (top, left, height, width) == (43, 43, 64, 64)
    source = read_planes(tmp_path / record["low"])[0]
    written = read_image(tmp_path / "set" / "train" / "low" / f"{record['name']}.tif")
    assert written.dtype == np.uint16
    np.testing.assert_array_equal(written, source[top : top + height, left : left + width])


def test_synapses_are_moved_by_one_motion_for_each_volume(tmp_path):
    settings = {"register": True, "split": {"train": 21, "val": 1, "test": 2}}
    folder = write_synapses(tmp_path)
    _, manifest = prepared(Synapses, tmp_path / "set", settings, archive=folder)
    assert sum(manifest["counts"].values()) == 4 * 3 * 4
    for record in manifest["pairs"]:
        assert record["motion"]["down"] == pytest.approx(1.6, abs=0.1)
        assert record["motion"]["right"] == pytest.approx(-2.2, abs=0.1)
    by_volume = {json.dumps([record["field"], record["motion"]]) for record in manifest["pairs"]}
    assert len(by_volume) == 4


def test_zebrafish_split_by_the_fields_of_the_benchmark(tmp_path, server):
    where = published(Zebrafish, write_zebrafish(tmp_path), server)
    data, manifest = prepared(
        Zebrafish, tmp_path / "set", {"split": {"val": ["20"], "test": ["19"]}}, **where
    )
    assert manifest["counts"] == {"train": 18 * 2 * 4, "val": 8, "test": 8}
    sources = pairs_of(data)
    assert {pair.field for pair in sources["test"]} == {"19"} and {pair.field for pair in sources["val"]} == {
        "20"
    }
    assert len({record["sha256"]["high"] for record in manifest["pairs"] if record["split"] == "test"}) == 4
    for record in manifest["pairs"]:
        for role in ("low", "high"):
            path = tmp_path / "set" / record["split"] / role / f"{record['name']}.tif"
            assert sha256(path) == record["sha256"][role]


def test_the_layout_of_the_paper_s_code_is_taken_as_it_is(tmp_path):
    folder = write_release(tmp_path)
    _, manifest = prepared(Microtubules, tmp_path / "set", {"register": True}, archive=folder)
    assert manifest["counts"] == {"train": 3, "val": 1, "test": 2}
    assert all(record["motion"] is None for record in manifest["pairs"])


def test_archives_inside_of_archives_are_unpacked(tmp_path):
    inner = zipped(write_mitochondria(tmp_path), tmp_path / "record" / "inner.zip")
    outer = zipped(inner.parent, tmp_path / "14215838.zip")
    _, manifest = prepared(Mitochondria, tmp_path / "set", archive=outer)
    assert sum(manifest["counts"].values()) == 7 * 4 and manifest["pairs"][0]["low"].startswith(
        "record/inner.zip-unpacked/"
    )


def test_a_prepared_set_is_left_alone_until_something_changes(tmp_path, monkeypatch):
    folder = write_zebrafish(tmp_path, fields=4)
    settings = {"split": {"val": ["3"], "test": ["4"]}}
    root = tmp_path / "set"
    prepared(Zebrafish, root, settings, archive=folder)
    before = tree(root)
    monkeypatch.setattr("ddpm_lightning.datasets.published.build", lambda *_: pytest.fail("built again"))
    prepared(Zebrafish, root, settings, archive=folder)
    prepared(Zebrafish, root, settings)  # nothing is downloaded for a set that is there
    monkeypatch.undo()
    _, manifest = prepared(Zebrafish, root, {"split": {"val": ["1"], "test": ["4"]}}, archive=folder)
    assert tree(root) != before and manifest["settings"]["split"]["val"] == ["1"]
    png(folder / "raw" / "1" / "HV110_P0500510000.png", blobs(99, (128, 128))[0])
    assert prepared(Zebrafish, root, settings, archive=folder)[1]["source"] != manifest["source"]


def spoil_size(folder):
    png(folder / "raw/1/HV110_P0500510000.png", blobs(0, (128, 120))[0])
    return "has 1 plane of 128 x 120 pixels, its partner avg50.png"


def spoil_colour(folder):
    png(
        folder / "raw/1/HV110_P0500510000.png",
        np.random.default_rng(0).integers(0, 9, (64, 64, 3)).astype(np.uint8),
    )
    return "is a colour image"


def spoil_constant(folder):
    png(folder / "raw/1/HV110_P0500510000.png", np.full((128, 128), 4, np.uint8))
    return "is constant"


def spoil_saturated(folder):
    low, _ = blobs(0, (128, 128))
    png(folder / "raw/1/HV110_P0500510000.png", np.where(low > np.median(low), 255, low).astype(np.uint8))
    return "is saturated"


def spoil_truncated(folder):
    path = folder / "raw/1/HV110_P0500510000.png"
    path.write_bytes(path.read_bytes()[:500])
    return "cannot be read as PNG"


@pytest.mark.parametrize(
    "spoil", [spoil_size, spoil_colour, spoil_constant, spoil_saturated, spoil_truncated]
)
def test_a_bad_pair_is_left_out_and_listed_or_stops_everything(spoil, tmp_path):
    folder = write_zebrafish(tmp_path, fields=4)
    words = spoil(folder)
    settings = preparation(split={"val": ["3"], "test": ["4"]})
    data = Zebrafish(tmp_path / "set", settings, archive=folder, normalisation=NORMALISATION)
    with pytest.raises(UserError, match=words):
        data.prepare(on_error="stop")
    with pytest.raises(UserError, match="is not prepared"):
        data.source("train")
    manifest = data.prepare()
    (left_out,) = manifest["left_out"]
    assert left_out["low"] == "raw/1/HV110_P0500510000.png" and words in left_out["reason"]
    assert (
        manifest["counts"]
        == {"train": 3 * 4, "val": 8, "test": 8}
        == {s: len(p) for s, p in pairs_of(data).items()}
    )
    assert [pair.name for pair in data.source("train")] == [f"{number:05d}" for number in range(12)]


def test_a_shift_too_large_to_trust_leaves_the_pair_out(tmp_path):
    folder = write_synapses(tmp_path)
    path = folder / "GT" / "volume_0.tif"
    tif(path, np.roll(read_planes(path), 30, axis=1))
    settings = {"register": True, "split": {"train": 1, "val": 1, "test": 1}}
    _, manifest = prepared(Synapses, tmp_path / "set", settings, archive=folder)
    assert (
        "cannot be registered" in manifest["left_out"][0]["reason"]
        and "20 px" in manifest["left_out"][0]["reason"]
    )


def test_an_empty_split_stops_before_anything_is_built(tmp_path):
    folder = write_zebrafish(tmp_path, fields=4)
    for split, words in (
        ({"val": ["20"], "test": ["4"]}, r"'20', which does not exist[\s\S]*allowed: 1, 2, 3, 4"),
        ({"test": ["4"]}, "split 'val' without any field"),
        ({"val": 1, "test": 1}, "split 'train' without any field"),
    ):
        with pytest.raises(UserError, match=words):
            prepared(Zebrafish, tmp_path / "set", {"split": split}, archive=folder)
    assert not (tmp_path / "set").exists()


def test_a_split_of_which_nothing_can_be_used_is_an_error(tmp_path):
    folder = write_zebrafish(tmp_path, fields=3)
    for path in (folder / "raw" / "3").iterdir():
        png(path, np.full((128, 128), 4, np.uint8))
    with pytest.raises(UserError, match="nothing is left for its split 'test'[\\s\\S]*is constant"):
        prepared(Zebrafish, tmp_path / "set", {"split": {"val": ["2"], "test": ["3"]}}, archive=folder)


def test_a_full_disk_stops_and_the_next_run_resumes(tmp_path, monkeypatch):
    folder = write_zebrafish(tmp_path, fields=4)
    settings = {"split": {"val": ["3"], "test": ["4"]}}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="no space: the prepared set"):
        prepared(Zebrafish, tmp_path / "set", settings, archive=folder)
    monkeypatch.undo()
    write_file, count = files.write_file, iter(range(10**6))

    def full(path, content):
        with files.disk_errors(path):
            if next(count) == 20:
                raise OSError(28, "No space left on device")
            write_file(path, content)

    monkeypatch.setattr(build, "write_file", full)
    with pytest.raises(UserError, match="the disk is full"):
        prepared(Zebrafish, tmp_path / "set", settings, archive=folder)
    monkeypatch.undo()
    assert prepared(Zebrafish, tmp_path / "set", settings, archive=folder)[1]["counts"]["train"] == 16


def test_sets_that_only_people_can_get_say_where(tmp_path):
    data = Synapses(tmp_path / "set", preparation(), normalisation=NORMALISATION)
    with pytest.raises(UserError, match=r"ask the authors[\s\S]*data\.archive=FILE_OR_FOLDER"):
        data.prepare()
    with pytest.raises(UserError, match=r"data\.archive=.*does not exist"):
        prepared(Zebrafish, tmp_path / "set", archive=tmp_path / "nowhere.tar")


def test_a_manifest_that_is_none_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "manifest.json").write_text('{"format": 99}')
    data = Zebrafish(tmp_path / "set", preparation(), normalisation=NORMALISATION)
    with pytest.raises(UserError, match="has format 99"):
        data.source("train")
    (tmp_path / "set" / "manifest.json").write_text("[")
    with pytest.raises(UserError, match="not the manifest"):
        data.prepare()


@pytest.mark.parametrize(
    ("side", "per_side", "starts"),
    [
        (600, 3, [0, 172, 344]),
        (512, None, [0, 256]),
        (550, None, [0, 294]),
        (256, None, [0]),
        (300, None, [22]),
    ],
)
def test_windows_are_evenly_distributed(side, per_side, starts):
    found = windows((side, side), 256, per_side)
    assert sorted({window[0] for window in found}) == sorted({window[1] for window in found}) == starts
    assert len(found) == len(starts) ** 2


def test_background_is_left_out_on_request_only():
    low, high = np.zeros((2, 1, 64, 128), np.uint8)
    high[0, 10:40, 10:40] = low[0, 10:40, 10:40] = 200
    crops, _, background = cut(low, high, preparation(least_foreground=0.05))
    assert [crop.window for crop in crops] == [(0, 0, 64, 64)] and background == 1
    crops, _, background = cut(low, high, preparation())
    assert len(crops) == 2 and background == 0
    with pytest.raises(ValueError, match="smaller than the crops of 65"):
        cut(low, high, preparation(size=65))


def test_aligned_pairs_are_not_interpolated():
    low, high = blobs(3, (1, 128, 128))
    crops, registration, _ = cut(low, high, preparation(register=True, size=128))
    assert registration.negligible
    np.testing.assert_array_equal(crops[0].high, high[0])
    moved, registration, _ = cut(
        low, displaced(high[0], PLANTED[2])[None], preparation(register=True, size=128)
    )
    assert not registration.negligible and Counter((moved[0].high == 0).ravel())[True] > 128


def test_fields_and_pixel_size_come_from_the_manifest(tmp_path):
    folder = write_mitochondria(tmp_path)
    prepared(Mitochondria, tmp_path / "set", archive=folder)
    pairs = FolderPairs(tmp_path / "set", "train")
    assert pairs[0].pixel_size == 0.02 and {pair.field.split("/")[0] for pair in pairs} <= {
        "test_and_training_data_1",
        "test_and_training_data_2",
    }
