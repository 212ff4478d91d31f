"""Metrics of samples in the rows of an evaluation, against formulas written out, and against a known truth."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import entropy
from scipy.stats import t as student

from ddpm_lightning.data.center_crop import CenterCrops
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.evaluation.clean_targets import CleanTargets
from ddpm_lightning.evaluation.evaluate import evaluate
from ddpm_lightning.evaluation.image_scores import Scoring, score_images
from ddpm_lightning.evaluation.settings import EvaluateSettings
from ddpm_lightning.metrics.collection import SAMPLE_METRICS
from ddpm_lightning.utils.errors import UserError
from tests.evaluation.gaussian import SIGMA, GaussianRestorer, Posterior, gaussian_scores
from tests.trained import write_checkpoint


def written_out(samples, target):
    """The metrics by their definitions, with loops over samples; ``samples`` (N, H, W)."""
    number = len(samples)
    crps = np.mean([abs(s - target) for s in samples])
    crps -= sum(abs(one - two).mean() for one in samples for two in samples) / (2 * number * (number - 1))

    def norms(image):
        rows, columns = (side // 8 for side in image.shape)
        squares = image[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8) ** 2
        return np.sqrt(squares.mean(axis=(1, 3))).mean()

    energy = np.mean([norms(s - target) for s in samples])
    energy -= sum(norms(one - two) for one in samples for two in samples) / (2 * number * (number - 1))
    mean, variance = samples.mean(axis=0), samples.var(axis=0, ddof=1) * (number + 1) / number
    half = student.ppf(0.95, number - 1) * np.sqrt(variance)
    ranks = np.bincount((samples < target).sum(axis=0).ravel(), minlength=number + 1) / target.size
    return {
        "crps": crps / np.ptp(target),
        "energy_score": energy / np.ptp(target),
        "spread_skill": np.sqrt(variance.mean() / ((mean - target) ** 2).mean()),
        "coverage": (abs(mean - target) <= half).mean(),
        "rank_divergence": entropy(ranks, np.full(number + 1, 1 / (number + 1))),
    }


@pytest.mark.parametrize("antithetic", [False, True])
def test_the_rows_have_the_numbers_of_the_definitions(antithetic):
    restorer, source = (
        GaussianRestorer(width=0.7, antithetic=antithetic, gain=0.8, offset=5.0),
        Posterior(1, 44),
    )
    scoring = Scoring("affine", samples=6, also=("range",))
    (scores,) = score_images(restorer, source, scoring, [0])
    pair = source[0]
    samples = np.stack(list(restorer.samples(pair.low, 6, pair.name))).astype(np.float64)
    target = pair.high.astype(np.float64)
    for protocol, rows in (("affine", scores.rows), ("range", scores.also["range"])):
        for row, image in zip(rows, (pair.low, samples[0], samples.mean(axis=0)), strict=True):
            gain, offset = np.polyfit(image.ravel(), target.ravel(), 1) if protocol == "affine" else (1, 0)
            if row.estimator == "average":
                independent = samples[::2] if antithetic else samples
                expected = written_out(gain * independent + offset, target)
                assert not row.absent.keys() & set(SAMPLE_METRICS)
            else:
                error = gain * image.astype(np.float64) + offset - target
                squares = error[:40, :40].reshape(5, 8, 5, 8) ** 2
                expected = {
                    "crps": abs(error).mean() / np.ptp(target),
                    "energy_score": np.sqrt(squares.mean(axis=(1, 3))).mean() / np.ptp(target),
                }
                assert row.values["crps"] * np.ptp(target) == pytest.approx(row.values["mae"], rel=1e-4)
                assert "standard deviation" in row.absent["coverage"]
            found = {name: row.values[name] for name in SAMPLE_METRICS if name in row.values}
            assert found == pytest.approx(expected, rel=1e-3), (protocol, row.estimator)


def test_samples_of_the_posterior_have_the_closed_form():
    for image in gaussian_scores(images=2, samples=15, side=160):
        raw, single, average = (row.values for row in image.rows)
        unit = SIGMA / np.sqrt(np.pi) / image.rows[0].facts["data_range"]
        assert average["crps"] == pytest.approx(unit, rel=0.02)
        assert single["crps"] == pytest.approx(2 * unit, rel=0.02)
        assert raw["crps"] == pytest.approx(np.sqrt(2) * unit, rel=0.02)
        assert average["coverage"] == pytest.approx(0.9, abs=0.01)
        assert average["spread_skill"] == pytest.approx(1, abs=0.02)
        assert average["rank_divergence"] < 0.002


@pytest.mark.parametrize(("samples", "antithetic"), [(1, False), (2, True)])
def test_without_two_independent_samples_the_average_is_scored_as_an_image(samples, antithetic):
    (image,) = gaussian_scores(images=1, samples=samples, side=40, antithetic=antithetic)
    average = image.rows[2]
    assert average.values["crps"] * image.rows[0].facts["data_range"] == pytest.approx(average.values["mae"])
    assert average.absent["coverage"] == image.no_uncertainty != ""


def test_a_constant_target_has_no_unit():
    class Flat(Posterior):
        def __getitem__(self, index):
            pair = super().__getitem__(index)
            return replace(pair, high=np.full_like(pair.high, 7))

    (image,) = score_images(GaussianRestorer(), Flat(1, 40), Scoring(samples=3), [0])
    for row in image.rows:
        assert not row.values.keys() & set(SAMPLE_METRICS) and "constant" in row.absent["crps"]


def test_clean_targets_are_those_of_the_simulation():
    source = SimulatedPairs("microtubules", "test", 2, 64)
    clean = CenterCrops(CleanTargets(source), 32)
    assert len(clean) == 2
    np.testing.assert_array_equal(clean[1].high, source[1].extra["emitters"][16:48, 16:48])
    np.testing.assert_array_equal(clean[1].low, source[1].low[16:48, 16:48])
    with pytest.raises(UserError) as caught:
        CleanTargets([Pair(np.zeros((4, 4)), np.zeros((4, 4)), "0", "0")])
    assert caught.value.subject == "truth=clean" and caught.value.remedy


def test_evaluate_says_which_truth_it_used(tmp_path):
    few = ["data=simulated_microtubules", "data.counts.test=2", "data.size=64", "data.cache=null"]
    model = write_checkpoint(tmp_path / "best.ckpt", *few)
    found = {
        truth: evaluate(model, settings=EvaluateSettings(truth=truth, samples=2, tta=False, spectra=False))
        for truth in ("recorded", "clean")
    }
    for truth, evaluation in found.items():
        assert evaluation.summary["truth"] == truth
        assert all(row.facts["truth"] == truth for image in evaluation.scores for row in image.rows)
    one, other = (evaluation.scores[0].rows[2].values["mae"] for evaluation in found.values())
    assert one != other
    for settings, subject in (
        ({"protocol": "paper"}, "truth=clean"),
        ({"also": ["paper"]}, "truth=clean"),
        ({"split": "val"}, "truth=clean"),
    ):
        with pytest.raises(UserError) as caught:
            evaluate(model, settings=EvaluateSettings(truth="clean", samples=2, **settings))
        assert caught.value.subject == subject
