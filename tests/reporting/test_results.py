"""From the scores of images to summary, page and plots."""

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import image as images

from ddpm_lightning.evaluation.diagnostics import diagnose
from ddpm_lightning.evaluation.distribution_shift import InputReference
from ddpm_lightning.evaluation.split_summary import split_summary
from ddpm_lightning.evaluation.statistics import difference
from ddpm_lightning.evaluation.summary import averaging, calibration, finite
from ddpm_lightning.evaluation.tables import write_tables
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.reporting.evaluation_plots import plot_all
from ddpm_lightning.reporting.sentences import (
    against_raw_in_words,
    averaging_in_words,
    calibration_in_words,
    gain_in_words,
    range_in_words,
    sentences,
)
from ddpm_lightning.reporting.summary_page import summary_page
from ddpm_lightning.reporting.zoom import zoom_in
from tests.evaluation.gaussian import Posterior, gaussian_scores
from tests.trained import a_calibration

ABOUT = {
    "protocol": "range",
    "truth": "recorded",
    "data": "gaussian",
    "split": "test",
    "samples": 15,
    "preset": "exact",
    "nfe": 15,
    "nfe_per_sample": 1,
    "seed": 0,
    "bfloat16": False,
    "align": False,
    "checkpoint": {"file": "best.ckpt", "sha256": 64 * "a", "names": {"model": "exact", "data": "gaussian"}},
    "versions": {"torch": "2"},
}


def summary_of(*arguments):
    summary = split_summary(*arguments)
    return summary | {"in_words": sentences(summary)}


@pytest.fixture(scope="module")
def scores():
    return gaussian_scores(images=9, side=64)


@pytest.fixture(scope="module")
def reference(scores):
    return InputReference({name: [image.input[name] for image in scores] for name in scores[0].input})


@pytest.fixture(scope="module")
def summary(scores, reference):
    conformal = Conformal(factor=1.8, level=0.9, epsilon=0.002, images=20)
    stored = a_calibration(std_factor=1.25, samples=15, images=20, intervals=conformal)
    return summary_of(scores, ABOUT, diagnose(scores, reference), stored)


def test_the_summary_holds_everything_and_is_json(summary, scores):
    content = json.loads(json.dumps(finite(summary), allow_nan=False))
    assert content["images"] == 9 and content["estimators"]["average"]["psnr"]["fields"] == 9
    gain = content["gain"]["psnr"]
    values = [image.rows[2].values["psnr"] - image.rows[1].values["psnr"] for image in scores]
    assert gain["mean"] == pytest.approx(np.mean(values)) and gain["wilcoxon"] == pytest.approx(2 / 2**9)
    assert content["averaging"]["ratio"] == pytest.approx(1, rel=0.05)
    samples = content["sample_metrics"]
    assert (samples["samples"], samples["level"], samples["window"]) == (15, 0.9, 8)
    for name in ("crps", "coverage", "spread_skill", "energy_score", "rank_divergence"):
        assert samples["estimators"]["average"][name] == content["calibration"]["numbers"][name], name
        assert name not in content["estimators"]["average"]
    assert samples["estimators"]["raw"]["coverage"] is None
    assert "standard deviation" in samples["estimators"]["single"]["absent"]["coverage"]
    assert 0.8 < content["conformal"]["coverage"] < 1 and content["conformal"]["split"] == "val"
    # Samples of the posterior itself: without a factor, the map would be sqrt(14 / 16) of the error.
    assert content["std_map"]["ratio"] == pytest.approx(1.25 * (14 / 16) ** 0.5, rel=0.02)
    assert content["std_map"]["factor"] == 1.25 and 0.85 < content["std_map"]["coverage"] < 0.97
    assert [entry["title"] for entry in content["diagnostics"]] == [
        "Fine structure",
        "Disagreement in the wrong places",
        "Inputs like the training images",
    ]


def test_the_page_can_be_read_alone(summary, scores, reference):
    page = summary_page(summary, diagnose(scores, reference), ["averaging.png", "image_000.png"])
    for words in (
        "# exact on gaussian, split test",
        "9 images",
        "Protocol `range`: neither clamped nor rounded",
        "15 of each image: exact",
        "sha256 `aaaaaaaaaaaaaaaa",
        "The average of 15 samples has +2.",
        "over 9 fields of view; significant",
        "More samples would help",
        "43 samples would be within 0.1 dB",
        "close to 1, as for samples from the true posterior",
        "should contain 90% of the target",
        "well calibrated",
        "from 20 images of val",
        "### Fine structure",
        "### Disagreement in the wrong places",
        "### Inputs like the training images",
        "![Image 000](figures/image_000.png)",
        "figures/averaging.png",
        "- lpips: no backbone",
        "`average` by its 15 independent samples",
        "| crps ↓ | 0.",
        "| energy_score ↓ | 0.",
        "| coverage | absent | absent | 0.",
        "| spread_skill | absent | absent | ",
        "| rank_divergence ↓ | absent | absent | ",
        "(raw, single): one image has no standard deviation",
        "- truth: the clean image as it was recorded",
    ):
        assert words in page, words
    assert "figures/frc.png" not in page, "it was not drawn"
    assert "nan" not in page.lower().replace("finance", "")


def test_all_plots(summary, scores, reference, tmp_path):
    pair = Posterior(1, 64)[0]
    zoom = zoom_in("000", pair.low, [pair.low, pair.high], pair.low, abs(pair.high - 100), pair.high, 0.02)
    drawn = plot_all(scores, summary, zoom, reference, tmp_path)
    assert sorted(drawn) == sorted(path.name for path in tmp_path.iterdir())
    assert sorted(drawn) == sorted(
        f"{name}.png"
        for name in ("scores", "spectrum", "frc", "averaging", "calibration", "samples", "inputs")
    )
    for name in drawn:
        content = images.imread(tmp_path / name)
        assert content.shape[0] > 200 and content[..., :3].std() > 0.05, name


def test_one_image_and_one_sample_are_enough(tmp_path):
    scores = gaussian_scores(images=1, samples=1, side=32)
    summary = summary_of(scores, {**ABOUT, "samples": 1}, diagnose(scores, None, "none is here"))
    page = summary_page(summary, diagnose(scores, None, "none is here"), [])
    numbers = summary["sample_metrics"]["estimators"]
    assert "`average` by its only image" in page and numbers["average"]["crps"] == numbers["single"]["crps"]
    assert "at least 2 samples are needed" in numbers["average"]["absent"]["coverage"]
    assert "- intervals: one image only" in page and "Unknown: at least 2 samples are needed" in page
    assert set(plot_all(scores, summary, None, None, tmp_path)) == {"scores.png", "spectrum.png", "frc.png"}
    write_tables(scores, tmp_path)
    assert not (tmp_path / "uncertainty.csv").exists()


def test_inputs_beyond_the_range_of_the_training_are_named(scores):
    assert range_in_words({"a": 0.0, "b": 0.0009}) == "", "a few hot pixels"
    words = range_in_words({"a": 0.0, "b": 0.02, "c": 0.3})
    assert "2 of 3 inputs exceed the range" in words and "30.0% of the pixels (image c)" in words
    hot = [replace(scores[0], out_of_range=0.5), *scores[1:]]
    assert any("1 of 9 inputs exceed" in text for text in summary_of(hot, ABOUT, [])["in_words"])


def test_a_metric_that_loses_by_averaging_is_named(summary, scores):
    assert "Not every metric" not in summary_page(summary, [], [])
    against = {
        **summary["averaging"]["metrics"],
        "lpips": {1: 0.2, 2: 0.12, 15: 0.18},
        "mae": {1: 2, 2: 1, 15: 1.001},
    }
    page = summary_page({**summary, "averaging": {**summary["averaging"], "metrics": against}}, [], [])
    assert "lpips is best at 2. Averaging blurs" in page


def test_units_and_meanings_are_in_the_tables(summary):
    estimators = {"average": {**summary["estimators"]["average"]}}
    numbers = {"median": 1.5, "mean": 2.0, "median_interval": (1.0, 2.0)}
    estimators["average"] |= {"resolution": numbers, "resolution_frc": numbers, "slope": numbers}
    page = summary_page(
        {**summary, "estimators": estimators, "resolution_unit": "nm", "center_crop": 128}, [], []
    )
    assert (
        "| psnr (dB) ↑ |" in page
        and "| resolution (nm) |" in page
        and "of each the central 128 x 128 pixels" in page
    )
    assert "| resolution_frc (nm) ↓ | 1.5 [1, 2] | finest period at which" in page
    assert "| slope | 1.5 [1, 2] | gain against the target; ideal 1 |" in page


def test_images_that_failed_are_listed(scores):
    failed = replace(scores[8], rows=[replace(r, values={}) for r in scores[8].rows], failed="is truncated")
    failed = replace(failed, uncertainty=None, spectra=None, input={}, against_number={})
    some = [*scores[:8], failed]
    summary = summary_of(some, ABOUT, diagnose(some, None))
    page = summary_page(summary, diagnose(some, None), [])
    assert summary["failed"] == {"008": "is truncated"} and summary["averaging"]["ratio"] > 0
    assert "**Images that could not be scored: 1**" in page and "- image 008: is truncated" in page


def test_the_zoom_finds_where_samples_disagree():
    std = np.zeros((200, 150))
    std[150:165, 20:35] = 1
    target = np.random.default_rng(0).normal(size=std.shape)
    zoom = zoom_in("a", target, [target], target, std, target)
    assert zoom.corner == (125, 0) and zoom.versions["std"].shape == (64, 64)
    assert zoom.versions["std"].sum() == std.sum() and zoom.mean_std == pytest.approx(1 / np.ptp(target))
    tiny = zoom_in("a", target[:40, :30], [], target[:40, :30], std[:40, :30], target[:40, :30])
    assert tiny.versions["std"].shape == (40, 30)


def test_words_of_averaging(scores):
    enough = averaging(gaussian_scores(images=2, side=48, width=0.3))
    assert "15 samples are enough" in averaging_in_words(enough) and "more similar" in averaging_in_words(
        enough
    )
    wide = averaging(gaussian_scores(images=2, side=48, width=2.0))
    assert "More samples would help" in averaging_in_words(wide) and "vary more" in averaging_in_words(wide)
    assert averaging_in_words(None) == ""


def test_words_of_calibration_and_gain():
    narrow, wide = (calibration(gaussian_scores(images=2, side=48, width=width)) for width in (0.5, 2.0))
    assert "too narrow" in calibration_in_words(narrow) and "too wide" in calibration_in_words(wide)
    assert "calibrate=true" in calibration_in_words(narrow)
    assert calibration_in_words(None) == "" and gain_in_words(None, 15) == ""
    equal = difference([1.0, 2.0, 3.0], [1.0, 2.5, 2.5], ["a", "b", "c"])
    assert "not significant" in gain_in_words(equal, 15)
    assert "no interval" in gain_in_words(difference([1.0], [0.5], ["a"]), 15)


def test_a_restoration_that_is_worse_than_its_input_is_called_so():
    better, worse = (difference([value, value + 1], [20.0, 20.5], ["a", "b"]) for value in (22.0, 17.0))
    assert against_raw_in_words(better, 15).startswith("The average of 15 samples has +2.25 dB")
    assert "worse than its input" in against_raw_in_words(worse, 1) and "-2.75 dB" in against_raw_in_words(
        worse, 1
    )
    assert against_raw_in_words(None, 1) == ""
    scored = gaussian_scores(images=2, side=48)
    # The low image is given the numbers of a nearly perfect one.
    for found in scored:
        found.rows[0].values["psnr"] = 99.0
    words = summary_of(scored, ABOUT, [])["in_words"]
    assert "worse than its input" in words[0] and not any(
        "are enough" in line or "would help" in line for line in words
    )
