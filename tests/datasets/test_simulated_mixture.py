import numpy as np
import pytest

from ddpm_lightning.data.normalise import PairNormalisation, Percentile
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.datasets.simulated_mixture import Interleaved, SimulatedMixture
from ddpm_lightning.utils.errors import UserError


def numbered(value, count):
    return [Pair(np.full((2, 2), value), np.zeros((2, 2)), f"{k}", f"{k}") for k in range(count)]


def test_sources_take_turns_and_names_stay_apart():
    mixed = Interleaved({"a": numbered(1, 3), "b": numbered(2, 3)})
    assert [mixed[k].name for k in range(len(mixed))] == ["a_0", "b_0", "a_1", "b_1", "a_2", "b_2"]
    assert [int(mixed[k].low[0, 0]) for k in range(6)] == [1, 2, 1, 2, 1, 2]
    assert mixed[-1].name == "b_2" == mixed[-1].field
    with pytest.raises(IndexError):
        mixed[6]
    with pytest.raises(ValueError, match="same number"):
        Interleaved({"a": numbered(1, 3), "b": numbered(2, 2)})


def mixture(**changed):
    percentile = Percentile(1, 99.8, per_image=True)
    settings = {
        "specimens": ["microtubules", "zebrafish"],
        "doses": [0.5, 2.0],
        "counts": {"train": 4, "val": 4, "test": 4},
        "size": 48,
        "normalisation": PairNormalisation(percentile, percentile),
        "crop": 32,
    }
    return SimulatedMixture(**settings | changed)


def test_every_kind_is_there_with_its_dose():
    source = mixture().source("train")
    names = [source[k].name for k in range(4)]
    kinds = ["microtubules_dose0.5", "zebrafish_dose0.5", "microtubules_dose2", "zebrafish_dose2"]
    assert names == [f"{kind}_00000" for kind in kinds]
    alone = SimulatedPairs("zebrafish", "train", 1, 48, seed=3, dose=2.0, extras=False)[0]
    assert np.array_equal(source[3].low, alone.low) and np.array_equal(source[3].high, alone.high)
    assert source[0].pixel_size != source[1].pixel_size


def test_it_loads_batches():
    data = mixture()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["low"].shape[1:] == (1, 32, 32) and batch["low"].abs().max() < 20


@pytest.mark.parametrize("count", [0, 6])
def test_counts_that_leave_kinds_unequal_are_refused(count):
    with pytest.raises(UserError, match="multiple of 4"):
        mixture(counts={"train": count, "val": 4, "test": 4})
