"""Evaluation against numpy, on whole images of several sizes."""

import csv
import json

import numpy as np
import pytest

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.evaluation.run import ESTIMATORS, Scoring, evaluate, raw_on_target_scale, summarise
from ddpm_lightning.evaluation.tables import summary_markdown, write_rows
from ddpm_lightning.inference.restorer import Restorer
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
def rows(restorer):
    return list(evaluate(restorer, Noisy(), Scoring("range", draws=3), range(4)))


def test_every_image_has_a_row_for_each_estimator(rows):
    assert [(row.image, row.estimator) for row in rows] == [
        (f"{k:05d}", e) for k in range(4) for e in ESTIMATORS
    ]
    assert [row.field for row in rows[::3]] == ["field0", "field0", "field1", "field1"]


def test_numbers_equal_numpy(restorer, rows):
    for index in range(4):
        pair = Noisy()[index]
        draws = np.stack(list(restorer.draws(pair.low, 3, pair.name)))
        versions = {
            "raw": raw_on_target_scale(restorer.normalisation, pair),
            "single": draws[0],
            "average": draws.mean(0),
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


def test_what_cannot_be_had_is_absent_with_its_reason(rows):
    for row in rows:
        assert ("ms_ssim" in row.values) == (row.image == "00003")
        assert "lpips" not in row.values and "backbone" in row.absent["lpips"]
    assert "176" in rows[0].absent["ms_ssim"]


def test_the_summary_is_median_and_mean_over_images(rows):
    summary = summarise(rows)
    for estimator in ESTIMATORS:
        values = [row.values["psnr"] for row in rows if row.estimator == estimator]
        assert summary[estimator]["psnr"] == {
            "median": np.median(values),
            "mean": np.mean(values),
            "images": 4,
        }
        assert summary[estimator]["ms_ssim"]["images"] == 1
        assert summary[estimator]["lpips"] is None and "backbone" in summary[estimator]["absent"]["lpips"]
    assert json.dumps(summary)


def test_files_hold_the_rows(rows, tmp_path):
    write_rows(rows, tmp_path / "metrics.csv")
    with (tmp_path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 12 and not (tmp_path / "metrics.csv.part").exists()
    for row, line in zip(rows, table, strict=True):
        assert (line["image"], line["field"], line["estimator"]) == (row.image, row.field, row.estimator)
        assert line["protocol"] == "range" and line["lpips"] == "" and "lpips: no backbone" in line["absent"]
        assert float(line["psnr"]) == row.values["psnr"]


def test_the_page_tells_what_was_measured_and_how(rows):
    page = summary_markdown(
        {
            "data": "blobs",
            "split": "test",
            "images": 4,
            "draws": 3,
            "preset": "ddim with 3 of 200 steps",
            "protocol": "range",
            "estimators": summarise(rows),
        }
    )
    for words in (
        "blobs, split test",
        "4 images, 3 draws",
        "`range`",
        "ddim with 3",
        "| average |",
        "lpips: no backbone",
    ):
        assert words in page
