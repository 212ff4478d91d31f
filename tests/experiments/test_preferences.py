"""What observers prefer, against numbers worked out by hand."""

import json

import pytest

from ddpm_lightning.utils.errors import UserError
from experiments.visual_assessment.preferences import (
    choices_of,
    is_answers,
    is_key,
    main,
    preferences,
    wilson,
)

#: Three images, each with one trial of the same two versions; in the second the page holds them the other way round.
KEY = {
    "seed": 3,
    "trials": [
        {"image": "a", "versions": ["average", "draw"]},
        {"image": "b", "versions": ["draw", "average"]},
        {"image": "c", "versions": ["average", "draw"]},
    ],
}


def answers(observer, chosen, seed=3):
    rows = [{"trial": t, "chosen": c, "side": "left", "ms": 1} for t, c in enumerate(chosen)]
    return {"observer": observer, "seed": seed, "answers": rows}


# Average is chosen by the first in a, b, c; by the second in a, b; by the third in a, c: 7 of 9.
OBSERVERS = [answers("x", [0, 1, 0]), answers("y", [0, 1, 1]), answers("z", [0, 0, 0])]


def test_wilson_is_that_of_the_textbook():
    # 8 of 10: (0.8 + 0.19207 ± 1.96 √(0.016 + 0.0096036)) / 1.38415
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_preferences_by_hand():
    (found,) = preferences(choices_of(KEY, OBSERVERS))
    assert found.versions == ("average", "draw")
    assert (found.choices, found.fraction) == (9, pytest.approx(7 / 9))
    # Two-sided: outcomes no likelier than 7 of 9 are 0, 1, 2, 7, 8, 9: 2 (1 + 9 + 36) / 512.
    assert found.p == pytest.approx(2 * (1 + 9 + 36) / 512)
    # a: all agree; b and c: one pair of three.
    agreed = (1 + 1 / 3 + 1 / 3) / 3
    chance = (7 / 9) ** 2 + (2 / 9) ** 2
    assert found.agreement == pytest.approx(agreed)
    assert found.kappa == pytest.approx((agreed - chance) / (1 - chance))


def test_one_observer_has_no_agreement():
    (found,) = preferences(choices_of(KEY, OBSERVERS[:1]))
    assert found.agreement is None and found.kappa is None


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([answers("x", [0], seed=4)], "another page"),
        ([OBSERVERS[0]] * 2, "comes twice"),
        ([answers("x", [0]) | {"answers": answers("x", [0])["answers"] * 2}], "a trial twice"),
    ],
)
def test_answers_that_do_not_belong_are_refused(files, words):
    with pytest.raises(UserError, match=words):
        choices_of(KEY, files)


def test_the_command_prints_a_table(tmp_path, capsys):
    (tmp_path / "key.json").write_text(json.dumps(KEY))
    paths = []
    for file in OBSERVERS:
        paths.append(str(tmp_path / f"{file['observer']}.json"))
        (tmp_path / f"{file['observer']}.json").write_text(json.dumps(file))
    main([str(tmp_path / "key.json"), *paths])
    printed = capsys.readouterr().out
    assert "| average against draw | 9 | 78% | 45% to 94% |" in printed and "Observers: 3" in printed
    with pytest.raises(SystemExit):
        main([str(tmp_path / "none.json"), *paths])
    assert "is not the key of a page" in capsys.readouterr().err


TRIAL, ANSWER = {"image": "a", "versions": ["x", "y"]}, {"trial": 0, "chosen": 1, "side": "left"}


@pytest.mark.parametrize(
    "trials", [3, None, [3], [TRIAL | {"image": 1}], [TRIAL | {"versions": ["x"]}], [{"image": "a"}]]
)
def test_files_that_are_no_key_are_refused(trials):
    assert is_key({"seed": 3, "trials": [TRIAL]})
    assert not is_key({"seed": 3, "trials": trials})


@pytest.mark.parametrize(
    "wrong",
    [
        {"observer": ["l"]},
        {"observer": None},
        {"answers": None},
        *({"answers": [ANSWER | part]} for part in ({"trial": "0"}, {"trial": -1}, {"trial": True})),
        *({"answers": [ANSWER | part]} for part in ({"chosen": 5}, {"chosen": -1}, {"side": None})),
    ],
)
def test_files_without_answers_are_refused(wrong):
    right = {"seed": 3, "observer": "l", "answers": [ANSWER]}
    assert is_answers(right) and not is_answers(right | wrong)
