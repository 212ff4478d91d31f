"""Planes of stacks with their neighbours: which these are, in which order, and what is missing."""

import numpy as np
import pytest
import tifffile

from ddpm_lightning.data.center_crop import CenterCrops
from ddpm_lightning.data.dataset import CachedPairs, CropDataset
from ddpm_lightning.data.neighbours import NeighbourChoice
from ddpm_lightning.data.normalise import FixedRange, PairNormalisation
from ddpm_lightning.data.pairs import NoisyImages, Pair
from ddpm_lightning.data.stack_planes import StackPlanes
from ddpm_lightning.datasets.folder import FolderData
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.stack_axis import StackAxis
from ddpm_lightning.simulation.degraded_pairs import DegradedPairs
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.plane_order import neighbour_distances

NORMALISATION = PairNormalisation(FixedRange(0, 2), FixedRange(0, 2))


class Stacks:
    """Two stacks of four planes; the mean of each plane is its number, and all are textured."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> Pair:
        planes = np.arange(4.0)[:, None, None] + 10 * number
        texture = np.random.default_rng(number).uniform(-0.1, 0.1, (24, 24))
        stack = (planes + texture).astype(np.float32)
        return Pair(stack, stack + 100, f"s{number}", f"s{number}")


def numbers(images) -> list[float]:
    return [np.nan if image is None else round(float(image.mean())) for image in images]


def same(found, expected) -> bool:
    return np.array_equal(found, expected, equal_nan=True)


@pytest.fixture(scope="module")
def planes() -> StackPlanes:
    return StackPlanes(Stacks(), 4, "z")


def test_the_nearest_neighbours_come_first():
    assert neighbour_distances(2) == (-1, 1, -2, 2) and neighbour_distances(0) == ()


def test_planes_of_a_stack_belong_to_one_field(planes):
    assert len(planes) == 8 and planes[5].name == "s1_z1" and planes[5].field == "s1"
    assert planes.neighbour(3, 1) is None and planes.neighbour(4, -1) is None and planes.neighbour(4, 2) == 6


def test_pairs_include_neighbours_within_their_stack(planes):
    degraded = DegradedPairs(NoisyImages(planes), ())
    for source in (planes, degraded):
        cached = CachedPairs(source, neighbours=2)
        for pairs in (cached, cached.source, CenterCrops(cached.source, 16)):
            assert len(pairs) == 8
            assert same(numbers(pairs[2].neighbours), [1, 3, 0, np.nan])
            assert same(numbers(pairs[4].neighbours), [np.nan, 11, np.nan, 12])
    assert CenterCrops(cached.source, 16)[2].neighbours[0].shape == (16, 16)
    assert CachedPairs(planes)[2].neighbours == ()


def test_crops_show_all_planes_alike(planes):
    choice = NeighbourChoice(2)
    crops = CropDataset(planes, NORMALISATION, 16, 2, neighbours=choice)
    batch = crops.__getitems__([(0, 4), (0, 9)])
    assert batch["low"].shape == (2, 5, 16, 16) and batch["high"].shape == (2, 1, 16, 16)
    assert same((batch["low"].mean((2, 3)) + 1).round(), [[2, 1, 3, 0, np.nan], [10, np.nan, 11, np.nan, 12]])
    low = batch["low"][0]
    assert np.allclose(low[1:4] - low[:1], np.array([-1, 1, -2])[:, None, None], atol=1e-5)
    # The plane itself is cropped and turned as without neighbours.
    alone = CropDataset(planes, NORMALISATION, 16, 2).__getitems__([(0, 4), (0, 9)])
    assert np.array_equal(batch["low"][:, :1], alone["low"]) and np.array_equal(batch["high"], alone["high"])


def test_spacing_and_dropout_are_random(planes):
    choice, rng = NeighbourChoice(1, spacing=2, dropout=0.3), np.random.default_rng(0)
    found = [tuple(choice.of(planes, 1, rng)) for _ in range(4000)]
    whole = [one for one in found if one[1] is not None]
    # Of two neighbours, spacing 2 has only the one behind.
    assert {one[1] for one in whole} == {2, 3} and {one[0] for one in found} == {None, 0}
    present = 0.7 * 0.7
    assert len(whole) / len(found) == pytest.approx(present, abs=0.03)
    assert np.mean([one[0] is not None for one in found]) == pytest.approx(present / 2, abs=0.03)


def info(axes: str, *shape: int) -> ImageInfo:
    return ImageInfo(axes, (*shape, 8, 8), np.dtype(np.uint8))


@pytest.mark.parametrize(
    ("image", "wanted", "expected"),
    [
        (info("TCZYX", 3, 2, 4), "auto", ("Z", 1, 4)),
        (info("TCZYX", 3, 2, 4), "t", ("T", 8, 3)),
        (info("TCZYX", 3, 2, 1), "auto", ("T", 2, 3)),
        (info("TZYX", 3, 4), "z", ("Z", 1, 4)),
        (info("IYX", 5), "auto", ("I", 1, 5)),
        (info("IYX", 5), "z", ("", 1, 1)),
        (info("CYX", 5), "auto", ("", 1, 1)),
        (info("YX"), "auto", ("", 1, 1)),
    ],
)
def test_axes_of_neighbours(image, wanted, expected):
    axis = StackAxis.of(image, wanted)
    assert (axis.letter, axis.step, axis.length) == expected
    places = list(image.planes())
    for place in places:
        for distance in (-1, 2):
            other = axis.neighbour(place.number, distance)
            if other is not None:
                moved = np.subtract(places[other].index, place.index)
                assert np.abs(moved).sum() == abs(distance) == abs(moved[image.axes.index(axis.letter)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("stacks")
    rng = np.random.default_rng(0)
    for split, files in (("train", ["a", "b"]), ("val", ["c"])):
        for name in files:
            stack = np.arange(6).reshape(3, 2, 1, 1) * 10 + rng.integers(0, 5, (3, 2, 32, 32))
            for role in ("low", "high"):
                path = root / split / role / f"{name}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, stack.astype(np.uint8), imagej=True, metadata={"axes": "TZYX"})
    return root


@pytest.mark.parametrize(("axis", "around"), [("auto", [np.nan, 3]), ("t", [0, 4])])
def test_files_are_stacks(folder, axis, around):
    data = FolderData(folder, neighbours_axis=axis, normalisation=NORMALISATION, crop=16, neighbours=1)
    data.setup("fit")
    pair = data.pairs("train")[2]
    assert pair.name == "a_t1_z0"
    assert same([np.nan if plane is None else plane.mean() // 10 for plane in pair.neighbours], around)
    assert data.stack_axis == ("z" if axis == "auto" else "t")
    assert next(iter(data.train_dataloader()))["low"].shape == (8, 3, 16, 16)


def test_neighbours_need_stacks(folder, tmp_path):
    for split in ("train", "val"):
        for role in ("low", "high"):
            (tmp_path / split / role).mkdir(parents=True)
            image = tifffile.imread(folder / split / role / ("a.tif" if split == "train" else "c.tif"))[0, 0]
            tifffile.imwrite(tmp_path / split / role / "x.tif", image)
    data = FolderData(tmp_path, normalisation=NORMALISATION, crop=16, neighbours=1)
    with pytest.raises(UserError) as caught:
        data.setup("fit")
    assert caught.value.subject == "data.neighbours=1"
