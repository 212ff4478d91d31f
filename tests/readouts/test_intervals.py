"""Intervals against data whose truth is known: they cover as often as stated, and are absent where nobody checked."""

from math import nan

import numpy as np
import pytest
from scipy import stats

from ddpm_lightning.readouts.calibration import ReadoutCalibration, bounds_of, group_of, objections
from ddpm_lightning.readouts.intervals import calibrate_number, conformal_bounds, measured
from ddpm_lightning.readouts.novelty import novelty
from ddpm_lightning.readouts.readout import Quantity, find_readouts

COUNT = Quantity(whole=True, least=0.0)
ANY = Quantity()


def by_definition(scores, candidate, level):
    """Whether a candidate belongs to the interval, by ranking the whole bag."""
    bag = np.append(scores, candidate)
    distances = np.abs(bag - np.sort(bag)[int(np.ceil(len(bag) / 2)) - 1])
    return (distances[:-1] < distances[-1]).sum() < np.ceil(len(bag) * level - 1e-9)


@pytest.mark.parametrize("n", [19, 20, 33])
def test_the_closed_form_is_the_full_conformal_set(n):
    scores = np.random.default_rng(n).standard_exponential(n)
    low, high = conformal_bounds(scores, 0.9)
    inside = [by_definition(scores, candidate, 0.9) for candidate in np.linspace(low - 2, high + 2, 997)]
    assert inside == [low <= candidate <= high for candidate in np.linspace(low - 2, high + 2, 997)]


@pytest.mark.parametrize("n", [19, 40])
@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential", "standard_cauchy"])
def test_a_further_score_is_covered_as_often_as_stated(n, draw):
    rng, repeats = np.random.default_rng(1), 2000
    scores = getattr(rng, draw)((repeats, n + 1)) * 3 - 7
    bounds = np.array([conformal_bounds(row[:-1], 0.9) for row in scores])
    covered = int(((bounds[:, 0] <= scores[:, -1]) & (scores[:, -1] <= bounds[:, 1])).sum())
    expected = np.ceil((n + 1) * 0.9) / (n + 1)
    assert stats.binomtest(covered, repeats, expected).pvalue > 1e-3


def counted(rng, images, bias=0.7, samples=8):
    """Counts of clean images, and of samples that miss some objects and vary too little; some do not vary at all."""
    truth = rng.poisson(rng.uniform(2, 60, images))
    found = rng.binomial(truth, bias)
    drawn = rng.poisson(found[:, None] / 4, (images, samples)) - found[:, None] // 4 + found[:, None]
    drawn[::3] = found[::3, None]
    return truth, [
        measured([float(v) for v in row], float(value), nan) for row, value in zip(drawn, found, strict=True)
    ]


def test_counts_with_a_bias_and_without_any_std_are_covered_at_least_as_often_as_stated():
    rng, inside, width = np.random.default_rng(2), [], []
    for _ in range(60):
        truth, found = counted(rng, 60)
        made = calibrate_number("n", "", COUNT, found[:30], truth[:30], [""] * 30, 0.9).all_images
        ends = np.array([made.around(one, COUNT) for one in found[30:]])
        inside += list((ends[:, 0] <= truth[30:]) & (truth[30:] <= ends[:, 1]))
        width += list(ends[:, 1] - ends[:, 0])
    # Ties of whole numbers add coverage; sets of calibration images vary around it by 5 %.
    assert 0.88 < np.mean(inside) < 0.97
    assert np.all(np.array(width) == np.round(width))


def test_each_group_is_covered_where_the_pooled_interval_fails_one():
    rng, results = np.random.default_rng(3), {"pooled": [], "grouped": []}
    for _ in range(100):
        groups = np.array(["easy", "hard"] * 40)
        error = rng.standard_normal(80) * np.where(groups == "hard", 8, 1)
        found = [measured([9.0, 10.0, 11.0], 10.0, nan)] * 80
        made = calibrate_number("n", "", ANY, found, 10 + error, list(groups), 0.9)
        value = 10 + 8 * rng.standard_normal()
        for name, one in (("pooled", made.all_images), ("grouped", made.groups["hard"])):
            low, high = one.around(found[0], ANY)
            results[name].append(low <= value <= high)
    assert np.mean(results["pooled"]) < 0.86 <= np.mean(results["grouped"])


def test_an_image_of_the_same_kind_is_rarely_unusual_and_another_kind_always():
    rng, flagged, foreign = np.random.default_rng(4), 0, 0
    for _ in range(400):
        seen = rng.standard_normal((39, 8)) @ np.triu(np.ones((8, 8)))
        features = dict(enumerate(rng.standard_normal(8) @ np.triu(np.ones((8, 8)))))
        named = {str(k): list(seen[:, k]) for k in range(8)}
        flagged += novelty(named, {str(k): v for k, v in features.items()}) <= 0.05
        foreign += novelty(named, {str(k): v + 10 * (k == 3) for k, v in features.items()}) <= 0.05
    assert stats.binomtest(flagged, 400, 0.05).pvalue > 1e-3 and foreign > 390


def calibration(readout, **changed):
    rng = np.random.default_rng(5)
    truth, found = counted(rng, 40)
    number = calibrate_number("objects", "", COUNT, found, truth, ["a"] * 30 + ["b"] * 10, 0.9)
    values = {
        "readout": readout.key,
        "sampling": "as usual",
        "sampler": "",
        "samples": 8,
        "level": 0.9,
        "images": 40,
        "fields": 40,
        "data": "mine",
        "split": "val",
        "inputs": {"mean": list(rng.standard_normal(40))},
        "pixel_size": 0.1,
        "numbers": [number],
    }
    return ReadoutCalibration.of(ReadoutCalibration.of({**values, **changed}).model_dump())


def test_where_a_calibration_does_not_apply_there_is_a_reason_and_no_interval():
    (readout,) = find_readouts(["count"])
    made, one = calibration(readout), measured([4.0, 6.0], 5.0, 9.0)
    usual, about = {"mean": 0.1}, lambda *given: objections(made, *given)
    assert about(usual, 0.1, ()) == ""
    assert "unlike" in about({"mean": 50.0}, 0.1, ()) and "pixel size" in about(usual, 0.2, ())
    assert "pixel size" in about(usual, None, ()) and "noise left" in about(usual, 0.1, ["noise left: 60 %"])
    assert "not calibrated" in objections(None, usual, 0.1, ())

    def bounds(found=one, name="x", made=made, reason=""):
        return bounds_of(readout, "objects", found, made, name, reason)

    assert bounds().reason == "" and bounds().low <= 5 <= bounds().high + 5
    for none in (bounds(reason="no"), bounds(measured([nan, nan], nan, nan)), bounds(made=None)):
        assert none.reason and np.isnan(none.low) and np.isnan(none.high)
    grouped = calibration(readout, groups="(.)_")
    assert bounds(name="a_1", made=grouped).reason == ""
    assert (
        "fewer" in bounds(name="b_1", made=grouped).reason
        and "group" in bounds(name="c_1", made=grouped).reason
    )
    assert group_of("b_1", "(.)_") == "b" and group_of("b", "") == ""


def test_too_few_images_give_no_interval():
    truth, found = counted(np.random.default_rng(6), 18)
    assert calibrate_number("n", "", COUNT, found, truth, [""] * 18, 0.9).all_images is None
    with pytest.raises(ValueError, match="too few"):
        conformal_bounds([0.0] * 8, 0.9)
    assert conformal_bounds([0.0] * 9, 0.9) == (0, 0)
