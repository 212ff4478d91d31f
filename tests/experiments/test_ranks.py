"""Ranks against counts of pairs and regressions of ranks."""

import numpy as np
import pytest
from scipy import stats

from experiments.ranks import auroc, over_images, partial_spearman, spearman, worst
from experiments.regions import means, tiles


def test_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    score, failed = rng.integers(0, 5, 40), rng.random(40) < 0.3
    pairs = [(a > b) + 0.5 * (a == b) for a in score[failed] for b in score[~failed]]
    assert auroc(score, failed) == pytest.approx([np.mean(pairs)])
    assert np.isnan(auroc(score, np.zeros(40, bool)))


def test_partial_correlation_is_that_of_what_a_regression_leaves():
    rng = np.random.default_rng(1)
    z = rng.normal(size=200)
    x, y = z + rng.normal(size=200), z + rng.normal(size=200)
    ranks = [stats.rankdata(v) for v in (x, y, z)]
    left = [v - np.polyval(np.polyfit(ranks[2], v, 1), ranks[2]) for v in ranks[:2]]
    assert partial_spearman(x, y, z) == pytest.approx([np.corrcoef(*left)[0, 1]])
    assert spearman(x, y) == pytest.approx([stats.spearmanr(x, y).statistic])
    assert abs(partial_spearman(x, y, z)) < 0.15 < spearman(x, y)
    assert np.isnan(partial_spearman(x, y, x)) and np.isnan(spearman(x, np.ones(200)))


def test_weights_equal_repeated_entries():
    rng = np.random.default_rng(3)
    x, y, z = rng.integers(0, 6, 30), rng.integers(0, 6, 30), rng.normal(size=30)
    failed, copies = rng.random(30) < 0.4, rng.integers(0, 4, (5, 30)).astype(float)
    for drawing, correlation, partial, area in zip(
        copies,
        spearman(x, y, copies),
        partial_spearman(x, y, z, copies),
        auroc(x, failed, copies),
        strict=True,
    ):
        a, b, c, f = (np.repeat(v, drawing.astype(int)) for v in (x, y, z, failed))
        assert correlation == pytest.approx(stats.spearmanr(a, b).statistic)
        assert partial == pytest.approx(partial_spearman(a, b, c)[0])
        assert area == pytest.approx(stats.mannwhitneyu(a[f], a[~f]).statistic / (f.sum() * (~f).sum()))


def test_the_worst_quarter():
    assert worst(np.arange(8.0)).tolist() == [False] * 6 + [True] * 2


def test_intervals_resample_images_and_not_regions():
    def average(x, copies=1.0):
        copies = copies * np.ones((1, 500))
        return (copies * x).sum(axis=1) / copies.sum(axis=1)

    rng = np.random.default_rng(2)
    of_images = rng.normal(size=10)
    columns = (np.repeat(of_images, 50) + 0.01 * rng.normal(size=500),)
    images = [str(i) for i in range(10) for _ in range(50)]
    found = over_images(average, columns, images)
    wide = found.high - found.low
    assert wide == pytest.approx(2 * 1.96 * of_images.std() / 10**0.5, rel=0.25)


def test_tiles_are_the_whole_squares_row_by_row():
    image = np.arange(7 * 9).reshape(7, 9)
    found = tiles(image, 3)
    assert found.shape == (6, 3, 3)
    assert np.array_equal(found[4], image[3:6, 3:6])
    assert means(image, 3)[4] == image[3:6, 3:6].mean()
