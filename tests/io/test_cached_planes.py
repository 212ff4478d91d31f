"""Time series and z stacks as cached_planes, splits by field of view, and planes read straight from the disk."""

import multiprocessing
import pickle

import numpy as np
import pytest
import tifffile

from ddpm_lightning.datasets.folder import FolderData, FolderPairs
from ddpm_lightning.io import cached_planes
from ddpm_lightning.io.cached_planes import CachedPlanes
from ddpm_lightning.io.tiff import TiffStack
from ddpm_lightning.simulation.degradations import LineNoise
from ddpm_lightning.utils.errors import UserError
from tests.conftest import write_pairs
from tests.datasets.miniatures import NORMALISATION, tif

RNG = np.random.default_rng(0)


def is_mapped(array):
    """Whether the pixels lie in a file."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


def write_stacks(root, shape, axes, count=2, **settings):
    for number in range(count):
        for role in ("low", "high"):
            path = root / role / f"cell{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = RNG.integers(0, 1000, shape).astype(np.uint16)
            tifffile.imwrite(path, image, imagej=True, metadata={"axes": axes}, **settings)
    return root


def test_frames_of_a_time_series_of_stacks_are_pairs_of_one_field(tmp_path):
    write_stacks(tmp_path / "train", (3, 2, 20, 24), "TZYX")
    pairs = FolderPairs(tmp_path, "train")
    assert len(pairs) == 12
    assert [pairs[k].name for k in (0, 1, 2, 6)] == [
        "cell0_t0_z0",
        "cell0_t0_z1",
        "cell0_t1_z0",
        "cell1_t0_z0",
    ]
    assert [pairs[k].field for k in (0, 5, 6)] == ["cell0", "cell0", "cell1"]
    for _ in range(2):  # read with all checks, then straight from the disk
        for k, (t, z) in {0: (0, 0), 3: (1, 1), 5: (2, 1)}.items():
            for role in ("low", "high"):
                expected = tifffile.imread(tmp_path / "train" / role / "cell0.tif")[t, z]
                np.testing.assert_array_equal(getattr(pairs[k], role), expected)


def test_stacks_must_have_partners_of_the_same_length(tmp_path):
    write_stacks(tmp_path / "train", (3, 20, 24), "TYX")
    tif(tmp_path / "train" / "high" / "cell1.tif", RNG.integers(0, 9, (2, 20, 24)).astype(np.uint16))
    with pytest.raises(UserError, match="cell1.tif: is 3 x 20 x 24.* is 2 x 20 x 24"):
        FolderPairs(tmp_path, "train")[4]


def test_channels_are_refused(tmp_path):
    write_stacks(tmp_path / "train", (2, 20, 24), "CYX")
    with pytest.raises(UserError, match="several channels"):
        FolderPairs(tmp_path, "train")[0]


def test_a_constant_frame_is_named_by_its_place(tmp_path):
    write_stacks(tmp_path / "train", (3, 20, 24), "TYX")
    path = tmp_path / "train" / "low" / "cell0.tif"
    image = tifffile.imread(path)
    image[1] = 7
    tifffile.imwrite(path, image, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(UserError, match="cell0.tif: plane t1, is constant: every pixel is 7"):
        FolderPairs(tmp_path, "train")[1]


@pytest.mark.parametrize("kind", ["plain", "big_endian", "deflated", "float", "inverted"])
@pytest.mark.parametrize("mapped", [False, True])
def test_later_readings_give_what_the_first_gave(kind, mapped, tmp_path, monkeypatch):
    monkeypatch.setattr(cached_planes, "MAPPED", 1 if mapped else 1 << 40)
    path, image = tmp_path / "a.tif", RNG.integers(0, 5000, (3, 30, 41)).astype(np.uint16)
    options = {
        "big_endian": {"byteorder": ">"},
        "deflated": {"compression": "deflate"},
        "inverted": {"photometric": "miniswhite"},
    }
    tifffile.imwrite(
        path,
        image.astype(np.float32) if kind == "float" else image,
        **{"photometric": "minisblack", **options.get(kind, {})},
    )
    file = CachedPlanes(path)
    with TiffStack(path) as stack:
        expected = list(stack)
    for _ in range(3):
        for number in range(3):
            np.testing.assert_array_equal(file.plane(number), expected[number])
    straight = kind in ("plain", "big_endian", "float")
    assert is_mapped(file.plane(1)) == (mapped and straight)
    assert (file._layout is not None) == straight


def test_few_files_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(cached_planes, "MAPPED", 1)
    monkeypatch.setattr(cached_planes, "OPEN_FILES", CachedPlanes.open_files + 2)
    files = []
    for number in range(4):
        tif(tmp_path / f"{number}.tif", RNG.integers(0, 9, (10, 10)).astype(np.uint8))
        files.append(CachedPlanes(tmp_path / f"{number}.tif"))
    for _ in range(2):
        planes = [file.plane(0) for file in files]
    assert [is_mapped(plane) for plane in planes] == [True, True, False, False]
    before = CachedPlanes.open_files
    del planes
    files.pop(0)
    assert CachedPlanes.open_files == before - 1


def test_another_process_gets_the_name_and_not_the_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(cached_planes, "MAPPED", 1)
    tif(tmp_path / "a.tif", RNG.integers(0, 9, (500, 500)).astype(np.uint8))
    file = CachedPlanes(tmp_path / "a.tif")
    file.plane(0), file.plane(0)
    content = pickle.dumps(file)
    assert len(content) < 20_000
    np.testing.assert_array_equal(pickle.loads(content).plane(0), file.plane(0))


def flat(root, count=10):
    """Pairs without folders of splits: two frames of each of five fields."""
    for number in range(count):
        for role in ("low", "high"):
            tif(
                root / role / f"fov{number // 2}_{number}.tif", RNG.integers(0, 99, (64, 64)).astype(np.uint8)
            )
    return root


def fields(data):
    return {split: {pair.field for pair in data.source(split)} for split in ("train", "val", "test")}


def test_without_folders_of_splits_fields_are_assigned(tmp_path):
    settings = {"field_pattern": r"fov(\d+)", "normalisation": NORMALISATION}
    data = FolderData(flat(tmp_path), split={"train": 3, "val": 1, "test": 1}, **settings)
    found = fields(data)
    assert [len(found[split]) for split in ("train", "val", "test")] == [3, 1, 1]
    assert set.union(*found.values()) == set("01234")
    assert sum(len(data.source(split)) for split in found) == 10
    named = FolderData(tmp_path, split={"val": ["0"], "test": ["3"]}, **settings)
    assert fields(named) == {"train": {"1", "2", "4"}, "val": {"0"}, "test": {"3"}}
    with pytest.raises(UserError, match="does not match the pattern"):
        FolderData(tmp_path, field_pattern="(cell)", normalisation=NORMALISATION).source("train")


def test_a_table_may_tell_fields_and_splits(tmp_path):
    rows = ["name,field,split"]
    rows += [
        f"fov{n // 2}_{n},well{n // 2},{('train', 'train', 'train', 'val', 'test')[n // 2]}"
        for n in range(10)
    ]
    (flat(tmp_path) / "fields.csv").write_text("\n".join(rows))
    data = FolderData(tmp_path, normalisation=NORMALISATION)
    assert fields(data) == {"train": {"well0", "well1", "well2"}, "val": {"well3"}, "test": {"well4"}}
    (tmp_path / "fields.csv").write_text("name,field,split\nfov0_0,a,validation\n")
    with pytest.raises(UserError, match="'validation'"):
        data.source("train")


def test_degradations_of_any_set_are_the_same_each_time(tmp_path):
    root = write_pairs(tmp_path)
    plain = FolderData(root, normalisation=NORMALISATION).source("train")
    chain = {"lines": LineNoise(sigma=20)}
    degraded = FolderData(root, normalisation=NORMALISATION, degradations=chain)
    first, again = degraded.source("train"), degraded.source("train")
    np.testing.assert_array_equal(first[0].low, again[0].low)
    np.testing.assert_array_equal(first[0].high, plain[0].high)
    offsets = (first[0].low.astype(int) - plain[0].low).astype(float)
    assert offsets.std() > 5
    # The noise is of lines, and that of another split is another.
    bright = plain[0].low.min(axis=1) + offsets.min(axis=1) > 0
    assert (offsets[bright].std(axis=1) < 1).all() and bright.any()
    other = degraded.source("val")[0].low.astype(int) - FolderPairs(root, "val")[0].low
    assert not np.array_equal(offsets, other)


def test_processes_that_were_forked_read_by_themselves(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 999, (40, 64, 64)).astype("uint16")
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression="zlib", photometric="minisblack")
    file = CachedPlanes(tmp_path / "a.tif")
    opened = CachedPlanes.open_files
    file.plane(0)
    assert CachedPlanes.open_files == opened + 1

    def read(seed, wrong):
        order = np.random.default_rng(seed).integers(0, 40, 400)
        wrong.value = sum(not np.array_equal(file.plane(n), pixels[n]) for n in map(int, order))

    fork = multiprocessing.get_context("fork")
    counts = [fork.Value("i", -1) for _ in range(3)]
    children = [fork.Process(target=read, args=arguments) for arguments in enumerate(counts)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [count.value for count in counts] == [0, 0, 0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(file)).plane(3), pixels[3])
