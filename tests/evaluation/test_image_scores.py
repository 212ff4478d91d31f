"""Evaluation against numpy, on whole images of several sizes."""

import csv
import json

import numpy as np
import pytest

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.evaluation.image_scores import ESTIMATORS, Scoring, score_images
from ddpm_lightning.evaluation.restored_pair import raw_on_target_scale
from ddpm_lightning.evaluation.summary import finite, summarise
from ddpm_lightning.evaluation.tables import read_rows, summary_markdown, write_rows
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.collection import SAMPLE_METRICS
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint

SIZES = [(40, 48), (40, 48), (36, 61), (180, 180)]


class Noisy:
    def __len__(self):
        return len(SIZES)

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        high = rng.gamma(2, 15, SIZES[index])
        return Pair(rng.poisson(high / 3), rng.poisson(high), f"{index:05d}", f"field{index // 2}", 0.02)


@pytest.fixture(scope="module")
def restorer(tmp_path_factory):
    return Restorer.load(write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt"), "cpu", tile=None)


@pytest.fixture(scope="module")
def scores(restorer):
    return list(score_images(restorer, Noisy(), Scoring("range", samples=3), range(4)))


@pytest.fixture(scope="module")
def rows(scores):
    return [row for found in scores for row in found.rows]


def test_every_image_has_a_row_for_each_estimator(rows):
    assert [(row.image, row.estimator) for row in rows] == [
        (f"{k:05d}", e) for k in range(4) for e in ESTIMATORS
    ]
    assert [row.field for row in rows[::3]] == ["field0", "field0", "field1", "field1"]


def test_numbers_equal_numpy(restorer, rows, scores):
    for index in range(4):
        pair = Noisy()[index]
        samples = np.stack(list(restorer.samples(pair.low, 3, pair.name)))
        versions = {
            "raw": raw_on_target_scale(restorer, pair),
            "single": samples[0],
            "average": samples.mean(0),
        }
        reach = pair.high.max() - pair.high.min()
        for row in rows[3 * index : 3 * index + 3]:
            error = versions[row.estimator].astype(float) - pair.high
            assert row.values["psnr"] == pytest.approx(10 * np.log10(reach**2 / (error**2).mean()), abs=1e-3)
            assert row.values["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-4)
            assert row.values["nrmse"] == pytest.approx(np.sqrt((error**2).mean()) / reach, rel=1e-4)
            correlation = np.corrcoef(versions[row.estimator].ravel(), pair.high.ravel())[0, 1]
            assert row.values["pearson"] == pytest.approx(correlation, abs=1e-4)
            assert row.facts["protocol"] == "range"
        two = 10 * np.log10(reach**2 / ((samples[:2].astype(float).mean(0) - pair.high) ** 2).mean())
        assert scores[index].against_number[2]["psnr"] == pytest.approx(two, abs=1e-3)
        assert scores[index].against_number[3]["psnr"] == rows[3 * index + 2].values["psnr"]


def test_what_cannot_be_had_is_absent_with_its_reason(rows):
    for row in rows:
        assert ("ms_ssim" in row.values) == (row.image == "00003")
        assert "lpips" not in row.values and "backbone" in row.absent["lpips"]
    assert "176" in rows[0].absent["ms_ssim"]


def test_what_the_normalisation_was_not_fitted_on_is_counted(restorer, scores):
    class Bright(Noisy):
        def __getitem__(self, index):
            pair = super().__getitem__(index)
            low = np.zeros(pair.low.shape)
            low.flat[: low.size // 4] = 101  # it was fitted on 0 to 100
            return Pair(low, pair.high, pair.name, "", None)

    bright = next(score_images(restorer, Bright(), Scoring("range", samples=1), range(1)))
    assert bright.out_of_range == 0.25 and scores[0].out_of_range == 0


def test_the_summary_is_median_and_mean_over_images(rows):
    summary = summarise(rows)
    for estimator in ESTIMATORS:
        values = [row.values["psnr"] for row in rows if row.estimator == estimator]
        found = summary[estimator]["psnr"]
        assert (found["median"], found["mean"]) == (np.median(values), pytest.approx(np.mean(values)))
        assert (found["images"], found["fields"]) == (4, 2)
        assert found["mean_interval"][0] <= found["mean"] <= found["mean_interval"][1]
        assert summary[estimator]["ms_ssim"]["images"] == 1
        assert summary[estimator]["ms_ssim"]["median_interval"] is None
        assert summary[estimator]["ms_ssim"]["no_interval"] == "one image only"
        assert summary[estimator]["lpips"] is None and "backbone" in summary[estimator]["absent"]["lpips"]
    assert json.dumps(finite(summary), allow_nan=False)


def test_files_hold_the_rows_and_give_them_back(rows, tmp_path):
    path = tmp_path / "metrics.csv"
    write_rows(rows, path)
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 12 and [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    for row, line in zip(rows, table, strict=True):
        assert (line["image"], line["field"], line["estimator"]) == (row.image, row.field, row.estimator)
        assert line["protocol"] == "range" and line["lpips"] == "" and "lpips: no backbone" in line["absent"]
        assert float(line["psnr"]) == row.values["psnr"]
    for row, back in zip(rows, read_rows(path), strict=True):
        assert (back.values, back.absent) == (row.values, row.absent)
        assert float(back.facts["data_range"]) == row.facts["data_range"]


def test_a_table_that_was_cut_off_is_refused(rows, tmp_path):
    path = tmp_path / "metrics.csv"
    write_rows(rows, path)
    text = path.read_bytes()
    lines = text.splitlines(keepends=True)
    for part, word in (
        (text[: len(text) * 2 // 3], "cut off"),
        (text[:-1].rstrip(b"\r"), "cut off"),
        (b"".join(lines[:-1]), "estimators raw, single"),
        (lines[0], "no images"),
        (b"", "columns none"),
        (b"a,b\n1,2\n", "columns a, b"),
        (text.replace(b",range,", b",paper,", 1), "mixes the protocols"),
        (b"II*\0\xff\xfe", "a binary file"),
    ):
        path.write_bytes(part)
        with pytest.raises(UserError, match=word):
            read_rows(path)
    with pytest.raises(UserError, match="no such file"):
        read_rows(tmp_path / "none.csv")


class Troubled(Noisy):
    """The second image cannot be read, the third holds NaN, the target of the fourth is constant."""

    def __getitem__(self, index):
        pair = super().__getitem__(index)
        if index == 1:
            raise UserError("00001.tif", "is truncated")
        if index == 2:
            return Pair(np.where(pair.low > 10, np.nan, pair.low), pair.high, pair.name, "", None)
        return Pair(pair.low, np.full_like(pair.high, 7), "flat", "", None) if index == 3 else pair


def test_bad_images_do_not_end_the_evaluation_of_the_others(restorer):
    found = list(score_images(restorer, Troubled(), Scoring("range", samples=2), range(4)))
    assert [image.index for image in found] == [0, 1, 2, 3]
    assert "truncated" in found[1].failed and "NaN" in found[2].failed
    assert not found[0].failed and found[0].rows[2].values["psnr"] > 0
    for image in found[1:3]:
        assert all(not row.values and row.absent["psnr"] == image.failed for row in image.rows)
    assert not found[3].failed and "constant" in found[3].no_uncertainty and found[3].spectra is None
    assert "psnr" in found[3].rows[2].absent and found[3].rows[2].values["mae"] > 0
    summary = summarise([row for image in found for row in image.rows])
    assert summary["average"]["psnr"]["images"] == 1 and summary["average"]["mae"]["images"] == 2


def test_the_page_describes_what_was_measured_and_how(rows):
    page = summary_markdown(
        {
            "data": "blobs",
            "split": "test",
            "images": 4,
            "samples": 3,
            "preset": "ddim with 3 of 200 steps",
            "protocol": "range",
            "truth": "recorded",
            "estimators": summarise(rows),
            "sample_metrics": {"estimators": summarise(rows, SAMPLE_METRICS)},
        }
    )
    for words in (
        "blobs, split test",
        "4 images, 3 samples",
        "`range`",
        "ddim with 3",
        "| average |",
        "lpips: no backbone",
        "| crps ↓ | energy_score ↓ | spread_skill | coverage | rank_divergence ↓ |",
        "truth: recorded",
    ):
        assert words in page


class Alone:
    """One smooth pair, changed by a function."""

    def __init__(self, change):
        y, x = np.mgrid[:48, :40]
        high = 100 + 400 * np.exp(-((y - 20) ** 2 + (x - 20) ** 2) / 100)
        low, high = change(np.random.default_rng(0).poisson(high), high)
        self.pair = Pair(low, high, "alone", "field")

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.pair


@pytest.fixture(scope="module")
def relative(tmp_path_factory):
    path = write_checkpoint(tmp_path_factory.mktemp("relative") / "best.ckpt", per_image=True)
    return Restorer.load(path, "cpu", tile=None)


@pytest.mark.parametrize("protocol", ["range", "affine"])
def test_an_offset_of_both_images_changes_no_number(relative, protocol):
    plain, far = (
        Alone(lambda low, high, by=by: (low - 100 + by, np.rint(high).astype(int) - 100 + by))
        for by in (0, 2 * 10**9)
    )
    assert plain[0].high.min() == 0  # what is subtracted of the other
    ours, theirs = (
        next(score_images(relative, pairs, Scoring(protocol, samples=2, squirrel=True), range(1)))
        for pairs in (far, plain)
    )
    for one, two in zip(ours.rows, theirs.rows, strict=True):
        assert one.values.keys() == two.values.keys() and "psnr" in one.values
        for name, value in one.values.items():
            assert value == pytest.approx(two.values[name], rel=2e-3, abs=2e-3), name
    assert ours.input == pytest.approx(theirs.input, abs=2e-3)


def test_numbers_are_those_of_what_restore_makes_of_hot_pixels(relative):
    def spoilt(low, high):
        low[[9, 30], [10, 12]] = 60000
        return low, high

    pairs = Alone(spoilt)
    found = next(score_images(relative, pairs, Scoring("range", samples=2), range(1)))
    pair = pairs[0]
    restored = relative.restore(pair.low, 2, pair.name)
    assert restored.replaced == 2
    for row, image in zip(found.rows[::2], (pair.low, restored.mean), strict=True):
        assert row.estimator in ("raw", "average")
        if row.estimator == "average":
            error = np.sqrt(((image - pair.high) ** 2).mean()) / np.ptp(pair.high)
            assert row.values["nrmse"] == pytest.approx(error, rel=1e-3)
    # The hot pixels are in the image that somebody has who does nothing.
    assert found.rows[0].values["nrmse"] > 1
    assert found.input["bright"] < 3 and found.out_of_range < 1
