"""Statistics against scipy, numpy and exact counting."""

import numpy as np
import pytest
from scipy import stats

from ddpm_lightning.evaluation.statistics import (
    Difference,
    bootstrap,
    describe,
    difference,
    equivalence,
    fields_of,
    holm,
    interval,
    of_seeds,
)

rng = np.random.default_rng(0)
VALUES = rng.gamma(3, 2, 25)
SINGLE = [f"field {k}" for k in range(25)]
#: Fields of 1 to 5 images.
GROUPS = [f"field {int(np.sqrt(2 * k))}" for k in range(25)]


def test_each_image_its_own_field_is_scipys_bootstrap():
    for statistic, function in (("median", np.median), ("mean", np.mean)):
        ours = interval(bootstrap(VALUES, SINGLE, statistic, 20000))
        theirs = stats.bootstrap(
            (VALUES,),
            function,
            n_resamples=20000,
            method="percentile",
            rng=np.random.default_rng(1),
            batch=2000,
        ).confidence_interval
        assert ours == pytest.approx(theirs, rel=0.03)


@pytest.mark.parametrize("statistic", ["median", "mean"])
def test_whole_fields_are_resampled(statistic):
    """The counting of copies gives what plain repetition of the images of the drawn fields gives."""
    names = list(dict.fromkeys(GROUPS))
    drawn = np.random.default_rng(3).multinomial(len(names), np.full(len(names), 1 / len(names)), 50)
    function = {"median": np.median, "mean": np.mean}[statistic]
    expected = [
        function(
            np.concatenate(
                [np.repeat(v, counts[names.index(f)]) for v, f in zip(VALUES, GROUPS, strict=True)]
            )
        )
        for counts in drawn
    ]
    assert bootstrap(VALUES, GROUPS, statistic, 50, seed=3) == pytest.approx(expected, rel=1e-12)


def test_dependent_images_widen_the_interval():
    """Six copies of five fields know no more than the five."""
    five = VALUES[:5]
    many, few = (describe(np.repeat(five, n), [f"f{k}" for k in np.repeat(np.arange(5), n)]) for n in (6, 1))
    pretended = describe(np.repeat(five, 6), [str(k) for k in range(30)])
    assert many.mean_interval == pytest.approx(few.mean_interval)
    assert np.diff(pretended.mean_interval) < 0.6 * np.diff(many.mean_interval)


def test_the_interval_covers():
    """A 95 % interval of the mean of 20 fields of 2 images holds the truth in about 95 of 100 data sets."""
    hits = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        values = np.repeat(draw.normal(0, 1, 20), 2) + draw.normal(0, 0.2, 40)
        low, high = interval(bootstrap(values, [str(k // 2) for k in range(40)], "mean", 999))
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.98


def test_one_image_or_one_field_has_no_interval():
    one = describe([3.0], ["a"])
    assert (one.median, one.mean, one.median_interval, one.mean_interval) == (3, 3, None, None)
    assert one.no_interval == "one image only"
    assert "one field" in describe([3.0, 4.0], ["a", "a"]).no_interval
    assert describe([3.0, 4.0], ["a", "b"]).no_interval == ""
    assert difference([3.0], [1.0], ["a"]).wilcoxon is None


def test_an_image_without_a_field_is_its_own():
    assert fields_of(["1", "2", "3"], ["", "a", ""]) == ["image 1", "a", "image 3"]


def test_differences_are_scipys_tests():
    other = VALUES + rng.normal(0.2, 0.5, 25)
    found = difference(VALUES, other, SINGLE)
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(VALUES, other).pvalue)
    assert found.mood == pytest.approx(stats.median_test(VALUES, other).pvalue)
    assert found.mean == pytest.approx(np.mean(VALUES - other)) and found.median == np.median(VALUES - other)
    assert found.student == pytest.approx(stats.ttest_rel(VALUES, other).pvalue)
    assert found.error == pytest.approx(stats.sem(VALUES - other))
    assert found.interval[0] < found.mean < found.interval[1]
    reverse = difference(other, VALUES, SINGLE)
    assert reverse.mean == -found.mean and reverse.wilcoxon == pytest.approx(found.wilcoxon)


def test_wilcoxon_sees_fields_not_images():
    other = VALUES + 0.1 + rng.normal(0, 0.05, 25)
    names = list(dict.fromkeys(GROUPS))
    means = [np.mean([v - o for v, o, g in zip(VALUES, other, GROUPS, strict=True) if g == n]) for n in names]
    assert difference(VALUES, other, GROUPS).wilcoxon == pytest.approx(stats.wilcoxon(means).pvalue)


def test_equal_methods_differ_in_nothing():
    same = difference(VALUES, VALUES, SINGLE)
    assert (same.mean, same.student, same.wilcoxon) == (0, 1, 1) and same.interval == (0, 0)
    assert equivalence(same, 0.1) == 0
    assert difference([1.0, 1.0], [1.0, 1.0], ["a", "b"]).mood is None


def test_five_fields_resolve_nothing():
    assert difference(np.arange(5) + 10.0, np.arange(5), list("abcde")).wilcoxon > 0.05
    assert difference(np.arange(6) + 10.0, np.arange(6), list("abcdef")).wilcoxon < 0.05


def test_holm_by_hand():
    """The example of Holm's procedure in every textbook: 0.01, 0.04, 0.03, 0.005."""
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_holm_keeps_the_error_of_the_family():
    """With 10 true null hypotheses, at least one p-value below 5 % after correction in about 5 % of families."""
    families = np.random.default_rng(0).uniform(size=(2000, 10))
    assert np.mean([min(holm(list(family))) < 0.05 for family in families]) == pytest.approx(0.05, abs=0.015)


def test_a_summary_of_an_earlier_version_is_read():
    record = {
        "mean": 1.0,
        "median": 1.0,
        "interval": (0.5, 1.5),
        "bootstrap": 0.01,
        "wilcoxon": 0.02,
        "mood": None,
    }
    found = Difference.of(record | {"images": 8, "fields": 8})
    assert (found.student, found.error) == (0.01, None) and equivalence(found, 0.1) is None


def test_fields_of_equal_size_are_tested_by_their_means():
    other = VALUES + rng.normal(0.2, 0.5, 25)
    fields = [f"field {k // 5}" for k in range(25)]
    means = (VALUES - other).reshape(5, 5).mean(axis=1)
    found = difference(VALUES, other, fields)
    assert found.student == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert found.error == pytest.approx(stats.sem(means))


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.2, -0.2])
def test_equivalence_is_two_one_sided_t_tests(shift):
    other = VALUES + shift + np.random.default_rng(5).normal(0, 0.1, 25)
    differences = VALUES - other
    above = stats.ttest_1samp(differences, 0.1, alternative="less").pvalue
    below = stats.ttest_1samp(differences, -0.1, alternative="greater").pvalue
    assert equivalence(difference(VALUES, other, SINGLE), 0.1) == pytest.approx(max(above, below))


def test_p_values_can_survive_a_correction_for_many_pairs():
    other = VALUES + 1 + np.random.default_rng(6).normal(0, 0.1, 25)
    found = difference(VALUES, other, SINGLE)
    assert max(found.student, found.wilcoxon) * 1000 < 0.05


def test_skewed_differences_without_effect_are_rarely_significant():
    """Both tests together reject a mean of 0 in at most 5 % of sets of 12 fields of 3 images, about."""
    draw, rejected = np.random.default_rng(7), 0
    fields = [str(k // 3) for k in range(36)]
    for _ in range(500):
        values = np.repeat(draw.gamma(4, 1, 12) - 4, 3) + draw.normal(0, 1, 36)
        found = difference(values, np.zeros(36), fields)
        rejected += max(found.student, found.wilcoxon) < 0.05
    assert rejected / 500 < 0.07


def test_one_seed_less_variance_of_seeds_is_the_t_test():
    """Where all seeds are alike, only fields are left, and images that are alike leave only seeds."""
    one, other = np.stack([VALUES] * 3), np.stack([VALUES + rng.normal(0, 1, 25)] * 3)
    mean, error, freedom = of_seeds(one, other, SINGLE)
    assert (mean, error) == pytest.approx((np.mean(one - other), stats.sem(one[0] - other[0])))
    assert freedom == pytest.approx(24)
    seeds = np.array([[1.0], [1.5], [2.2]]), np.array([[0.9], [1.1], [1.9]])
    mean, error, freedom = of_seeds(*(np.repeat(each, 25, axis=1) for each in seeds), SINGLE)
    welch = stats.ttest_ind(*(each[:, 0] for each in seeds), equal_var=False)
    assert mean / error == pytest.approx(welch.statistic) and freedom == pytest.approx(welch.df)


def test_intervals_of_seeds_cover_new_seeds_and_new_fields():
    draw, hits = np.random.default_rng(8), 0
    fields = [str(k // 2) for k in range(40)]
    for _ in range(400):
        of_fields = np.repeat(draw.normal(0, 1, 20), 2)
        scores = [
            of_fields + draw.normal(0, 0.3, (3, 1)) + draw.normal(0, 0.3, (3, 40)) + weight * of_fields
            for weight in (0.2, 0.0)
        ]
        mean, error, freedom = of_seeds(*scores, fields)
        hits += abs(mean) <= stats.t.ppf(0.975, freedom) * error
    assert 0.93 <= hits / 400 <= 0.995
