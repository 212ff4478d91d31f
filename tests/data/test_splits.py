"""Whole fields of view are assigned: by shares, by name, steadily, and never leaving a part empty."""

from collections import Counter

import pytest

from ddpm_lightning.data.splits import assign, differences
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import natural

FIELDS = [f"field_{number}" for number in range(345)]


def test_fractions_are_met_exactly_where_possible():
    found = assign(FIELDS, {"train": 294, "val": 17, "test": 34})
    assert Counter(found.values()) == {"train": 294, "val": 17, "test": 34}


@pytest.mark.parametrize(
    ("count", "expected"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (24, (21, 1, 2)), (48, (42, 2, 4))]
)
def test_no_part_goes_empty(count, expected):
    found = Counter(assign(FIELDS[:count], {"train": 21, "val": 1, "test": 2}).values())
    assert (found["train"], found["val"], found["test"]) == expected


def test_order_and_repetition_do_not_matter_but_the_seed_does():
    shares = {"train": 8, "val": 1, "test": 1}
    first = assign(FIELDS[:40], shares)
    assert assign([*FIELDS[39::-1], *FIELDS[:5]], shares) == first
    assert assign(FIELDS[:40], shares, seed=1) != first


def test_more_fields_hardly_move_the_old_ones():
    shares = {"train": 8, "val": 1, "test": 1}
    before, after = assign(FIELDS[:300], shares), assign(FIELDS[:310], shares)
    assert sum(before[field] != after[field] for field in before) <= 4


def test_fields_by_name_leave_the_rest_for_training():
    found = assign([str(number) for number in range(1, 21)], {"val": ["20"], "test": [19]})
    assert found["20"] == "val" and found["19"] == "test"
    assert Counter(found.values())["train"] == 18


def test_named_fields_are_removed_before_the_rest_is_split():
    found = assign(map(str, range(11)), {"train": 0.8, "val": [3], "test": 0.2})
    assert found["3"] == "val" and Counter(found.values()) == {"train": 8, "val": 1, "test": 2}


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"train": 1, "validation": 1}, "train, val, test"),
        ({}, "train, val, test"),
        ({"val": "20", "test": ["19"]}, "list of fields"),
        ({"train": -1, "val": 1, "test": 1}, "0 or more"),
        ({"train": 0, "val": 0}, "0 or more"),
        ({"val": ["7"], "test": ["1"]}, "'7', which does not exist"),
        ({"val": ["1"], "test": ["1"]}, "'1', as val does"),
        ({"train": 1, "val": 1, "test": 1}, "there are only 2 fields of view (1, 2)"),
    ],
)
def test_splits_that_cannot_be_are_explained(split, words):
    with pytest.raises(UserError) as caught:
        assign(["1", "2"], split, key="data.preparation.split")
    assert words in str(caught.value) and "data.preparation.split" in str(caught.value)


def test_differences_are_reported_and_nothing_else():
    published = {"train": 1272, "val": 89, "test": 265}
    assert differences(published, published) == []
    assert differences({"train": 1272, "val": 12}, published) == [
        "val: 12 pairs, published are 89 (-77)",
        "test: 0 pairs, published are 265 (-265)",
    ]


def test_numbers_in_names_count_as_numbers():
    assert sorted(["10", "9", "cell_2_b", "cell_10_a", "cell_2_a"], key=natural) == [
        "9", "10", "cell_2_a", "cell_2_b", "cell_10_a",
    ]  # fmt: skip
