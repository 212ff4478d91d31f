from itertools import islice

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ddpm_lightning.data import dataset as dataset_module
from ddpm_lightning.data.augment import SYMMETRIES, Blur, symmetry
from ddpm_lightning.data.dataset import CachedPairs, CropDataset, KeyedBatchSampler
from ddpm_lightning.data.defects import repaired, repairs_of
from ddpm_lightning.data.normalise import FixedRange, PairNormalisation, Percentile
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.utils.errors import UserError


class Ramps:
    """Pairs whose every pixel tells where it is; the high image is the low one plus 1000."""

    reads = 0

    def __init__(self, count=3, shape=(20, 24)):
        self.count, self.shape = count, shape

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        low = np.arange(np.prod(self.shape)).reshape(self.shape).astype(np.float32)
        return Pair(low, low + 1000, f"{index:05d}", f"field{index}")


def dataset(**settings):
    normalisation = PairNormalisation(FixedRange(0, 2), FixedRange(1000, 1002))
    return CropDataset(Ramps(), normalisation, **{"crop": 8, "crops_per_image": 4, **settings})


def test_symmetries_are_the_eight_of_the_square():
    square = np.arange(9).reshape(3, 3)
    images = {symmetry(square, which).tobytes() for which in range(SYMMETRIES)}
    expected = {np.rot90(f, k).tobytes() for f in (square, np.fliplr(square)) for k in range(4)}
    assert images == expected and len(images) == 8


def test_augmentation_changes_low_and_high_alike_and_really_changes_them():
    plain, augmented = dataset(augment=False), dataset()
    changed = 0
    for index in range(len(augmented)):
        item = augmented[(0, index)]
        torch.testing.assert_close(item["low"], item["high"], atol=1e-3, rtol=0)
        changed += not torch.equal(item["low"], plain[(0, index)]["low"])
        # The same window, in another order.
        assert torch.equal(item["low"].flatten().sort()[0], plain[(0, index)]["low"].flatten().sort()[0])
    assert changed >= len(augmented) // 2


def test_crops_are_windows_of_the_image():
    image = Ramps()[0].low
    for index in range(12):
        values = dataset(augment=False)[(1, index)]["low"][0].numpy() + 1
        y, x = np.argwhere(np.isclose(image, values[0, 0], atol=1e-3))[0]
        np.testing.assert_allclose(values, image[y : y + 8, x : x + 8], atol=1e-3)


def test_items_are_keyed_by_seed_epoch_and_index():
    a, b = dataset(), dataset()
    order = np.random.default_rng(0).permutation(12)
    shuffled = {int(i): b[(2, int(i))] for i in order}
    for index in range(12):
        item = a[(2, index)]
        assert item["name"] == shuffled[index]["name"]
        assert torch.equal(item["low"], shuffled[index]["low"])
    names = {
        (e, s): [dataset(seed=s)[(e, i)]["name"] for i in range(12)] for e, s in ((0, 0), (1, 0), (0, 1))
    }
    assert len({tuple(n) for n in names.values()}) == 3


def test_images_below_the_crop_are_refused_with_the_way_out():
    with pytest.raises(UserError, match=r"20 x 24 pixels, smaller than the crop of 32[\s\S]*data\.crop=16"):
        dataset(crop=32)[(0, 0)]


@pytest.mark.parametrize(("limit", "reads"), [(1.0, 3), (0.0, 6)])
def test_the_cache_keeps_what_fits(limit, reads):
    source = Ramps()
    cached = CachedPairs(source, limit)
    for _ in range(2):
        for index in range(3):
            assert cached[index].name == f"{index:05d}"
    assert source.reads == reads


def test_batches_of_processes_add_up_to_those_of_one():
    whole = list(KeyedBatchSampler(37, 8, seed=3))
    shares = [list(KeyedBatchSampler(37, 8, seed=3, rank=r, processes=4)) for r in range(4)]
    assert len(whole) == 4 and all(len(batch) == 8 for batch in whole)
    for number, batch in enumerate(whole):
        assert sorted(batch) == sorted(key for share in shares for key in share[number])
        assert all(len(share[number]) == 2 for share in shares)


def test_orders_differ_between_epochs_and_are_the_same_again():
    first, second, again = (list(KeyedBatchSampler(32, 8, position=lambda n=n: n)) for n in (0, 4, 0))
    assert again == first != second
    assert sorted(index for batch in second for _, index in batch) == list(range(32))
    assert {epoch for batch in second for epoch, _ in batch} == {1}


def test_an_epoch_resumes_at_the_step_of_the_run():
    seen = []
    sampler = KeyedBatchSampler(32, 8, position=lambda: len(seen))
    for _ in range(3):
        seen += list(sampler)
    for stop in (3, 4, 7, 11):
        resumed = seen[:stop]
        sampler = KeyedBatchSampler(32, 8, position=lambda resumed=resumed: len(resumed))
        while len(resumed) < len(seen):
            resumed += list(sampler)
        assert resumed == seen


def test_without_shuffling_the_order_is_that_of_the_files():
    batches = KeyedBatchSampler(10, 4, shuffle=False)
    assert [index for batch in islice(batches, 2) for _, index in batch] == list(range(8))


def test_a_set_below_one_batch_is_repeated():
    (batch,) = KeyedBatchSampler(3, 8)
    assert len(batch) == 8 and {index for _, index in batch} == {0, 1, 2}


def test_processes_must_divide_the_batch():
    with pytest.raises(UserError, match="multiple of 3"):
        KeyedBatchSampler(10, 8, processes=3)


class One:
    """A single pair."""

    def __init__(self, pair):
        self.pair = pair

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.pair


def test_hot_pixels_are_replaced_before_training_sees_them():
    high = np.random.default_rng(0).poisson(200, (64, 64)).astype(np.uint16)
    low = high.copy()
    low[20, 30] = 65535
    pair = CachedPairs(One(Pair(low, high, "a", "f")))[0]
    assert (pair.low != low).sum() == 1 and pair.low[20, 30] < 300 and pair.high is high
    alone = CachedPairs(One(Pair(low, low, "a", "f", paired=False)))[0]
    assert alone.high is alone.low and alone.low[20, 30] < 300
    scale = Percentile(per_image=True, blur=2.0)
    scale.fit([high])
    spoilt, sound = scale.scale(pair.low), scale.scale(high)
    assert spoilt.high == pytest.approx(sound.high, rel=1e-2)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("limit", [1.0, 0.0])
def test_crops_are_those_of_the_repaired_image_which_is_searched_once(limit, paired, monkeypatch):
    high = np.random.default_rng(0).poisson(200, (64, 80)).astype(np.uint16)
    low = high.copy()
    low[[0, 20, 20, 41, 63], [79, 30, 60, 0, 33]] = 65535
    sound, count = repaired(low)
    assert count == 5
    searched = []
    monkeypatch.setattr(dataset_module, "repairs_of", lambda image: searched.append(1) or repairs_of(image))
    recorded = low.copy()
    source = CachedPairs(One(Pair(low, high if paired else low, "a", "f", paired=paired)), limit)
    normalisation = PairNormalisation(FixedRange(0, 2), FixedRange(0, 2))
    crops = CropDataset(source, normalisation, 16, 200, augment=False)
    held = 0
    for index in range(200):
        item = crops[index]
        y, x = map(int, item["name"].split("@")[1].split(",")[:2])
        window = np.s_[y : y + 16, x : x + 16]
        np.testing.assert_array_equal(item["low"][0].numpy() + 1, sound[window])
        np.testing.assert_array_equal(item["high"][0].numpy() + 1, (high if paired else sound)[window])
        held += (low[window] == 65535).any()
    assert 0 < held < 200 and len(searched) == 1
    np.testing.assert_array_equal(source[0].low, sound)
    np.testing.assert_array_equal(low, recorded)


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.float64])
def test_crops_of_an_image_on_a_large_offset(dtype):
    plain = np.random.default_rng(0).poisson(200, (16, 16))
    crops = []
    for offset in (0, 2 * 10**9):
        image = (plain + offset).astype(dtype)
        low = Percentile(per_image=True)
        low.fit([image])
        crops.append(CropDataset(One(Pair(image, image, "a", "f")), PairNormalisation(low), 16)[0])
    torch.testing.assert_close(crops[0]["low"], crops[1]["low"], atol=1e-4, rtol=0)
    assert len(crops[1]["low"].unique()) == len(np.unique(plain))


def test_blur_is_that_of_the_noisy_crops_alone():
    """With probability 1, a crop is scipy's filter of the crop without blur; clean crops stay as they are."""
    rng = np.random.default_rng(0)
    low, high = (rng.uniform(0, 255, (40, 40)).astype(np.float32) for _ in range(2))
    scales = PairNormalisation(FixedRange(0, 255), FixedRange(0, 255))

    def crops(blur):
        source = One(Pair(low, high, "a", "f"))
        return CropDataset(source, scales, 32, 20, seed=3, blur=blur)

    plain, always, half = (
        list(map(crops(blur).__getitem__, range(20))) for blur in (None, Blur(1, 2.0), Blur(0.5, 2.0))
    )
    blurred = 0
    for one, other, some in zip(plain, always, half, strict=True):
        assert one["name"] == other["name"] and torch.equal(one["high"], other["high"])
        np.testing.assert_allclose(other["low"][0], gaussian_filter(one["low"][0].numpy(), 2.0), atol=1e-6)
        assert torch.equal(some["low"], one["low"]) or torch.equal(some["low"], other["low"])
        blurred += torch.equal(some["low"], other["low"])
    assert 4 <= blurred <= 16


def test_defects_are_kept_on_request():
    low = np.random.default_rng(0).poisson(50, (64, 64)).astype(np.uint16)
    low[20, 20] = 60000
    pair = Pair(low, low.copy(), "a", "f")
    assert CachedPairs(One(pair))[0].low[20, 20] < 1000
    assert np.array_equal(CachedPairs(One(pair), keep_defects=True)[0].low, low)
